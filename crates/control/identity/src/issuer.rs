//! An OpenID Connect issuer that is trusted besides our own tokens.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An issuer whose tokens are taken, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustedIssuer {
    /// Its URL (https), exactly as it stands in its tokens' `iss`. Its keys are found through
    /// `/.well-known/openid-configuration` under it.
    pub issuer: String,
    /// Who its tokens must be for (`aud`).
    pub audience: String,
    /// The claim with roles, if its tokens have one: a text or a list of texts, each `reader`, `contributor` or `owner` (on the
    /// whole subscription), or one of these with a scope behind a colon. Others are left alone. Besides, roles can be assigned to
    /// its principals as to any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles_claim: Option<String>,
    /// A file with the authorities (PEM) that its TLS certificate must be signed by; without it, the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<PathBuf>,
}
