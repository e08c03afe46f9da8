//! The shell around the document: what a front and the command line use.

mod administration;
mod sign_in;
mod upkeep;
mod verify;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rustls::ServerConfig;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use crate::access::Assignment;
use crate::document::Document;
use crate::error::IdentityError;
use crate::id::{PrincipalId, TenantId};
use crate::issuer::TrustedIssuer;
use crate::principal::Principal;
use crate::secret::SecretHash;
use crate::seen::Seen;
use crate::serving::{Serving, server_config};
use crate::state::State;
use crate::storage::{AnyStorage, Storage};
use crate::token::{LONGEST_LIFE, issuer};

/// The resource that tokens are for.
pub const AUDIENCE: &str = "https://management.migpool.local";

/// A shorter life of tokens makes no sense: clients throw tokens away a few minutes before they run out.
const SHORTEST_LIFE: SignedDuration = SignedDuration::from_mins(1);

/// What a front needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The subscription. The managed identity owns it from the first start on.
    pub subscription: Uuid,
    /// The DNS names and IP addresses that clients reach the server by. At least one, and the same for all servers that share what
    /// is kept.
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

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("place", &self.0.storage.place())
            .field("tenant", &self.tenant())
            .finish_non_exhaustive()
    }
}

struct Inner {
    storage: Box<dyn AnyStorage>,
    purpose: Purpose,
    token_life: SignedDuration,
    /// Written only by who holds `changing`.
    state: watch::Sender<Arc<State>>,
    changing: tokio::sync::Mutex<()>,
    looked: Mutex<Looked>,
    seen: Seen,
    /// How many sign in with a secret, and how many of these have their hash computed.
    signing_in: Arc<Semaphore>,
    hashing: Arc<Semaphore>,
    nobodys: SecretHash,
}

/// What it is opened for.
enum Purpose {
    /// A server: what runs out is renewed, and the settings' issuer goes before the document's.
    Serve {
        subscription: Uuid,
        names: Vec<String>,
        issuer: Option<TrustedIssuer>,
    },
    /// Looking and changing.
    Administer,
}

/// When the document was last looked at, and what went wrong then.
struct Looked {
    at: Instant,
    failure: Option<String>,
    /// Since when it has been older than the one that is known.
    older_since: Option<Instant>,
}

impl Identity {
    /// Opens what is kept there for a server, and makes what is missing: at first start the tenant's id, the authority (good for
    /// ten years), the server's certificate (90 days), the key of tokens, and the managed identity, who owns the subscription.
    /// What runs out is renewed for as long as one clone lives. Must be called in a Tokio runtime with a timer.
    ///
    /// # Errors
    /// When it can't be read or written, when others can read it, when a newer migpool has written it, and when no certificate can
    /// have the names.
    pub async fn open(storage: impl Storage, settings: Settings) -> Result<Self, IdentityError> {
        let life = SignedDuration::try_from(settings.token_life).unwrap_or(LONGEST_LIFE);
        let purpose = Purpose::Serve {
            subscription: settings.subscription,
            names: settings.names,
            issuer: settings.issuer,
        };
        let life = life.clamp(SHORTEST_LIFE, LONGEST_LIFE);
        let identity = Self::start(Box::new(storage), purpose, life).await?;
        identity.bring_up_to_date().await?;
        identity.publish().await?;
        tokio::spawn(upkeep::keep_up(Arc::downgrade(&identity.0)));
        Ok(identity)
    }

    /// Opens what a server keeps there, to look at and to change. The server's certificate stays as it is.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when there is nothing yet.
    pub async fn attach(storage: impl Storage) -> Result<Self, IdentityError> {
        Self::start(Box::new(storage), Purpose::Administer, LONGEST_LIFE).await
    }

    async fn start(
        storage: Box<dyn AnyStorage>,
        purpose: Purpose,
        token_life: SignedDuration,
    ) -> Result<Self, IdentityError> {
        let state = upkeep::first_state(&*storage, &purpose).await?;
        Ok(Self(Arc::new(Inner {
            storage,
            purpose,
            token_life,
            state: watch::Sender::new(Arc::new(state)),
            changing: tokio::sync::Mutex::default(),
            looked: Mutex::new(Looked {
                at: Instant::now(),
                failure: None,
                older_since: None,
            }),
            seen: Seen::default(),
            signing_in: Arc::new(Semaphore::new(sign_in::MOST)),
            hashing: Arc::new(Semaphore::new(sign_in::MOST_AT_WORK)),
            nobodys: SecretHash::nobodys(),
        })))
    }

    fn state(&self) -> Arc<State> {
        self.0.state.borrow().clone()
    }

    fn looked(&self) -> std::sync::MutexGuard<'_, Looked> {
        self.0.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tenant that principals belong to: made at first start, and then always the same.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.state().document.tenant
    }

    /// The subscription that the front serves.
    #[must_use]
    pub fn subscription(&self) -> Uuid {
        self.state().document.subscription
    }

    /// The resource that tokens are for: [`AUDIENCE`].
    #[must_use]
    pub fn audience(&self) -> String {
        AUDIENCE.to_owned()
    }

    /// What stands in our tokens' `iss`.
    #[must_use]
    pub fn issuer(&self) -> String {
        issuer(self.tenant())
    }

    /// The issuer that is trusted besides, if there is one.
    #[must_use]
    pub fn trusted_issuer(&self) -> Option<TrustedIssuer> {
        let state = self.state();
        state.issuer.as_ref().map(|issuer| issuer.trusted().clone())
    }

    /// The public keys of our tokens, as a JSON Web Key Set (RFC 7517).
    #[must_use]
    pub fn key_set(&self) -> Value {
        self.state().document.signing.key_set(Timestamp::now())
    }

    /// TLS for the listener: 1.2 and 1.3, HTTP/1.1. New connections are shown a renewed certificate as soon as there is one.
    ///
    /// # Errors
    /// When the library refuses its own settings.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        server_config(Serving(self.0.state.subscribe())).map(Arc::new)
    }

    /// What clients are to trust, in PEM: the authority, and for as long as it is good the one before it.
    #[must_use]
    pub fn authority_pem(&self) -> String {
        self.state().document.authority.trusted(Timestamp::now())
    }

    /// What clients of the managed identity must show: the value of `IDENTITY_HEADER`. Secret.
    #[must_use]
    pub fn managed_identity_header(&self) -> String {
        let state = self.state();
        let header = &state.document.managed_identity.header;
        header.expose_secret().to_owned()
    }

    /// The managed identity's client id.
    #[must_use]
    pub fn managed_identity(&self) -> PrincipalId {
        self.state().document.managed_identity.id
    }

    /// All principals of ours: the managed identity, then service principals in the order in which they were made.
    #[must_use]
    pub fn principals(&self) -> Vec<Principal> {
        self.state().document.all()
    }

    /// All roles that are assigned.
    #[must_use]
    pub fn assignments(&self) -> Vec<Assignment> {
        self.state().document.assignments.clone()
    }
}

impl Purpose {
    /// The issuer that goes before the document's.
    fn issuer(&self) -> Option<&TrustedIssuer> {
        match self {
            Self::Serve { issuer, .. } => issuer.as_ref(),
            Self::Administer => None,
        }
    }

    /// The document of a first start.
    fn first(&self, place: String, now: Timestamp) -> Result<Document, IdentityError> {
        match self {
            Self::Serve {
                subscription,
                names,
                ..
            } => Document::new(*subscription, names, now),
            Self::Administer => Err(IdentityError::Missing { place }),
        }
    }
}

#[cfg(test)]
mod tests;
