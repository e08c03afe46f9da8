//! The keys that sign our tokens (ES256).

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{DecodingKey, EncodingKey};
use rcgen::KeyPair;
use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::IdentityError;
use crate::secret::exposed;
use crate::token::LONGEST_LIFE;

/// How long a key signs.
const LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);

/// The bytes of a coordinate of P-256.
const COORDINATE: usize = 32;

/// The key that signs, and those before it, whose tokens are still good.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SigningKeys {
    /// PKCS#8, base64.
    #[serde(serialize_with = "exposed")]
    key: SecretString,
    made: Timestamp,
    public: PublicKey,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<Former>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Former {
    public: PublicKey,
    /// When the last token that it signed has run out.
    until: Timestamp,
}

/// A key as clients may see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PublicKey {
    /// Its thumbprint (RFC 7638).
    kid: String,
    x: String,
    y: String,
}

impl SigningKeys {
    /// The first key.
    pub(crate) fn new(now: Timestamp) -> Result<Self, IdentityError> {
        let unmade = |reason: String| IdentityError::Cryptography {
            what: "the key of tokens",
            reason,
        };
        let pair = KeyPair::generate().map_err(|error| unmade(error.to_string()))?;
        let public = PublicKey::of(pair.public_key_raw())
            .ok_or_else(|| unmade("it is not of the curve P-256".to_owned()))?;
        Ok(Self {
            key: BASE64_STANDARD.encode(pair.serialized_der()).into(),
            made: now,
            public,
            former: Vec::new(),
        })
    }

    /// The next key. What the last ones signed is good until it runs out.
    pub(crate) fn successor(&self, now: Timestamp) -> Result<Self, IdentityError> {
        let mut next = Self::new(now)?;
        next.former.push(Former {
            public: self.public.clone(),
            until: now.saturating_add(LONGEST_LIFE).unwrap_or(Timestamp::MAX),
        });
        let good = self.former.iter().filter(|former| former.until > now);
        next.former.extend(good.cloned());
        Ok(next)
    }

    /// Whether it is time for the next one.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        now.duration_since(self.made) > LIFE
    }

    /// The id of the key that signs.
    pub(crate) fn kid(&self) -> &str {
        &self.public.kid
    }

    /// The key that signs.
    pub(crate) fn signer(&self) -> Result<EncodingKey, IdentityError> {
        let key = BASE64_STANDARD.decode(self.key.expose_secret());
        let key = key.map_err(|_| IdentityError::Cryptography {
            what: "the key of tokens",
            reason: "it is not in base64".to_owned(),
        })?;
        Ok(EncodingKey::from_ec_der(&key))
    }

    /// What verifies tokens of the key with this id, if it is known and its tokens are still good.
    pub(crate) fn verifier(&self, kid: &str, now: Timestamp) -> Option<DecodingKey> {
        let key = self.public(now).find(|key| key.kid == kid)?;
        DecodingKey::from_ec_components(&key.x, &key.y).ok()
    }

    /// Whether tokens of this key are still good.
    pub(crate) fn knows(&self, kid: &str, now: Timestamp) -> bool {
        self.public(now).any(|key| key.kid == kid)
    }

    /// The public keys, as a JSON Web Key Set (RFC 7517).
    pub(crate) fn key_set(&self, now: Timestamp) -> Value {
        let keys = self.public(now).map(|PublicKey { kid, x, y }| {
            json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid, "x": x, "y": y})
        });
        json!({"keys": keys.collect::<Vec<_>>()})
    }

    fn public(&self, now: Timestamp) -> impl Iterator<Item = &PublicKey> {
        let former = self.former.iter().filter(move |former| former.until > now);
        std::iter::once(&self.public).chain(former.map(|former| &former.public))
    }
}

impl PublicKey {
    /// Of an uncompressed point of P-256.
    fn of(point: &[u8]) -> Option<Self> {
        let (0x04, coordinates) = point.split_first().map(|(first, rest)| (*first, rest))? else {
            return None;
        };
        let (x, y) = coordinates.split_at_checked(COORDINATE)?;
        if y.len() != COORDINATE {
            return None;
        }
        let (x, y) = (
            BASE64_URL_SAFE_NO_PAD.encode(x),
            BASE64_URL_SAFE_NO_PAD.encode(y),
        );
        // The members in the order of the alphabet and without spaces, as RFC 7638 wants them.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        Some(Self { kid, x, y })
    }
}
