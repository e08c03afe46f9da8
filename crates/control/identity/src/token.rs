//! Tokens: what ours say, how they are made, and how any token is taken apart.
//!
//! Ours are JSON Web Tokens signed with ES256, and nothing else is ever verified with our keys. No library looks at the clock here:
//! what is good *now* is a pure question.

mod claims;
mod read;

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::id::TenantId;
use crate::identity::AUDIENCE;

pub(crate) use claims::{Claims, NewToken, moment, short};
pub(crate) use read::{Unverified, verify_signature};

/// The longest that a token may be good.
pub(crate) const LONGEST_LIFE: SignedDuration = SignedDuration::from_hours(1);

/// The longest token, in bytes: an issuer that puts many groups into its tokens comes to a few KiB.
pub(crate) const LONGEST: usize = 16 * 1024;

/// How far the clocks of two machines may be apart for a token that is good only from now on.
pub(crate) const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// What stands before the tenant in `iss` of its tokens; behind it is a slash.
const ISSUER: &str = "https://sts.migpool.local/";

/// What stands in `iss` of a tenant's tokens.
pub(crate) fn issuer(tenant: TenantId) -> String {
    format!("{ISSUER}{tenant}/")
}

/// Whether this stands in `iss` of the tokens of a tenant with this id.
fn is_issuer(text: &str, tenant: &str) -> bool {
    let id = text
        .strip_prefix(ISSUER)
        .and_then(|text| text.strip_suffix('/'));
    id == Some(tenant)
}

/// Whether a token for this resource may be given: our audience, however clients write it.
pub(crate) fn is_for_us(resource: &str) -> bool {
    let resource = resource.strip_suffix("/.default").unwrap_or(resource);
    let resource = resource.strip_suffix('/').unwrap_or(resource);
    resource == AUDIENCE
}

/// A token that was just made.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// The token. Secret.
    pub access_token: String,
    /// When it stops being good.
    pub expires_on: Timestamp,
    /// From when on it is good.
    pub not_before: Timestamp,
    /// What it was asked for, as it was asked for.
    pub resource: String,
    /// Whose it is: the client id.
    pub client_id: String,
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken")
            .field("expires_on", &self.expires_on)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is longer than any token of ours or of a reasonable issuer.
    #[error("the token is too long: {length} bytes, where {longest} are allowed")]
    TooLong {
        /// Its length, in bytes.
        length: usize,
        /// The longest.
        longest: usize,
    },
    /// It is no signed JSON Web Token.
    #[error("the token is not a signed JSON Web Token: {0}")]
    Malformed(&'static str),
    /// It is signed in a way that is not taken, or not at all.
    #[error("the token is signed with {0:?}, which is not taken here: ask for a new token")]
    Algorithm(String),
    /// Its key is not known, or no longer.
    #[error("the token is signed with a key that is not known here: sign in again")]
    UnknownKey,
    /// Its signature is wrong.
    #[error("the token's signature is wrong: sign in again")]
    Signature,
    /// It was issued by somebody who is not trusted.
    #[error("the token was issued by {0:?}, who is not trusted here: sign in at this server")]
    Issuer(String),
    /// It is for something else.
    #[error("the token is for {0:?}: ask for one for {AUDIENCE:?}", AUDIENCE = crate::identity::AUDIENCE)]
    Audience(String),
    /// It is of another tenant.
    #[error(
        "the token is from tenant {found:?}, and this server's tenant is {tenant}: sign in again"
    )]
    Tenant {
        /// Its tenant.
        found: String,
        /// Ours.
        tenant: crate::TenantId,
    },
    /// It has run out.
    #[error("the token ran out at {0}: sign in again")]
    Expired(Timestamp),
    /// It is not good yet.
    #[error("the token is good only from {0} on: compare the clocks of client and server")]
    NotYetValid(Timestamp),
    /// Its principal was deleted.
    #[error("the token's principal is gone: sign in as another one")]
    UnknownPrincipal,
    /// The secret that it was got with was reset since.
    #[error("the secret that the token was got with was changed since: sign in again")]
    Revoked,
    /// The keys of the trusted issuer can't be had.
    #[error(
        "the keys of issuer {issuer:?} can't be had at the moment ({reason}): try again, or sign in at this server"
    )]
    IssuerUnavailable {
        /// Its URL.
        issuer: String,
        /// What went wrong.
        reason: String,
    },
}

#[cfg(test)]
mod tests;
