//! Secrets of service principals: made here, shown once, kept as salted hashes.
//!
//! A secret is 256 random bits that this module made, never a word that a person thought up, so guessing is hopeless whatever the
//! hash costs. PBKDF2 of the library that does all other cryptography is enough for that; a hash that is hard in memory, such as
//! Argon2id, would add no safety here, but let every unauthenticated sign-in take 19 MiB from a server that lives in 20.

use std::num::NonZeroU32;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use subtle::ConstantTimeEq;

use crate::error::IdentityError;

/// What secrets begin with, so that a scanner finds one in a place where it shouldn't be, and no command line takes one for a flag.
const PREFIX: &str = "migpool_";

/// How often a new hash is turned over.
const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

/// No secret of ours is longer, in bytes.
pub(crate) const LONGEST: usize = 256;

/// Random bytes from the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| IdentityError::Cryptography {
            what: "a random number",
            reason: "the system has none to give".to_owned(),
        })?;
    Ok(bytes)
}

/// A new secret.
pub(crate) fn generate() -> Result<SecretString, IdentityError> {
    let bytes: [u8; 32] = random()?;
    Ok(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)).into())
}

/// Whether two texts are the same, in a time that says nothing about where they differ.
pub(crate) fn same(a: &SecretString, b: &str) -> bool {
    a.expose_secret().as_bytes().ct_eq(b.as_bytes()).into()
}

/// Writes a secret into the document.
pub(crate) fn exposed<S: Serializer>(
    secret: &SecretString,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

/// A salted hash of a secret: PBKDF2 with HMAC-SHA-256.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SecretHash {
    salt: String,
    rounds: NonZeroU32,
    hash: String,
}

impl SecretHash {
    /// The hash of a secret, with a salt of its own. Takes tens of milliseconds.
    pub(crate) fn of(secret: &SecretString) -> Result<Self, IdentityError> {
        let salt: [u8; 16] = random()?;
        let mut hash = [0; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ROUNDS,
            &salt,
            secret.expose_secret().as_bytes(),
            &mut hash,
        );
        Ok(Self {
            salt: BASE64_URL_SAFE_NO_PAD.encode(salt),
            rounds: ROUNDS,
            hash: BASE64_URL_SAFE_NO_PAD.encode(hash),
        })
    }

    /// The hash of no secret: to check it takes as long as to check somebody's.
    pub(crate) fn nobodys() -> Self {
        Self {
            salt: BASE64_URL_SAFE_NO_PAD.encode([0; 16]),
            rounds: ROUNDS,
            hash: BASE64_URL_SAFE_NO_PAD.encode([0; 32]),
        }
    }

    /// Whether it is the hash of this secret. Takes tens of milliseconds, and the same for right and wrong ones.
    pub(crate) fn matches(&self, secret: &SecretString) -> bool {
        let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        let (salt, hash) = (decode(&self.salt), decode(&self.hash));
        let secret = secret.expose_secret().as_bytes();
        !hash.is_empty()
            && pbkdf2::verify(
                pbkdf2::PBKDF2_HMAC_SHA256,
                self.rounds,
                &salt,
                secret,
                &hash,
            )
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_matches_its_own_hash_and_no_other() {
        let secret = generate().expect("random");
        let other = generate().expect("random");
        let hash = SecretHash::of(&secret).expect("random");
        assert!(hash.matches(&secret));
        assert!(!hash.matches(&other));
        assert!(!hash.matches(&SecretString::from("")));
        assert!(!SecretHash::nobodys().matches(&secret));
    }

    #[test]
    fn two_hashes_of_one_secret_share_nothing() {
        let secret = generate().expect("random");
        let one = SecretHash::of(&secret).expect("random");
        let two = SecretHash::of(&secret).expect("random");
        assert_ne!(one.salt, two.salt);
        assert_ne!(one.hash, two.hash);
    }

    #[test]
    fn to_check_nobodys_secret_is_as_much_work_as_to_check_somebodys() {
        let secret = generate().expect("random");
        let somebodys = SecretHash::of(&secret).expect("random");
        let nobodys = SecretHash::nobodys();
        assert_eq!(nobodys.rounds, somebodys.rounds);
        assert_eq!(nobodys.salt.len(), somebodys.salt.len());
        assert_eq!(nobodys.hash.len(), somebodys.hash.len());
    }

    #[test]
    fn a_hash_that_was_cut_short_matches_nothing() {
        let secret = generate().expect("random");
        let mut hash = SecretHash::of(&secret).expect("random");
        hash.hash = String::new();
        assert!(!hash.matches(&secret));
        hash.hash = "not base64!".to_owned();
        assert!(!hash.matches(&secret));
    }

    #[test]
    fn no_secret_begins_like_a_flag_or_shows_in_debug_output() {
        let secret = generate().expect("random");
        assert!(secret.expose_secret().starts_with(PREFIX));
        assert!(secret.expose_secret().len() <= LONGEST);
        assert!(!format!("{secret:?}").contains(secret.expose_secret()));
    }
}
