//! An OpenID Connect issuer that is trusted besides our own tokens.
//!
//! Its keys are found through its discovery document and kept. They are fetched anew every ten minutes behind the requests' back,
//! and at once when a token names a key that isn't there, but then at most every ten seconds: neither an issuer that is away nor
//! somebody who makes up key ids holds up requests.

mod claims;
mod fetch;
mod keys;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::IdentityError;
use crate::principal::Principal;
use crate::token::{TokenError, Unverified, verify_signature};
pub(crate) use claims::ExternalClaims;
use keys::{Key, KeySet};

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
    /// whole subscription), or one of these with a scope behind a colon. Others are left alone. The members of claims within claims
    /// are separated by dots. Besides, roles can be assigned to its principals as to any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles_claim: Option<String>,
    /// A file with the authorities (PEM) that its TLS certificate must be signed by; without it, the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<PathBuf>,
}

impl TrustedIssuer {
    /// Whether it can be trusted at all.
    ///
    /// # Errors
    /// When its URL is not an https one, or its audience is empty.
    pub fn check(&self) -> Result<(), IdentityError> {
        let refused = |reason: &str| IdentityError::Issuer {
            issuer: self.issuer.clone(),
            reason: reason.to_owned(),
        };
        let url: Uri = self.issuer.parse().map_err(|_| refused("that is no URL"))?;
        if url.scheme_str() != Some("https") || url.host().is_none_or(str::is_empty) {
            return Err(refused(
                "its keys must come over TLS: give a URL that begins with https://",
            ));
        }
        if url.query().is_some() {
            return Err(refused("its URL must have no query"));
        }
        if self.audience.is_empty() {
            return Err(refused("say which audience its tokens are for"));
        }
        Ok(())
    }

    /// The id that somebody of this issuer has here.
    #[must_use]
    pub fn principal_id(&self, subject: &str) -> crate::PrincipalId {
        let issuer = Uuid::new_v5(&Uuid::NAMESPACE_URL, self.issuer.as_bytes());
        crate::PrincipalId(Uuid::new_v5(&issuer, subject.as_bytes()))
    }
}

/// How often keys are fetched.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Older ones are fetched anew behind the requests' back.
    fresh: Duration,
    /// Older ones are used no more.
    good: Duration,
    /// How soon after a fetch the next one may begin.
    pause: Duration,
}

const PACE: Pace = Pace {
    fresh: Duration::from_mins(10),
    good: Duration::from_hours(6),
    pause: Duration::from_secs(10),
};

/// The issuer with the keys that are known of it.
pub(crate) struct ExternalIssuer {
    trusted: TrustedIssuer,
    pace: Pace,
    known: Mutex<Known>,
    /// Held by whoever fetches.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: Option<(Arc<KeySet>, Instant)>,
    /// When the last fetch began, and what went wrong with it.
    tried: Option<(Instant, Option<String>)>,
}

impl ExternalIssuer {
    pub(crate) fn new(trusted: TrustedIssuer) -> Result<Self, IdentityError> {
        trusted.check()?;
        Ok(Self {
            trusted,
            pace: PACE,
            known: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn trusted(&self) -> &TrustedIssuer {
        &self.trusted
    }

    /// The claims of a token whose signature is one of this issuer's.
    pub(crate) async fn verify_signature(
        self: &Arc<Self>,
        token: &str,
        unverified: &Unverified,
    ) -> Result<ExternalClaims, TokenError> {
        let key = self
            .key(unverified.kid.as_deref(), unverified.algorithm)
            .await?;
        verify_signature(token, &key.decoding, unverified.algorithm)
    }

    /// Whether the key that has signed a token is still the issuer's.
    pub(crate) async fn still_has(
        self: &Arc<Self>,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<(), TokenError> {
        self.key(kid, algorithm).await.map(|_| ())
    }

    /// Who the claims are about, if they are good now.
    pub(crate) fn principal(
        &self,
        claims: &ExternalClaims,
        subscription: Uuid,
        now: Timestamp,
    ) -> Result<Principal, TokenError> {
        claims.check(&self.trusted, now)?;
        Ok(claims.principal(&self.trusted, subscription))
    }

    async fn key(
        self: &Arc<Self>,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Key, TokenError> {
        if let Some((keys, age)) = self.good_keys() {
            if age > self.pace.fresh && self.may_try() {
                self.start_to_fetch();
            }
            if let Some(key) = keys.find(kid, algorithm) {
                return Ok(key);
            }
        }
        // A task that has panicked has fetched nothing, which shows below.
        let _ = self.start_to_fetch().await;
        match self.good_keys() {
            Some((keys, _)) => keys.find(kid, algorithm).ok_or(TokenError::UnknownKey),
            None => Err(TokenError::IssuerUnavailable {
                issuer: self.trusted.issuer.clone(),
                reason: self.last_failure(),
            }),
        }
    }

    /// Fetches in a task of its own: a client that goes away takes nothing with it.
    fn start_to_fetch(self: &Arc<Self>) -> tokio::task::JoinHandle<()> {
        let issuer = Arc::clone(self);
        tokio::spawn(async move { issuer.fetch().await })
    }

    /// Fetches the keys, unless somebody did just now. Whoever comes in the meantime waits for the same fetch.
    async fn fetch(&self) {
        if !self.may_try() && self.fetching.try_lock().is_ok() {
            return;
        }
        let _fetching = self.fetching.lock().await;
        if !self.may_try() {
            return;
        }
        self.known().tried = Some((Instant::now(), None));
        let fetched = fetch::keys(&self.trusted).await;
        let mut known = self.known();
        match fetched {
            Ok(keys) => known.keys = Some((Arc::new(keys), Instant::now())),
            Err(error) => {
                tracing::warn!(issuer = self.trusted.issuer, %error, "the keys of the trusted issuer can't be fetched");
                known.tried = Some((Instant::now(), Some(error.to_string())));
            }
        }
    }

    /// The keys with their age, unless they are too old.
    fn good_keys(&self) -> Option<(Arc<KeySet>, Duration)> {
        let known = self.known();
        let (keys, fetched) = known.keys.as_ref()?;
        let age = fetched.elapsed();
        (age < self.pace.good).then(|| (keys.clone(), age))
    }

    fn may_try(&self) -> bool {
        let known = self.known();
        let tried = known.tried.as_ref();
        tried.is_none_or(|(at, _)| at.elapsed() >= self.pace.pause)
    }

    fn last_failure(&self) -> String {
        let known = self.known();
        let failure = known
            .tried
            .as_ref()
            .and_then(|(_, failure)| failure.clone());
        failure.unwrap_or_else(|| "they are being fetched".to_owned())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
