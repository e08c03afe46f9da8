//! The document with its keys unpacked: what questions are answered by.

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::EncodingKey;
use rustls::sign::CertifiedKey;

use crate::document::Document;
use crate::error::IdentityError;
use crate::issuer::{ExternalIssuer, TrustedIssuer};
use crate::serving::certified_key;
use crate::storage::Version;

/// A document that was found usable.
pub(crate) struct State {
    pub(crate) document: Document,
    /// What it is kept as; none while it is not kept yet.
    pub(crate) version: Option<Version>,
    pub(crate) signer: EncodingKey,
    pub(crate) certificate: Arc<CertifiedKey>,
    pub(crate) issuer: Option<Arc<ExternalIssuer>>,
}

impl State {
    /// Unpacks a document. `set` is the issuer that the settings name, which goes before the document's; the keys that `last` has
    /// of it are kept.
    pub(crate) fn of(
        document: Document,
        set: Option<&TrustedIssuer>,
        last: Option<&Self>,
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        let issuer = match set.or(document.issuer.as_ref()) {
            None => None,
            Some(wanted) => {
                let last = last.and_then(|last| last.issuer.clone());
                Some(match last.filter(|last| last.trusted() == wanted) {
                    Some(last) => last,
                    None => Arc::new(ExternalIssuer::new(wanted.clone())?),
                })
            }
        };
        Ok(Self {
            signer: document.signing.signer()?,
            certificate: Arc::new(certified_key(&document, now)?),
            issuer,
            version: None,
            document,
        })
    }
}
