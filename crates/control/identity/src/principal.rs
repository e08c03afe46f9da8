//! Who asks.

use serde::{Deserialize, Serialize};

use crate::access::Grant;
use crate::id::PrincipalId;

/// What sort of principal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PrincipalKind {
    /// The identity of the machine or the cluster: whoever knows its header has it.
    ManagedIdentity,
    /// An application with a client id and a secret.
    ServicePrincipal,
    /// Somebody whom a trusted OpenID Connect issuer vouches for.
    External,
}

/// Somebody whose token was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its id. An external principal's is made of its issuer and subject, and so always the same.
    pub id: PrincipalId,
    /// Its name, for people.
    pub name: String,
    /// What sort it is.
    pub kind: PrincipalKind,
    /// The roles that its token itself brings along. Only an external principal's does.
    pub grants: Vec<Grant>,
}
