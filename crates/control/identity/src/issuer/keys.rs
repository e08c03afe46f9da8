//! The keys of an issuer.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// RSA keys of fewer bytes are not taken: 2048 bits are the least that anybody should use.
const SHORTEST_MODULUS: usize = 256;

/// A key that tokens are verified with, in one way only.
#[derive(Clone)]
pub(super) struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// The keys that can be used here.
#[derive(Clone)]
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a JSON Web Key Set. Keys of kinds that are not known here are left out, as RFC 7517 asks for.
    pub(super) fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(json)?;
        let keys = set.keys.into_iter();
        let keys = keys.filter_map(|key| serde_json::from_value(key).ok());
        Ok(Self(keys.filter_map(|key| Key::of(&key)).collect()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key with an id. A token without an id can only mean the one key that there is.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Key> {
        let mut fitting = self.0.iter().filter(|key| key.algorithm == algorithm);
        match kid {
            Some(kid) => fitting.find(|key| key.kid.as_deref() == Some(kid)).cloned(),
            None => match (fitting.next(), fitting.next()) {
                (Some(only), None) => Some(only.clone()),
                _ => None,
            },
        }
    }
}

impl Key {
    fn of(key: &Jwk) -> Option<Self> {
        let is_for_signatures = match &key.common.public_key_use {
            None | Some(PublicKeyUse::Signature) => true,
            Some(_) => false,
        };
        let algorithm = match &key.algorithm {
            AlgorithmParameters::RSA(rsa) => {
                // Three bytes are four letters.
                let bytes = rsa.n.trim_end_matches('=').len() * 3 / 4;
                (bytes >= SHORTEST_MODULUS).then_some((Algorithm::RS256, KeyAlgorithm::RS256))
            }
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
                Some((Algorithm::ES256, KeyAlgorithm::ES256))
            }
            _ => None,
        };
        let (algorithm, stated) = algorithm?;
        let is_ours = key
            .common
            .key_algorithm
            .is_none_or(|wanted| wanted == stated);
        if !is_for_signatures || !is_ours {
            return None;
        }
        Some(Self {
            kid: key.common.key_id.clone(),
            algorithm,
            decoding: DecodingKey::from_jwk(key).ok()?,
        })
    }
}

#[cfg(test)]
mod tests;
