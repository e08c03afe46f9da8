//! Who sends a token, and what he may do.

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::Algorithm;

use super::Identity;
use crate::access::{Denied, Reach, decide};
use crate::issuer::ExternalIssuer;
use crate::principal::{Principal, PrincipalKind};
use crate::role::Action;
use crate::seen::{Fingerprint, Signed};
use crate::state::State;
use crate::token::{Claims, LONGEST, TokenError, Unverified, short, verify_signature};

impl Identity {
    /// Whose token it is, if it is good now: one of ours (ES256, by a key that we have, for our audience, of our tenant, in its
    /// time, for a principal that is still there and whose secret is still the same), or one of the trusted issuer.
    ///
    /// # Errors
    /// What is wrong with the token; each reason has a variant of its own.
    pub async fn verify(&self, bearer: &str) -> Result<Principal, TokenError> {
        if bearer.len() > LONGEST {
            return Err(TokenError::TooLong {
                length: bearer.len(),
                longest: LONGEST,
            });
        }
        self.refresh_now_and_then().await;
        let state = self.state();
        let fingerprint = Fingerprint::of(bearer);
        let signed = if let Some(signed) = self.0.seen.get(fingerprint) {
            signed
        } else {
            let signed = Arc::new(state.signed(bearer).await?);
            self.0.seen.put(fingerprint, Arc::clone(&signed));
            signed
        };
        state.principal(&signed, Timestamp::now()).await
    }

    /// Whether a principal may do something at a path (without the query), and how far.
    ///
    /// # Errors
    /// When none of its roles allows it there, with ARM's code and sentence.
    pub async fn authorize(
        &self,
        principal: &Principal,
        action: Action,
        path: &str,
    ) -> Result<Reach, Denied> {
        self.refresh_now_and_then().await;
        let state = self.state();
        let assigned = state.document.assignments.iter();
        let assigned = assigned.filter(|assigned| assigned.principal == principal.id);
        let assigned = assigned.map(|assigned| (assigned.role, &assigned.scope));
        // Only another issuer's tokens bring roles along, and only while it is trusted.
        let brings = principal.kind == PrincipalKind::External && state.issuer.is_some();
        let brought = principal.grants.iter().filter(|_| brings);
        let brought = brought.map(|grant| (grant.role, &grant.scope));
        decide(&assigned.chain(brought), principal, action, path)
    }
}

impl State {
    /// What a token says, if its signature is good.
    async fn signed(&self, token: &str) -> Result<Signed, TokenError> {
        let unverified = Unverified::read(token)?;
        if let Some(issuer) = self.issuer_named(&unverified.issuer) {
            let claims = issuer.verify_signature(token, &unverified).await?;
            return Ok(Signed::ByIssuer {
                kid: unverified.kid,
                algorithm: unverified.algorithm,
                claims,
            });
        }
        if unverified.algorithm != Algorithm::ES256 {
            let algorithm = format!("{:?}", unverified.algorithm);
            return Err(TokenError::Algorithm(algorithm));
        }
        let kid = unverified.kid.ok_or(TokenError::UnknownKey)?;
        let key = self.document.signing.verifier(&kid, Timestamp::now());
        let key = key.ok_or(TokenError::UnknownKey)?;
        let claims: Claims = verify_signature(token, &key, Algorithm::ES256)?;
        Ok(Signed::ByUs { kid, claims })
    }

    /// Who it is, if all that may have changed since the signature was looked at is still so.
    pub(super) async fn principal(
        &self,
        signed: &Signed,
        now: Timestamp,
    ) -> Result<Principal, TokenError> {
        match signed {
            Signed::ByUs { kid, claims } => self.principal_of_ours(kid, claims, now),
            Signed::ByIssuer {
                kid,
                algorithm,
                claims,
            } => {
                let issuer = self.issuer_named(&claims.iss);
                let issuer = issuer.ok_or_else(|| TokenError::Issuer(short(&claims.iss)))?;
                issuer.still_has(kid.as_deref(), *algorithm).await?;
                issuer.principal(claims, self.document.subscription, now)
            }
        }
    }

    fn principal_of_ours(
        &self,
        kid: &str,
        claims: &Claims,
        now: Timestamp,
    ) -> Result<Principal, TokenError> {
        if !self.document.signing.knows(kid, now) {
            return Err(TokenError::UnknownKey);
        }
        claims.check(self.document.tenant, now)?;
        let known = self.document.known(claims.oid);
        let known = known.ok_or(TokenError::UnknownPrincipal)?;
        if known.credential != claims.credential {
            return Err(TokenError::Revoked);
        }
        Ok(known.principal)
    }

    fn issuer_named(&self, issuer: &str) -> Option<&Arc<ExternalIssuer>> {
        let trusted = self.issuer.as_ref()?;
        (trusted.trusted().issuer == issuer).then_some(trusted)
    }
}
