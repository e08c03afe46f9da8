//! What the node's `GpuNode` wants, for the rest of the agent.

mod follower;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::connection::Connection;
use crate::holders;
use crate::reporter::changed;
use crate::wish::{Kept, Wish};
use crate::{GpuNodeLink, PartitionConfig, Status};
use follower::{Channels, Follower};

/// The longest wait for the first word of what is wanted, where nothing is known from before.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// What follows the node's `GpuNode`. It ends with this.
pub(crate) struct Link {
    wishes: watch::Receiver<Option<Wish>>,
    state: watch::Receiver<GpuNodeLink>,
    task: JoinHandle<()>,
    stop: DropGuard,
}

impl Link {
    /// Begins to follow it. `status` is what the agent says of itself.
    pub(crate) fn start(
        connection: Connection,
        partition: Option<&PartitionConfig>,
        status: &watch::Sender<Arc<Status>>,
    ) -> Self {
        let stop = CancellationToken::new();
        let kept = partition.map(|partition| Kept::in_folder(&partition.state_dir));
        let (wishes, heard) = watch::channel(kept.as_ref().and_then(Kept::read));
        let (state, told) = watch::channel(GpuNodeLink::default());
        let socket = partition.and_then(|partition| partition.pod_resources.clone());
        let channels = Channels {
            connection,
            status: status.subscribe(),
            holders: socket.map(|it| holders::follow(it, status.subscribe(), stop.clone())),
            wishes,
            state,
        };
        let task = Follower::new(channels, kept, stop.clone());
        Self {
            wishes: heard,
            state: told,
            task: tokio::spawn(task.run()),
            stop: stop.drop_guard(),
        }
    }

    /// Waits until it is known what is wanted, or for a few seconds: a node that a pool has must not be partitioned by
    /// its flags first.
    pub(crate) async fn first_word(&mut self) {
        let known = self.wishes.wait_for(Option::is_some);
        if tokio::time::timeout(FIRST_WORD, known).await.is_err() {
            tracing::warn!(
                "what the GpuNode wants is not known yet, so the agent's own configuration holds"
            );
        }
    }

    /// What is wanted now; `None` while that is not known.
    pub(crate) fn wish(&mut self) -> Option<Wish> {
        self.wishes.borrow_and_update().clone()
    }

    /// Waits until something else is wanted.
    pub(crate) async fn changed(&mut self) {
        changed(Some(&mut self.wishes)).await;
    }

    /// How it stands with the object.
    pub(crate) fn state(&self) -> watch::Receiver<GpuNodeLink> {
        self.state.clone()
    }

    /// Leaves word that the agent has ended, if that does not take long.
    pub(crate) async fn end(self) {
        drop(self.stop);
        // Only a panic ends up here, and was reported where it happened.
        let _ = self.task.await;
    }
}
