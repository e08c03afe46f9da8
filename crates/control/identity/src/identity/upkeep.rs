//! Following and changing the document.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::{sleep, timeout};

use super::{Identity, Inner, Purpose};
use crate::document::Document;
use crate::error::IdentityError;
use crate::state::State;
use crate::storage::{AnyStorage, Kept, StorageError};

/// While requests come in, the document is looked at no more often than this.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is looked at, and whether anything runs out, without requests.
const ROUND: Duration = Duration::from_secs(10);

/// How long a storage may take to give the document out.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a request waits for that before it goes on with what is known.
const BRIEFLY: Duration = Duration::from_millis(250);

/// How long a storage may be behind what was already seen: one that answers out of a watch is now and then.
const BEHIND: Duration = Duration::from_secs(10);

/// How often a change begins anew because somebody else was faster, and the pause before the first new beginning.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_millis(5);

/// The state to start with.
pub(super) async fn first_state(
    storage: &dyn AnyStorage,
    purpose: &Purpose,
) -> Result<State, IdentityError> {
    let now = Timestamp::now();
    for _ in 0..TRIES {
        if let Some(kept) = storage.load().await? {
            let document = Document::read(&kept.document, &storage.place())?;
            let mut state = State::of(document, purpose.issuer(), None, now)?;
            state.version = Some(kept.version);
            return Ok(state);
        }
        let document = purpose.first(storage.place(), now)?;
        let bytes = document.write(&storage.place())?;
        let mut state = State::of(document, purpose.issuer(), None, now)?;
        match storage.save(&bytes, None).await {
            Ok(version) => {
                state.version = Some(version);
                return Ok(state);
            }
            // Somebody else starts for the first time, too.
            Err(StorageError::Conflict) => sleep(PAUSE).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(IdentityError::Contended {
        place: storage.place(),
    })
}

/// Follows the document and renews what runs out, until the last clone is gone.
pub(super) async fn keep_up(identity: Weak<Inner>) {
    loop {
        sleep(ROUND).await;
        let Some(inner) = identity.upgrade() else {
            return;
        };
        let identity = Identity(inner);
        identity.refresh().await;
        if identity.is_due() {
            let renewed = match identity.bring_up_to_date().await {
                Ok(()) => identity.publish().await,
                Err(error) => Err(error),
            };
            match renewed {
                Ok(()) => tracing::info!("the front's certificate and keys were renewed"),
                Err(error) => {
                    tracing::error!(%error, "the front's certificate and keys can't be renewed");
                }
            }
        }
    }
}

impl Identity {
    /// Takes what another process has changed. When the document can't be had, that is logged, and what is known stays.
    pub async fn refresh(&self) {
        let asked = Instant::now();
        let changing = timeout(PATIENCE, self.0.changing.lock());
        let Ok(_changing) = changing.await else {
            return;
        };
        // Many who wait for the same look need it only once.
        if self.looked().at < asked {
            self.look().await;
        }
    }

    /// Looks at the document if that was long ago, and nobody is at it.
    pub(super) async fn refresh_now_and_then(&self) {
        {
            let mut looked = self.looked();
            if looked.at.elapsed() < LOOK {
                return;
            }
            looked.at = Instant::now();
        }
        // In a task of its own: neither a slow storage nor a client that goes away ends it.
        let identity = self.clone();
        let look = tokio::spawn(async move {
            if let Ok(_changing) = identity.0.changing.try_lock() {
                identity.look().await;
            }
        });
        let _ = timeout(BRIEFLY, look).await;
    }

    /// Whoever calls it holds `changing`.
    async fn look(&self) {
        self.looked().at = Instant::now();
        let failure = match timeout(PATIENCE, self.0.storage.load()).await {
            Err(_) => Some(format!("no answer within {} seconds", PATIENCE.as_secs())),
            Ok(Err(error)) => Some(error.to_string()),
            Ok(Ok(None)) => Some("they are gone".to_owned()),
            Ok(Ok(Some(kept))) => self.take(kept).err().map(|error| error.to_string()),
        };
        let mut looked = self.looked();
        // Once for each kind of failure, not every second.
        if looked.failure != failure {
            let place = self.0.storage.place();
            if let Some(error) = &failure {
                tracing::error!(
                    %error,
                    "the identities in {place} can't be taken; those that are known stay in force"
                );
            } else {
                tracing::info!("the identities in {place} can be taken again");
            }
            looked.failure = failure;
        }
    }

    fn take(&self, kept: Kept) -> Result<(), IdentityError> {
        let last = self.state();
        if last.version.as_ref() == Some(&kept.version) {
            self.looked().older_since = None;
            return Ok(());
        }
        let document = Document::read(&kept.document, &self.0.storage.place())?;
        if document.generation < last.document.generation {
            // One that is behind catches up. A copy that was brought back stays, and what is changed in it has no effect here:
            // it might bring back those who were sent away, so it is not simply taken.
            let since = *self.looked().older_since.get_or_insert_with(Instant::now);
            if since.elapsed() < BEHIND {
                return Ok(());
            }
            return Err(self.older(&document, &last));
        }
        self.looked().older_since = None;
        let issuer = self.0.purpose.issuer();
        let mut state = State::of(document, issuer, Some(&last), Timestamp::now())?;
        state.version = Some(kept.version);
        self.0.state.send_replace(Arc::new(state));
        Ok(())
    }

    fn older(&self, found: &Document, last: &State) -> IdentityError {
        IdentityError::Older {
            place: self.0.storage.place(),
            found: found.generation,
            known: last.document.generation,
        }
    }

    /// Changes the document: `change` is applied to it as it is now, again and again until nobody else was faster.
    pub(super) async fn change<T>(
        &self,
        change: impl Fn(&mut Document, Timestamp) -> Result<T, IdentityError>,
    ) -> Result<T, IdentityError> {
        let _changing = self.0.changing.lock().await;
        let storage = &self.0.storage;
        let place = storage.place();
        let mut failure = IdentityError::Contended {
            place: place.clone(),
        };
        for attempt in 0..TRIES {
            if attempt > 0 {
                // Two that were in each other's way are not again.
                let spread = Duration::from_micros(u64::from(
                    Timestamp::now().subsec_nanosecond().unsigned_abs() % 5000,
                ));
                sleep(PAUSE * attempt.min(10) + spread).await;
            }
            let now = Timestamp::now();
            let last = self.state();
            let kept = storage
                .load()
                .await?
                .ok_or_else(|| IdentityError::Missing {
                    place: place.clone(),
                })?;
            let mut document = Document::read(&kept.document, &place)?;
            if document.generation < last.document.generation {
                failure = self.older(&document, &last);
                continue;
            }
            let done = change(&mut document, now)?;
            document.generation = document.generation.saturating_add(1);
            let bytes = document.write(&place)?;
            // Nothing is written that couldn't be used.
            let mut state = State::of(document, self.0.purpose.issuer(), Some(&last), now)?;
            match storage.save(&bytes, Some(&kept.version)).await {
                Ok(version) => {
                    state.version = Some(version);
                    self.0.state.send_replace(Arc::new(state));
                    return Ok(done);
                }
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(failure)
    }

    /// Lays out what clients are to trust.
    pub(super) async fn publish(&self) -> Result<(), IdentityError> {
        Ok(self.0.storage.publish(&self.authority_pem()).await?)
    }

    fn is_due(&self) -> bool {
        match &self.0.purpose {
            Purpose::Serve {
                subscription,
                names,
                ..
            } => self
                .state()
                .document
                .is_due(*subscription, names, Timestamp::now()),
            Purpose::Administer => false,
        }
    }

    /// Makes the document fit for this server, and renews what runs out.
    pub(super) async fn bring_up_to_date(&self) -> Result<(), IdentityError> {
        let Purpose::Serve {
            subscription,
            names,
            ..
        } = &self.0.purpose
        else {
            return Ok(());
        };
        if !self.is_due() {
            return Ok(());
        }
        // Another replica may have done it in the meantime; then nothing is due any more.
        self.change(|document, now| document.bring_up_to_date(*subscription, names, now))
            .await
    }
}
