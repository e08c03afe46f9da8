//! What our tokens say.

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{IssuedToken, LEEWAY, TokenError, is_for_us, is_issuer, issuer};
use crate::error::SignInError;
use crate::id::{PrincipalId, TenantId};
use crate::identity::AUDIENCE;

/// The claims of our tokens, named as Microsoft Entra's are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) tid: String,
    pub(crate) oid: PrincipalId,
    pub(crate) sub: PrincipalId,
    pub(crate) appid: PrincipalId,
    pub(crate) idtyp: String,
    pub(crate) iat: i64,
    pub(crate) nbf: i64,
    pub(crate) exp: i64,
    pub(crate) ver: String,
    pub(crate) jti: Uuid,
    /// Which secret in a row of the principal got it.
    pub(crate) credential: u32,
}

/// A token that is about to be made.
pub(crate) struct NewToken<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) principal: PrincipalId,
    pub(crate) credential: u32,
    pub(crate) life: SignedDuration,
    /// As the client wrote it.
    pub(crate) resource: &'a str,
}

impl NewToken<'_> {
    /// Makes it.
    pub(crate) fn sign(
        &self,
        kid: &str,
        key: &EncodingKey,
        now: Timestamp,
    ) -> Result<IssuedToken, SignInError> {
        if !is_for_us(self.resource) {
            return Err(SignInError::UnknownResource(self.resource.to_owned()));
        }
        let failed = |error: &dyn std::fmt::Display| SignInError::Failed(error.to_string());
        // Tokens count whole seconds.
        let not_before = Timestamp::from_second(now.as_second()).map_err(|error| failed(&error))?;
        let expires_on = not_before
            .checked_add(self.life)
            .map_err(|error| failed(&error))?;
        let claims = Claims {
            iss: issuer(self.tenant),
            aud: AUDIENCE.to_owned(),
            tid: self.tenant.to_string(),
            oid: self.principal,
            sub: self.principal,
            appid: self.principal,
            idtyp: "app".to_owned(),
            iat: not_before.as_second(),
            nbf: not_before.as_second(),
            exp: expires_on.as_second(),
            ver: "1.0".to_owned(),
            jti: Uuid::new_v4(),
            credential: self.credential,
        };
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(kid.to_owned());
        let access_token =
            jsonwebtoken::encode(&header, &claims, key).map_err(|error| failed(&error))?;
        Ok(IssuedToken {
            access_token,
            expires_on,
            not_before,
            resource: self.resource.to_owned(),
            client_id: self.principal.to_string(),
        })
    }
}

impl Claims {
    /// Whether they are good now, in this tenant.
    pub(crate) fn check(&self, tenant: TenantId, now: Timestamp) -> Result<(), TokenError> {
        // Written down without an allocation: this is done with every request.
        let mut text = Uuid::encode_buffer();
        let id = &*tenant.0.hyphenated().encode_lower(&mut text);
        if self.tid != id {
            return Err(TokenError::Tenant {
                found: short(&self.tid),
                tenant,
            });
        }
        if !is_issuer(&self.iss, id) {
            return Err(TokenError::Issuer(short(&self.iss)));
        }
        if self.aud != AUDIENCE {
            return Err(TokenError::Audience(short(&self.aud)));
        }
        moment(Some(self.nbf), self.exp, now)
    }
}

/// Whether a token with these times (seconds since 1970) is good now.
pub(crate) fn moment(nbf: Option<i64>, exp: i64, now: Timestamp) -> Result<(), TokenError> {
    let time = |seconds| {
        Timestamp::from_second(seconds)
            .map_err(|_| TokenError::Malformed("its times are out of this world"))
    };
    let expires = time(exp)?;
    if expires <= now {
        return Err(TokenError::Expired(expires));
    }
    if let Some(nbf) = nbf {
        let begins = time(nbf)?;
        if begins > now.saturating_add(LEEWAY).unwrap_or(now) {
            return Err(TokenError::NotYetValid(begins));
        }
    }
    Ok(())
}

/// What somebody sent, short enough for a message.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(200).collect()
}
