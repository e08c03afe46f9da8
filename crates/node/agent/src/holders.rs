//! Which pods hold which devices, as the kubelet tells.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use kubelet_api::pod_resources::v1::ListPodResourcesRequest;
use kubelet_api::pod_resources::v1::pod_resources_lister_client::PodResourcesListerClient;
use kubelet_api::uds;
use partition::Holder;
use serde::{Deserialize, Serialize};

/// How long the kubelet may take.
const PATIENCE: Duration = Duration::from_secs(10);

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
    pods: Vec<(Pod, Vec<String>)>,
}

impl Holders {
    /// As the partitioner wants them.
    pub(crate) fn to_partition(&self) -> Vec<Holder> {
        self.pods
            .iter()
            .flat_map(|(pod, devices)| {
                let who = who(pod);
                devices
                    .iter()
                    .map(move |id| Holder::of_device(id, who.clone()))
            })
            .collect()
    }

    /// The pod that a holder is, if it is one.
    pub(crate) fn pod(&self, holder: &Holder) -> Option<&Pod> {
        let mut pods = self.pods.iter().map(|(pod, _)| pod);
        pods.find(|pod| who(pod) == holder.who)
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
        let mut devices: Vec<String> = pod
            .containers
            .into_iter()
            .flat_map(|container| container.devices)
            .flat_map(|devices| devices.device_ids)
            .collect();
        devices.sort();
        let pod = Pod {
            namespace: pod.namespace,
            name: pod.name,
        };
        (pod, devices)
    });
    // In an order of their own, so that two lists can be compared.
    let mut pods: Vec<_> = pods.collect();
    pods.sort();
    Ok(Holders { pods })
}
