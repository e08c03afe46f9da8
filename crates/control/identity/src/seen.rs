//! Tokens whose signature was found good: a client sends the same one with every request, and one signature takes longer to verify
//! than the rest of a request. What can change (the time, the principal, the keys) is asked again each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::Algorithm;
use ring::digest::{SHA256, digest};

use crate::issuer::ExternalClaims;
use crate::token::Claims;

/// How many are remembered.
const MOST: usize = 1024;

/// What a good signature vouches for.
pub(crate) enum Signed {
    /// One of our keys.
    ByUs {
        /// Which.
        kid: String,
        /// What it says.
        claims: Claims,
    },
    /// The trusted issuer's.
    ByIssuer {
        /// Which key.
        kid: Option<String>,
        /// In which way.
        algorithm: Algorithm,
        /// What it says.
        claims: ExternalClaims,
    },
}

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

/// The tokens that were seen.
#[derive(Default)]
pub(crate) struct Seen(Mutex<HashMap<Fingerprint, Arc<Signed>>>);

impl Seen {
    pub(crate) fn get(&self, token: Fingerprint) -> Option<Arc<Signed>> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&token).cloned()
    }

    pub(crate) fn put(&self, token: Fingerprint, signed: Arc<Signed>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // To forget is cheap: each is verified once more. Only who can have tokens signed can fill it.
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert(token, signed);
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_tokens_takes_no_more_room_than_is_set() {
        let seen = Seen::default();
        let signed = Arc::new(Signed::ByIssuer {
            kid: None,
            algorithm: Algorithm::RS256,
            claims: serde_json::from_value(serde_json::json!({
                "iss": "https://issuer", "sub": "s", "aud": "a", "exp": 1,
            }))
            .expect("claims"),
        });
        for number in 0..3 * MOST {
            let token = Fingerprint::of(&number.to_string());
            seen.put(token, Arc::clone(&signed));
            assert!(seen.get(token).is_some());
            assert!(seen.len() <= MOST);
        }
    }
}
