//! The shell around the document: what a front and the command line use.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use uuid::Uuid;

use crate::access::{Assignment, Denied};
use crate::error::{IdentityError, SignInError};
use crate::id::{PrincipalId, TenantId};
use crate::issuer::TrustedIssuer;
use crate::principal::Principal;
use crate::role::{Action, Role};
use crate::scope::RoleScope;
use crate::storage::Storage;
use crate::token::{IssuedToken, TokenError};

/// The resource that tokens are for.
pub const AUDIENCE: &str = "https://management.migpool.local";

/// What a front needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The subscription. The managed identity owns it from the first start on.
    pub subscription: Uuid,
    /// The DNS names and IP addresses that clients reach the server by. At least one.
    pub names: Vec<String>,
    /// How long a token is good. Longer than an hour is an hour, shorter than a minute a minute.
    pub token_life: Duration,
    /// An issuer to trust besides. Without one, the one that [`Identity::trust_issuer`] has named, if it has.
    pub issuer: Option<TrustedIssuer>,
}

/// What a new service principal signs in with. It can't be shown again.
#[derive(Clone)]
pub struct NewSecret {
    /// The client id.
    pub client_id: PrincipalId,
    /// The secret.
    pub secret: SecretString,
    /// The tenant.
    pub tenant: TenantId,
}

impl fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSecret")
            .field("client_id", &self.client_id)
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// Who may do what. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {}

#[allow(clippy::unused_async, clippy::todo, unused_variables, missing_docs)]
impl Identity {
    /// Opens what is kept there for a server, and makes what is missing: at first start the tenant's id, the authority (good for
    /// ten years), the server's certificate (90 days), the key of tokens, and the managed identity, who owns the subscription.
    /// What runs out is renewed for as long as one clone lives. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// When it can't be read or written, when others can read it, and when a newer migpool has written it.
    pub async fn open(storage: impl Storage, settings: Settings) -> Result<Self, IdentityError> {
        todo!()
    }

    /// Opens what a server keeps there, to look at and to change; the server's certificate stays as it is.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when there is nothing yet.
    pub async fn attach(storage: impl Storage) -> Result<Self, IdentityError> {
        todo!()
    }

    pub fn tenant(&self) -> TenantId {
        todo!()
    }

    pub fn subscription(&self) -> Uuid {
        todo!()
    }

    pub fn audience(&self) -> String {
        AUDIENCE.to_owned()
    }

    /// What stands in our tokens' `iss`.
    pub fn issuer(&self) -> String {
        todo!()
    }

    /// The public keys of our tokens, as a JSON Web Key Set.
    pub fn key_set(&self) -> serde_json::Value {
        todo!()
    }

    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>, IdentityError> {
        todo!()
    }

    pub fn authority_pem(&self) -> String {
        todo!()
    }

    pub fn managed_identity_header(&self) -> String {
        todo!()
    }

    /// The managed identity's client id.
    pub fn managed_identity(&self) -> PrincipalId {
        todo!()
    }

    pub async fn sign_in_managed_identity(
        &self,
        header: &str,
        client_id: Option<&str>,
        resource: &str,
    ) -> Result<IssuedToken, SignInError> {
        todo!()
    }

    pub async fn sign_in_secret(
        &self,
        client_id: &str,
        secret: &str,
        resource: &str,
    ) -> Result<IssuedToken, SignInError> {
        todo!()
    }

    pub async fn verify(&self, bearer: &str) -> Result<Principal, TokenError> {
        todo!()
    }

    pub async fn authorize(
        &self,
        principal: &Principal,
        action: Action,
        path: &str,
    ) -> Result<(), Denied> {
        todo!()
    }

    /// Takes what another process has changed. Errors are logged, and what is known stays.
    pub async fn refresh(&self) {
        todo!()
    }

    pub async fn create_service_principal(
        &self,
        name: &str,
        role: Role,
        scope: RoleScope,
    ) -> Result<NewSecret, IdentityError> {
        todo!()
    }

    pub async fn reset_secret(&self, principal: PrincipalId) -> Result<NewSecret, IdentityError> {
        todo!()
    }

    pub async fn delete_principal(&self, principal: PrincipalId) -> Result<(), IdentityError> {
        todo!()
    }

    pub fn principals(&self) -> Vec<Principal> {
        todo!()
    }

    pub async fn assign(
        &self,
        principal: PrincipalId,
        role: Role,
        scope: RoleScope,
    ) -> Result<(), IdentityError> {
        todo!()
    }

    pub async fn unassign(
        &self,
        principal: PrincipalId,
        role: Role,
        scope: &RoleScope,
    ) -> Result<(), IdentityError> {
        todo!()
    }

    pub fn assignments(&self) -> Vec<Assignment> {
        todo!()
    }

    pub async fn rotate_authority(&self) -> Result<(), IdentityError> {
        todo!()
    }

    pub async fn rotate_certificate(&self) -> Result<(), IdentityError> {
        todo!()
    }

    pub async fn rotate_signing_key(&self) -> Result<(), IdentityError> {
        todo!()
    }

    pub async fn rotate_managed_identity_header(&self) -> Result<(), IdentityError> {
        todo!()
    }

    /// Trusts an issuer from now on; none: only our own tokens.
    pub async fn trust_issuer(&self, issuer: Option<TrustedIssuer>) -> Result<(), IdentityError> {
        todo!()
    }
}
