//! The one document: everything that is kept, and the pure changes of it.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::access::Assignment;
use crate::authority::{Authority, ServerCertificate};
use crate::error::IdentityError;
use crate::id::{PrincipalId, TenantId};
use crate::issuer::TrustedIssuer;
use crate::principal::{Principal, PrincipalKind};
use crate::role::Role;
use crate::scope::RoleScope;
use crate::secret::{self, SecretHash, exposed};
use crate::signing::SigningKeys;

/// The format that this program reads and writes.
pub(crate) const FORMAT: u32 = 1;

/// The longest name of a principal, in letters.
const LONGEST_NAME: usize = 120;

/// Everything that is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    format: u32,
    /// One more with every change, so that an old copy is known for one.
    pub(crate) generation: u64,
    pub(crate) tenant: TenantId,
    pub(crate) subscription: Uuid,
    pub(crate) authority: Authority,
    pub(crate) server: ServerCertificate,
    pub(crate) signing: SigningKeys,
    pub(crate) managed_identity: ManagedIdentity,
    pub(crate) principals: Vec<ServicePrincipal>,
    pub(crate) assignments: Vec<Assignment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<TrustedIssuer>,
}

/// The identity of the machine or the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManagedIdentity {
    pub(crate) id: PrincipalId,
    /// What clients must show. Its owner must be able to read it, so it is kept like a key and not as a hash.
    #[serde(serialize_with = "exposed")]
    pub(crate) header: SecretString,
    /// Which header in a row this is.
    credential: u32,
}

/// An application that signs in with a secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServicePrincipal {
    pub(crate) id: PrincipalId,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) secret: SecretHash,
    /// Which secret in a row this is: tokens that an earlier one got are not taken any more.
    credential: u32,
}

/// Somebody of ours, and which secret in a row he has.
pub(crate) struct Known {
    pub(crate) principal: Principal,
    pub(crate) credential: u32,
}

impl Document {
    /// The first one.
    pub(crate) fn new(
        subscription: Uuid,
        names: &[String],
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        let authority = Authority::new(now)?;
        let server = authority.certify(names, now)?;
        let mut document = Self {
            format: FORMAT,
            generation: 0,
            tenant: TenantId::random(),
            subscription,
            authority,
            server,
            signing: SigningKeys::new(now)?,
            managed_identity: ManagedIdentity {
                id: PrincipalId::random(),
                header: secret::generate()?,
                credential: 1,
            },
            principals: Vec::new(),
            assignments: Vec::new(),
            issuer: None,
        };
        document.give_the_subscription_to_the_managed_identity();
        Ok(document)
    }

    /// Reads what was kept.
    pub(crate) fn read(bytes: &[u8], place: &str) -> Result<Self, IdentityError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        // What is wrong is told by its place alone: the text around it may be a key.
        let unreadable = |error: serde_json::Error| IdentityError::Unreadable {
            place: place.to_owned(),
            reason: format!("line {}, column {}", error.line(), error.column()),
        };
        let Head { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if format > FORMAT {
            return Err(IdentityError::Newer {
                place: place.to_owned(),
                found: format,
                known: FORMAT,
            });
        }
        serde_json::from_slice(bytes).map_err(unreadable)
    }

