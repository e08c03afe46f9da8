//! Who shows the right secret is given a token.

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use super::Identity;
use crate::error::SignInError;
use crate::id::PrincipalId;
use crate::secret::{LONGEST, same};
use crate::state::State;
use crate::token::{IssuedToken, NewToken, is_for_us};

/// How many may sign in with a secret at a time; the next one is told to come again.
pub(super) const MOST: usize = 32;

/// How many of these have their hash computed at a time: more would only take the processors from everybody else.
pub(super) const MOST_AT_WORK: usize = 2;

impl Identity {
    /// A token for the managed identity, for who shows its header. A client id, if one is given, must be its.
    ///
    /// # Errors
    /// When the header or the client id is another one, and when the token is to be for something else than [`audience`].
    ///
    /// [`audience`]: Self::audience
    pub async fn sign_in_managed_identity(
        &self,
        header: &str,
        client_id: Option<&str>,
        resource: &str,
    ) -> Result<IssuedToken, SignInError> {
        self.refresh_now_and_then().await;
        let state = self.state();
        let managed = &state.document.managed_identity;
        if !same(&managed.header, header) {
            return Err(SignInError::WrongHeader);
        }
        let is_other = |asked: &&str| asked.parse() != Ok(managed.id);
        if let Some(other) = client_id.filter(is_other) {
            let other = other.chars().take(100).collect();
            return Err(SignInError::UnknownClient(other));
        }
        self.issue(&state, managed.id, resource)
    }

    /// A token for a service principal, for who shows its secret. A client id that nobody has takes as long as a wrong secret.
    ///
    /// # Errors
    /// When the id or the secret is wrong, when the token is to be for something else than [`audience`], and when too many sign in
    /// at once.
    ///
    /// [`audience`]: Self::audience
    pub async fn sign_in_secret(
        &self,
        client_id: &str,
        secret: &str,
        resource: &str,
    ) -> Result<IssuedToken, SignInError> {
        if !is_for_us(resource) {
            let resource = resource.chars().take(200).collect();
            return Err(SignInError::UnknownResource(resource));
        }
        if secret.len() > LONGEST {
            return Err(SignInError::WrongCredentials);
        }
        let place = Arc::clone(&self.0.signing_in).try_acquire_owned();
        let place = place.map_err(|_| SignInError::Busy)?;
        // Its principal may have been made a moment ago by another process.
        self.refresh().await;
        let id: Option<PrincipalId> = client_id.parse().ok();
        let state = self.state();
        let principals = &state.document.principals;
        let found = principals.iter().find(|known| Some(known.id) == id);
        let hash = found.map_or_else(|| self.0.nobodys.clone(), |known| known.secret.clone());
        let secret = SecretString::from(secret);
        let work = Arc::clone(&self.0.hashing).acquire_owned().await;
        let work = work.map_err(|_| SignInError::Busy)?;
        let matches = tokio::task::spawn_blocking(move || {
            // Given back when the work is done, not when the client has gone.
            let _held = (place, work);
            hash.matches(&secret)
        });
        let matches = matches
            .await
            .map_err(|error| SignInError::Failed(error.to_string()))?;
        match found {
            Some(known) if matches => self.issue(&state, known.id, resource),
            _ => Err(SignInError::WrongCredentials),
        }
    }

    fn issue(
        &self,
        state: &State,
        principal: PrincipalId,
        resource: &str,
    ) -> Result<IssuedToken, SignInError> {
        let document = &state.document;
        let known = document.known(principal);
        let known = known.ok_or(SignInError::WrongCredentials)?;
        let token = NewToken {
            tenant: document.tenant,
            principal,
            credential: known.credential,
            life: self.0.token_life,
            resource,
        };
        token.sign(document.signing.kid(), &state.signer, Timestamp::now())
    }
}
