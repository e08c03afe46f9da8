//! What the cluster takes the node to have.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use device_plugin::Resource;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;

/// How often the node is looked at. What is counted wrong was left by an agent before this one, for the most part, and
/// is seen at the first look.
const REFRESH: Duration = Duration::from_mins(5);

/// Publishes which extended resources the cluster takes the node to have, until `stop`.
pub(crate) async fn follow(
    mut connection: Connection,
    counted: watch::Sender<Arc<BTreeSet<Resource>>>,
    stop: CancellationToken,
) {
    let mut pauses = cluster::backoff();
    loop {
        let look = async {
            let client = connection.now()?;
            client.resources().await.map_err(|error| error.to_string())
        };
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = look => looked,
        };
        let pause = match looked {
            Ok(names) => {
                let now = Arc::new(extended(&names));
                counted.send_if_modified(|before| {
                    let changed = *before != now;
                    *before = now;
                    changed
                });
                pauses = cluster::backoff();
                REFRESH
            }
            Err(error) => {
                tracing::debug!(error, "what the node is said to have is not known");
                pauses.next().unwrap_or(REFRESH)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = connection.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The names with a domain: all others are Kubernetes' own, such as `cpu`.
fn extended(names: &BTreeSet<String>) -> BTreeSet<Resource> {
    let extended = names.iter().filter(|name| name.contains('/'));
    extended.filter_map(|name| name.parse().ok()).collect()
}
