//! Which pods hold which devices, as the kubelet tells.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kubelet_api::pod_resources::v1::ListPodResourcesRequest;
use kubelet_api::pod_resources::v1::pod_resources_lister_client::PodResourcesListerClient;
use kubelet_api::uds;
use partition::Holder;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Status;

/// How long the kubelet may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the kubelet is asked though nothing has changed here, and how often at most.
const REREAD: Duration = Duration::from_secs(10);
const SPACING: Duration = Duration::from_secs(1);

/// The largest answer that is taken: a large node's is well over gRPC's ordinary 4 MiB.
const LARGEST: usize = 16 << 20;

/// A pod, as far as the kubelet's word goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Who holds devices: pods, under the names that they have as holders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holders {
    pods: Vec<(Pod, Vec<Container>)>,
}

/// A container, and the devices that it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) devices: Vec<String>,
}

impl Holders {
    /// As the partitioner wants them.
    pub(crate) fn to_partition(&self) -> Vec<Holder> {
        self.devices()
            .map(|(pod, _, id)| Holder::of_device(id, who(pod)))
            .collect()
    }

    /// Who holds the device of this UUID, or one of its replicas: the first of them.
    pub(crate) fn of_device(&self, uuid: &str) -> Option<(&Pod, &str)> {
        let is_it = |id: &str| id.split("::").next() == Some(uuid);
        let mut devices = self.devices();
        let (pod, container, _) = devices.find(|(_, _, id)| is_it(id))?;
        Some((pod, container))
    }

    fn devices(&self) -> impl Iterator<Item = (&Pod, &str, &str)> {
        self.pods.iter().flat_map(|(pod, containers)| {
            containers.iter().flat_map(move |container| {
                let ids = container.devices.iter();
                ids.map(move |id| (pod, container.name.as_str(), id.as_str()))
            })
        })
    }

    /// The pod that a holder is, if it is one.
    pub(crate) fn pod(&self, holder: &Holder) -> Option<&Pod> {
        let mut pods = self.pods.iter().map(|(pod, _)| pod);
        pods.find(|pod| who(pod) == holder.who)
    }

    /// Who holds these devices.
    #[cfg(test)]
    pub(crate) fn new(pods: Vec<(Pod, Vec<Container>)>) -> Self {
        Self { pods }
    }
}

fn who(pod: &Pod) -> String {
    format!("pod {pod}")
}

/// The holders of every device of every pod. A kubelet that is not there holds nothing: its socket is missing until
/// it has started once.
///
/// # Errors
/// When the kubelet is there and does not say: destroying a slice would then be a guess.
pub(crate) fn holders(socket: &Path) -> Result<Holders, String> {
    if !socket.exists() {
        return Ok(Holders::default());
    }
    // The owner thread has no runtime of its own, and must not lean on one that may be shutting down.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot ask the kubelet which pods hold slices: {error}"))?;
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, list(socket)).await })
        .unwrap_or_else(|_| Err(format!("no answer for {} seconds", PATIENCE.as_secs())))
        .map_err(|reason| {
            format!(
                "the kubelet does not say which pods hold slices ({}): {reason}",
                socket.display()
            )
        })
}

async fn list(socket: &Path) -> Result<Holders, String> {
    let channel = match uds::connect(socket).await {
        Ok(channel) => channel,
        Err(error) => return Err(error.to_string()),
    };
    let pods = PodResourcesListerClient::new(channel)
        .max_decoding_message_size(LARGEST)
        .list(ListPodResourcesRequest {})
        .await
        .map_err(|status| status.message().to_owned())?
        .into_inner()
        .pod_resources;
    let pods = pods.into_iter().map(|pod| {
        let containers = pod.containers.into_iter().filter_map(|container| {
            let devices = container.devices.into_iter();
            let mut devices: Vec<String> = devices.flat_map(|it| it.device_ids).collect();
            devices.sort();
            (!devices.is_empty()).then_some(Container {
                name: container.name,
                devices,
            })
        });
        let mut containers: Vec<_> = containers.collect();
        containers.sort();
        let pod = Pod {
            namespace: pod.namespace,
            name: pod.name,
        };
        (pod, containers)
    });
    // In an order of their own, so that two lists can be compared.
    let mut pods: Vec<_> = pods.collect();
    pods.sort();
    Ok(Holders { pods })
}

/// Publishes who holds what from now on until `stop`: asked for from time to time, and when something has changed here.
/// While the kubelet does not say, what it said last holds.
pub(crate) fn follow(
    socket: PathBuf,
    mut status: watch::Receiver<Arc<Status>>,
    stop: CancellationToken,
) -> watch::Receiver<Holders> {
    let (sender, receiver) = watch::channel(Holders::default());
    tokio::spawn(async move {
        loop {
            status.mark_unchanged();
            if socket.exists() {
                let listed = tokio::select! {
                    () = stop.cancelled() => return,
                    listed = tokio::time::timeout(PATIENCE, list(&socket)) => listed,
                };
                match listed {
                    Ok(Ok(holders)) => drop(sender.send_if_modified(|now| {
                        let changed = *now != holders;
                        *now = holders;
                        changed
                    })),
                    Ok(Err(error)) => tracing::debug!(error, "the kubelet does not list pods"),
                    Err(_) => tracing::debug!("the kubelet does not list pods in time"),
                }
            }
            let next = async {
                tokio::time::sleep(SPACING).await;
                tokio::select! {
                    () = tokio::time::sleep(REREAD) => {}
                    changed = status.changed() => if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = next => {}
            }
        }
    });
    receiver
}