    /// The document as it is kept.
    pub(crate) fn write(&self, place: &str) -> Result<Vec<u8>, IdentityError> {
        let mut bytes =
            serde_json::to_vec_pretty(self).map_err(|error| IdentityError::Unreadable {
                place: place.to_owned(),
                reason: error.to_string(),
            })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Makes it fit for a server of this subscription with these names, and renews what runs out.
    pub(crate) fn bring_up_to_date(
        &mut self,
        subscription: Uuid,
        names: &[String],
        now: Timestamp,
    ) -> Result<(), IdentityError> {
        if self.subscription != subscription {
            self.subscription = subscription;
            self.give_the_subscription_to_the_managed_identity();
        }
        if self.authority.is_due(now) {
            self.rotate_authority(names, now)?;
        }
        if self.server.is_due(names, now) {
            self.server = self.authority.certify(names, now)?;
        }
        if self.signing.is_due(now) {
            self.signing = self.signing.successor(now)?;
        }
        Ok(())
    }

    /// Whether [`bring_up_to_date`](Self::bring_up_to_date) would change anything.
    pub(crate) fn is_due(&self, subscription: Uuid, names: &[String], now: Timestamp) -> bool {
        self.subscription != subscription
            || self.authority.is_due(now)
            || self.server.is_due(names, now)
            || self.signing.is_due(now)
    }

    pub(crate) fn rotate_authority(
        &mut self,
        names: &[String],
        now: Timestamp,
    ) -> Result<(), IdentityError> {
        self.authority = self.authority.successor(now)?;
        self.server = self.authority.certify(names, now)?;
        Ok(())
    }

    fn give_the_subscription_to_the_managed_identity(&mut self) {
        let scope = RoleScope::subscription(self.subscription);
        self.put(Assignment {
            principal: self.managed_identity.id,
            role: Role::Owner,
            scope,
        });
    }

    /// Our principal with this id.
    pub(crate) fn known(&self, id: PrincipalId) -> Option<Known> {
        let managed = &self.managed_identity;
        if managed.id == id {
            return Some(Known {
                principal: managed.principal(),
                credential: managed.credential,
            });
        }
        let found = self.principals.iter().find(|known| known.id == id)?;
        Some(Known {
            principal: found.principal(),
            credential: found.credential,
        })
    }

    /// All our principals: the managed identity first.
    pub(crate) fn all(&self) -> Vec<Principal> {
        let rest = self.principals.iter().map(ServicePrincipal::principal);
        std::iter::once(self.managed_identity.principal())
            .chain(rest)
            .collect()
    }

    /// Adds a service principal.
    pub(crate) fn add(
        &mut self,
        id: PrincipalId,
        name: &str,
        secret: SecretHash,
        now: Timestamp,
    ) -> Result<(), IdentityError> {
        let letters = name.chars().count();
        let is_name = (1..=LONGEST_NAME).contains(&letters)
            && name.trim() == name
            && !name.chars().any(char::is_control);
        if !is_name {
            return Err(IdentityError::InvalidName(name.to_owned()));
        }
        let is_taken = |other: &Principal| other.name.eq_ignore_ascii_case(name);
        if self.all().iter().any(is_taken) {
            return Err(IdentityError::NameTaken(name.to_owned()));
        }
        self.principals.push(ServicePrincipal {
            id,
            name: name.to_owned(),
            created: now,
            secret,
            credential: 1,
        });
        Ok(())
    }

    /// Gives a service principal another secret.
    pub(crate) fn reset(
        &mut self,
        id: PrincipalId,
        secret: SecretHash,
    ) -> Result<(), IdentityError> {
        self.refuse_the_managed_identity(id)?;
        let found = self.principals.iter_mut().find(|known| known.id == id);
        let found = found.ok_or(IdentityError::NoPrincipal(id))?;
        found.secret = secret;
        found.credential = found.credential.saturating_add(1);
        Ok(())
    }

    /// Gives the managed identity another header.
    pub(crate) fn reset_header(&mut self, header: SecretString) {
        let managed = &mut self.managed_identity;
        managed.header = header;
        managed.credential = managed.credential.saturating_add(1);
    }

    /// Takes a service principal away, or an external principal's roles.
    pub(crate) fn remove(&mut self, id: PrincipalId) -> Result<(), IdentityError> {
        self.refuse_the_managed_identity(id)?;
        let before = self.principals.len() + self.assignments.len();
        self.principals.retain(|known| known.id != id);
        self.assignments.retain(|assigned| assigned.principal != id);
        if before == self.principals.len() + self.assignments.len() {
            return Err(IdentityError::NoPrincipal(id));
        }
        Ok(())
    }

    /// Gives a role. Whether the principal is known is not asked: an external one may come only later.
    pub(crate) fn put(&mut self, assignment: Assignment) {
        if !self.assignments.contains(&assignment) {
            self.assignments.push(assignment);
        }
    }

    /// Takes a role away.
    pub(crate) fn take(&mut self, assignment: &Assignment) -> Result<(), IdentityError> {
        let before = self.assignments.len();
        self.assignments.retain(|other| other != assignment);
        if before == self.assignments.len() {
            return Err(IdentityError::NoAssignment(assignment.principal));
        }
        Ok(())
    }

    fn refuse_the_managed_identity(&self, id: PrincipalId) -> Result<(), IdentityError> {
        if id == self.managed_identity.id {
            return Err(IdentityError::ManagedIdentity);
        }
        Ok(())
    }
}

impl ManagedIdentity {
    /// Its name.
    pub(crate) const NAME: &'static str = "migpool";

    fn principal(&self) -> Principal {
        Principal {
            id: self.id,
            name: Self::NAME.to_owned(),
            kind: PrincipalKind::ManagedIdentity,
            grants: Vec::new(),
        }
    }
}

impl ServicePrincipal {
    fn principal(&self) -> Principal {
        Principal {
            id: self.id,
            name: self.name.clone(),
            kind: PrincipalKind::ServicePrincipal,
            grants: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
