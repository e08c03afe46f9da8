//! What an owner of the place changes.

use secrecy::SecretString;

use super::{Identity, NewSecret};
use crate::access::Assignment;
use crate::error::IdentityError;
use crate::id::PrincipalId;
use crate::issuer::TrustedIssuer;
use crate::role::Role;
use crate::scope::RoleScope;
use crate::secret::{SecretHash, generate};

impl Identity {
    /// Makes a service principal with a role on a scope. Its secret is only in the answer.
    ///
    /// # Errors
    /// When the name is taken or none, and when the change can't be kept.
    pub async fn create_service_principal(
        &self,
        name: &str,
        role: Role,
        scope: RoleScope,
    ) -> Result<NewSecret, IdentityError> {
        let (secret, hash) = new_secret().await?;
        let id = PrincipalId::random();
        let assignment = Assignment {
            principal: id,
            role,
            scope,
        };
        self.change(|document, now| {
            document.add(id, name, hash.clone(), now)?;
            document.put(assignment.clone());
            Ok(())
        })
        .await?;
        Ok(self.shown(id, secret))
    }

    /// Gives a service principal another secret. What the last one got is not taken any more.
    ///
    /// # Errors
    /// When there is no such service principal, and when the change can't be kept.
    pub async fn reset_secret(&self, principal: PrincipalId) -> Result<NewSecret, IdentityError> {
        let (secret, hash) = new_secret().await?;
        self.change(|document, _| document.reset(principal, hash.clone()))
            .await?;
        Ok(self.shown(principal, secret))
    }

    /// Takes a service principal away with its roles (or an external principal's roles). Its tokens are not taken any more.
    ///
    /// # Errors
    /// When there is no such principal or it is the managed identity, and when the change can't be kept.
    pub async fn delete_principal(&self, principal: PrincipalId) -> Result<(), IdentityError> {
        self.change(|document, _| document.remove(principal)).await
    }

    /// Gives a principal a role on a scope. An external principal need not have been here yet.
    ///
    /// # Errors
    /// When the change can't be kept.
    pub async fn assign(
        &self,
        principal: PrincipalId,
        role: Role,
        scope: RoleScope,
    ) -> Result<(), IdentityError> {
        let assignment = Assignment {
            principal,
            role,
            scope,
        };
        self.change(|document, _| {
            document.put(assignment.clone());
            Ok(())
        })
        .await
    }

    /// Takes a role on a scope from a principal.
    ///
    /// # Errors
    /// When the principal doesn't have it, and when the change can't be kept.
    pub async fn unassign(
        &self,
        principal: PrincipalId,
        role: Role,
        scope: &RoleScope,
    ) -> Result<(), IdentityError> {
        let assignment = Assignment {
            principal,
            role,
            scope: scope.clone(),
        };
        self.change(|document, _| document.take(&assignment)).await
    }

    /// Makes another authority and a certificate by it. Clients that trust the last one still trust the server: the last one has
    /// vouched for the new one, until it runs out. When the last one's key was lost, rotate twice, and give clients
    /// [`authority_pem`](Self::authority_pem) anew.
    ///
    /// # Errors
    /// When they can't be made or kept.
    pub async fn rotate_authority(&self) -> Result<(), IdentityError> {
        self.change(|document, now| {
            let names = document.server.names.clone();
            document.rotate_authority(&names, now)
        })
        .await?;
        self.publish().await
    }

    /// Makes another certificate for the server, with another key.
    ///
    /// # Errors
    /// When it can't be made or kept.
    pub async fn rotate_certificate(&self) -> Result<(), IdentityError> {
        self.change(|document, now| {
            document.server = document.authority.certify(&document.server.names, now)?;
            Ok(())
        })
        .await
    }

    /// Signs tokens with another key from now on. Those that the last one signed are good until they run out.
    ///
    /// # Errors
    /// When it can't be made or kept.
    pub async fn rotate_signing_key(&self) -> Result<(), IdentityError> {
        self.change(|document, now| {
            document.signing = document.signing.successor(now)?;
            Ok(())
        })
        .await
    }

    /// Gives the managed identity another header. What the last one got is not taken any more.
    ///
    /// # Errors
    /// When it can't be made or kept.
    pub async fn rotate_managed_identity_header(&self) -> Result<(), IdentityError> {
        let header = generate()?;
        self.change(|document, _| {
            document.reset_header(header.clone());
            Ok(())
        })
        .await
    }

    /// Trusts an issuer from now on instead of the last one; none: only our own tokens. A server whose settings name one goes by
    /// those.
    ///
    /// # Errors
    /// When it can't be trusted (no https), and when the change can't be kept.
    pub async fn trust_issuer(&self, issuer: Option<TrustedIssuer>) -> Result<(), IdentityError> {
        if let Some(issuer) = &issuer {
            issuer.check()?;
        }
        self.change(|document, _| {
            document.issuer.clone_from(&issuer);
            Ok(())
        })
        .await
    }

    fn shown(&self, client_id: PrincipalId, secret: SecretString) -> NewSecret {
        NewSecret {
            client_id,
            secret,
            tenant: self.tenant(),
        }
    }
}

async fn new_secret() -> Result<(SecretString, SecretHash), IdentityError> {
    let made = tokio::task::spawn_blocking(|| {
        let secret = generate()?;
        let hash = SecretHash::of(&secret)?;
        Ok((secret, hash))
    });
    made.await.map_err(|error| IdentityError::Cryptography {
        what: "a secret",
        reason: error.to_string(),
    })?
}
