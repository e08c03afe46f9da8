//! The task that owns a device manager's book.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::ledger::LedgerError;
use super::{DeviceView, Message};

/// How long a plugin that went away is waited for before its devices stop counting (the kubelet's).
const GRACE: Duration = Duration::from_mins(5);

/// Owns the book until the manager ends.
pub(super) async fn own(
    mut inbox: mpsc::UnboundedReceiver<Message>,
    messages: mpsc::WeakUnboundedSender<Message>,
    publish: watch::Sender<Arc<DeviceView>>,
    cancel: CancellationToken,
) {
    let mut view = DeviceView::clone(&publish.borrow());
    loop {
        let message = tokio::select! {
            () = cancel.cancelled() => return,
            message = inbox.recv() => match message {
                Some(message) => message,
                None => return,
            },
        };
        let current = |view: &DeviceView, resource: &str, generation: u64| {
            view.endpoints
                .get(resource)
                .is_none_or(|e| e.generation == generation)
        };
        let mut answers: (Option<oneshot::Sender<Result<(), LedgerError>>>, Option<_>) =
            (None, None);
        let mut held = Ok(());
        match message {
            Message::Registered { resource, endpoint } => {
                tracing::info!(resource, "device plugin registered");
                view.endpoints.insert(resource, endpoint);
            }
            Message::Listed {
                resource,
                generation,
                devices,
            } => {
                if view
                    .endpoints
                    .get(&resource)
                    .is_some_and(|e| e.generation == generation)
                {
                    view.ledger.advertise(&resource, devices);
                }
            }
            Message::StreamEnded {
                resource,
                generation,
            } => {
                if view
                    .endpoints
                    .get(&resource)
                    .is_some_and(|e| e.generation == generation)
                {
                    tracing::warn!(resource, "device plugin is gone");
                    view.endpoints.remove(&resource);
                    view.ledger.stream_ended(&resource);
                    let messages = messages.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(GRACE).await;
                        if let Some(messages) = messages.upgrade() {
                            let _ = messages.send(Message::GraceOver {
                                resource,
                                generation,
                            });
                        }
                    });
                }
            }
            Message::GraceOver {
                resource,
                generation,
            } => {
                // A plugin that has come back since is of a later generation.
                if current(&view, &resource, generation) && !view.serves(&resource) {
                    view.ledger.grace_over(&resource);
                }
            }
            Message::Hold {
                assignments,
                answer,
            } => {
                held = view.ledger.hold(&assignments);
                answers.0 = Some(answer);
            }
            Message::Release { pod_uid, answer } => {
                view.ledger.release(&pod_uid);
                answers.1 = Some(answer);
            }
        }
        // Published before anyone is answered, so that who was answered sees what was done.
        publish.send_replace(Arc::new(view.clone()));
        if let Some(answer) = answers.0
            && answer.send(held).is_err()
        {
            tracing::debug!("nobody waits for the devices any more");
        }
        if let Some(answer) = answers.1 {
            let _ = answer.send(());
        }
    }
}
