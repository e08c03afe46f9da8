//! The authority (CA), and the server's certificate that it signs.
//!
//! A new authority is also signed by the one before it, and the server shows that certificate, the *bridge*, with its own: clients
//! that still trust only the old authority go on until it runs out.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::error::IdentityError;
use crate::secret::{exposed, random};

/// How long an authority is good for, in days, and how much of that is left when the next one is made.
const AUTHORITY_LIFE: i64 = 3652;
const AUTHORITY_LEFT: i64 = 365;

/// The same for the server's certificate.
const SERVER_LIFE: i64 = 90;
const SERVER_LEFT: i64 = 30;

/// An authority: its certificate, its key, and the one before it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Authority {
    /// Its common name, which no other authority has.
    name: String,
    /// PEM.
    certificate: String,
    /// PEM.
    #[serde(serialize_with = "exposed")]
    key: SecretString,
    expires: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    former: Option<Former>,
}

/// The authority before: its key is gone, but clients may still trust it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Former {
    /// PEM.
    certificate: String,
    /// The new authority's key, certified by the former one; PEM.
    bridge: String,
    expires: Timestamp,
}

/// The server's certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServerCertificate {
    pub(crate) names: Vec<String>,
    /// PEM.
    pub(crate) certificate: String,
    /// PEM.
    #[serde(serialize_with = "exposed")]
    pub(crate) key: SecretString,
    pub(crate) expires: Timestamp,
}

impl Authority {
    /// The first one.
    pub(crate) fn new(now: Timestamp) -> Result<Self, IdentityError> {
        let (parameters, name, expires) = parameters_of_an_authority(now)?;
        let key = KeyPair::generate().map_err(|error| unmade(&error))?;
        let certificate = parameters
            .self_signed(&key)
            .map_err(|error| unmade(&error))?
            .pem();
        Ok(Self {
            name,
            certificate,
            key: key.serialize_pem().into(),
            expires,
            former: None,
        })
    }

    /// The next one, with a bridge from this one.
    pub(crate) fn successor(&self, now: Timestamp) -> Result<Self, IdentityError> {
        let (parameters, name, expires) = parameters_of_an_authority(now)?;
        let key = KeyPair::generate().map_err(|error| unmade(&error))?;
        let certificate = parameters
            .self_signed(&key)
            .map_err(|error| unmade(&error))?
            .pem();
        let former = if self.expires > now {
            let mut bridge = parameters.clone();
            bridge.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            bridge.use_authority_key_identifier_extension = true;
            valid(&mut bridge, now, self.expires);
            let bridge = bridge
                .signed_by(&key, &self.issuer()?)
                .map_err(|error| unmade(&error))?;
            Some(Former {
                certificate: self.certificate.clone(),
                bridge: bridge.pem(),
                expires: self.expires,
            })
        } else {
            None
        };
        Ok(Self {
            name,
            certificate,
            key: key.serialize_pem().into(),
            expires,
            former,
        })
    }

    /// Whether it is time for the next one.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        day(now, AUTHORITY_LEFT) > self.expires
    }

    /// What clients are to trust, in PEM: this one, and the one before it for as long as it is good, since another server of the
    /// same front may not have followed yet.
    pub(crate) fn trusted(&self, now: Timestamp) -> String {
        match &self.former {
            Some(former) if former.expires > now => {
                format!("{}{}", self.certificate, former.certificate)
            }
            _ => self.certificate.clone(),
        }
    }

    /// What the server shows with its certificate, in PEM.
    pub(crate) fn bridge(&self, now: Timestamp) -> Option<&str> {
        let former = self.former.as_ref()?;
        (former.expires > now).then_some(&former.bridge)
    }

    /// A certificate for a server with these names.
    pub(crate) fn certify(
        &self,
        names: &[String],
        now: Timestamp,
    ) -> Result<ServerCertificate, IdentityError> {
        let refused = |reason: String| IdentityError::Names {
            names: names.to_vec(),
            reason,
        };
        let Some(first) = names.first() else {
            return Err(refused("there is none".to_owned()));
        };
        let mut parameters =
            CertificateParams::new(names).map_err(|error| refused(error.to_string()))?;
        parameters.distinguished_name = named("migpool");
        let expires = day(now, SERVER_LIFE);
        valid(&mut parameters, now, expires);
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(|error| unmade(&error))?;
        let certificate = parameters
            .signed_by(&key, &self.issuer()?)
            .map_err(|error| refused(format!("{first:?} and the others: {error}")))?;
        Ok(ServerCertificate {
            names: names.to_vec(),
            certificate: certificate.pem(),
            key: key.serialize_pem().into(),
            expires,
        })
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, IdentityError> {
        let key = KeyPair::from_pem(self.key.expose_secret()).map_err(|error| unmade(&error))?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = named(&self.name);
        parameters.key_usages = USAGES.to_vec();
        Ok(Issuer::new(parameters, key))
    }
}

impl ServerCertificate {
    /// Whether it is time for the next one, or it has other names.
    pub(crate) fn is_due(&self, names: &[String], now: Timestamp) -> bool {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort_unstable();
            names
        };
        day(now, SERVER_LEFT) > self.expires || sorted(&self.names) != sorted(names)
    }
}

const USAGES: [KeyUsagePurpose; 2] = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

fn parameters_of_an_authority(
    now: Timestamp,
) -> Result<(CertificateParams, String, Timestamp), IdentityError> {
    let number = u32::from_be_bytes(random()?);
    // Names tell authorities apart where a client trusts several.
    let name = format!("migpool authority {number:08x}");
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = named(&name);
    let expires = day(now, AUTHORITY_LIFE);
    valid(&mut parameters, now, expires);
    // One below it: the next authority, by its bridge.
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    parameters.key_usages = USAGES.to_vec();
    Ok((parameters, name, expires))
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn unmade(error: &rcgen::Error) -> IdentityError {
    IdentityError::Cryptography {
        what: "a certificate",
        reason: error.to_string(),
    }
}

/// The midnight (UTC) before a time so many days later: certificates of ours begin and end with a day.
fn day(now: Timestamp, later: i64) -> Timestamp {
    let date = now
        .to_zoned(TimeZone::UTC)
        .date()
        .saturating_add(later.days());
    date.to_zoned(TimeZone::UTC)
        .map_or(Timestamp::MAX, |midnight| midnight.timestamp())
}

/// Makes a certificate good from yesterday on, since a client's clock may be behind, to the last day.
fn valid(parameters: &mut CertificateParams, now: Timestamp, until: Timestamp) {
    let date = |time: Timestamp| {
        let date = time.to_zoned(TimeZone::UTC).date();
        let part = |part: i8| u8::try_from(part).unwrap_or(1);
        rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    parameters.not_before = date(day(now, -1));
    parameters.not_after = date(until);
}

#[cfg(test)]
mod tests;
