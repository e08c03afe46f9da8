//! Taking a token apart before anything in it is believed.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::claims::short;
use super::{LONGEST, TokenError};

/// What a token says of itself: enough to choose the key by. Nothing of it is believed.
#[derive(Debug)]
pub(crate) struct Unverified {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
    pub(crate) issuer: String,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// What a reader must understand besides (RFC 7515, 4.1.11). This one understands none of it.
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Origin {
    iss: String,
}

impl Unverified {
    /// Reads a token's header and issuer.
    pub(crate) fn read(token: &str) -> Result<Self, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::TooLong {
                length: token.len(),
                longest: LONGEST,
            });
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, _] = parts.as_slice() else {
            return Err(TokenError::Malformed("it is not three parts"));
        };
        let Head { alg, kid, crit } = part(header, "its header can't be read")?;
        let algorithm = match alg.as_str() {
            "ES256" => Algorithm::ES256,
            "RS256" => Algorithm::RS256,
            _ => return Err(TokenError::Algorithm(short(&alg))),
        };
        if crit.is_some() {
            return Err(TokenError::Malformed(
                "it wants extensions that are not known here",
            ));
        }
        let Origin { iss } = part(claims, "its claims can't be read")?;
        Ok(Self {
            algorithm,
            kid,
            issuer: iss,
        })
    }
}

fn part<T: DeserializeOwned>(text: &str, wrong: &'static str) -> Result<T, TokenError> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text);
    let bytes = bytes.map_err(|_| TokenError::Malformed(wrong))?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed(wrong))
}

/// The claims of a token that this key has signed in this way.
pub(crate) fn verify_signature<C: DeserializeOwned>(
    token: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
) -> Result<C, TokenError> {
    let mut validation = Validation::new(algorithm);
    // Who it is for and when is asked of the claims, by us.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    match jsonwebtoken::decode(token, key, &validation) {
        Ok(data) => Ok(data.claims),
        Err(error) => Err(match error.kind() {
            ErrorKind::InvalidSignature | ErrorKind::Crypto(_) => TokenError::Signature,
            ErrorKind::InvalidAlgorithm => TokenError::Algorithm(format!("{algorithm:?}")),
            ErrorKind::Json(_) => TokenError::Malformed("its claims are not those of a token"),
            _ => TokenError::Malformed("it can't be read"),
        }),
    }
}
