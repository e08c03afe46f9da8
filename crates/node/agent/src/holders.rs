//! Which pods hold which slices, as the kubelet tells.

use std::path::Path;
use std::time::Duration;

use kubelet_api::pod_resources::v1::ListPodResourcesRequest;
use kubelet_api::pod_resources::v1::pod_resources_lister_client::PodResourcesListerClient;
use kubelet_api::uds;
use partition::Holder;

/// How long the kubelet may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer that is taken: a large node's is well over gRPC's ordinary 4 MiB.
const LARGEST: usize = 16 << 20;

/// The holders of every device of every pod. A kubelet that is not there holds nothing: its socket is missing until
/// it has started once.
///
/// # Errors
/// When the kubelet is there and does not say: destroying a slice would then be a guess.
pub(crate) fn holders(socket: &Path) -> Result<Vec<Holder>, String> {
    if !socket.exists() {
        return Ok(Vec::new());
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

async fn list(socket: &Path) -> Result<Vec<Holder>, String> {
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
    let mut holders = Vec::new();
    for pod in pods {
        let who = format!("pod {}/{}", pod.namespace, pod.name);
        let devices = pod
            .containers
            .iter()
            .flat_map(|container| &container.devices);
        for id in devices.flat_map(|device| &device.device_ids) {
            holders.push(Holder::of_device(id, who.clone()));
        }
    }
    Ok(holders)
}
