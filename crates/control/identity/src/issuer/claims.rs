//! What the tokens of another issuer say.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use super::TrustedIssuer;
use crate::access::Grant;
use crate::principal::{Principal, PrincipalKind};
use crate::scope::RoleScope;
use crate::token::{TokenError, moment, short};

/// Claims with the names that OpenID Connect gives them, and all others.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct ExternalClaims {
    pub(crate) iss: String,
    sub: String,
    aud: OneOrMany,
    exp: Number,
    nbf: Option<Number>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// An audience is one text or several (RFC 7519, 4.1.3).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl ExternalClaims {
    /// Whether they are good now.
    pub(super) fn check(&self, trusted: &TrustedIssuer, now: Timestamp) -> Result<(), TokenError> {
        if self.iss != trusted.issuer {
            return Err(TokenError::Issuer(short(&self.iss)));
        }
        if !self.aud.as_slice().contains(&trusted.audience) {
            return Err(TokenError::Audience(short(&self.aud.as_slice().join(", "))));
        }
        if self.sub.is_empty() {
            return Err(TokenError::Malformed("it says not who it is about"));
        }
        let seconds = |number: &Number| {
            whole_seconds(number).ok_or(TokenError::Malformed("its times are no numbers"))
        };
        let nbf = self.nbf.as_ref().map(seconds).transpose()?;
        moment(nbf, seconds(&self.exp)?, now)
    }

    /// Who they are about.
    pub(super) fn principal(&self, trusted: &TrustedIssuer, subscription: Uuid) -> Principal {
        let text = |name: &&str| self.others.get(*name).and_then(Value::as_str);
        let name = ["preferred_username", "email", "name"]
            .iter()
            .find_map(text)
            .unwrap_or(&self.sub);
        Principal {
            id: trusted.principal_id(&self.sub),
            name: short(name),
            kind: PrincipalKind::External,
            grants: self.grants(trusted, subscription),
        }
    }

    fn grants(&self, trusted: &TrustedIssuer, subscription: Uuid) -> Vec<Grant> {
        let claim = trusted.roles_claim.as_deref();
        let texts = match claim.and_then(|claim| self.claim(claim)) {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let grant = |text: &str| {
            let (role, scope) = match text.split_once(':') {
                Some((role, scope)) => (role, scope.parse().ok()?),
                None => (text, RoleScope::subscription(subscription)),
            };
            let role = role.parse().ok()?;
            Some(Grant { role, scope })
        };
        texts.into_iter().filter_map(grant).collect()
    }

    /// A claim by its name; if none has it, by its path.
    fn claim(&self, name: &str) -> Option<&Value> {
        let by_path = || {
            let mut parts = name.split('.');
            let first = self.others.get(parts.next()?)?;
            parts.try_fold(first, |value, part| value.get(part))
        };
        self.others.get(name).or_else(by_path)
    }
}

/// Times may have fractions (RFC 7519, 2).
fn whole_seconds(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let seconds = jiff::SignedDuration::try_from_secs_f64(number.as_f64()?).ok()?;
        Some(seconds.as_secs())
    })
}

#[cfg(test)]
mod tests;
