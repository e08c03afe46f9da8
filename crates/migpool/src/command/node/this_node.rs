//! `migpool node map --this-node`: without a control plane, from the driver and the kubelet of this machine.

use std::path::PathBuf;

use agent::{DriverRoot, DriverSearch};
use clap::Args;
use kubelet_api::holdings;

use crate::failure::Failure;
use crate::node_map::ThisNode;

/// Where this node's driver and kubelet are.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --this-node")]
pub(crate) struct Here {
    /// The folder on the node under which the NVIDIA driver is installed, or `auto`
    #[arg(
        long = "nvidia-driver-root",
        visible_alias = "driver-root",
        value_name = "DIR",
        env = "NVIDIA_DRIVER_ROOT",
        default_value = "/"
    )]
    driver_root: DriverRoot,
    /// Where that folder is seen from here, if at a place of its own
    #[arg(
        long,
        value_name = "DIR",
        env = "CONTAINER_DRIVER_ROOT",
        hide_env_values = true
    )]
    container_driver_root: Option<PathBuf>,
    /// Where the node's `/` is seen from here
    #[arg(
        long,
        value_name = "DIR",
        env = "MIGPOOL_HOST_ROOT",
        default_value = "/"
    )]
    host_root: PathBuf,
    /// The socket of the kubelet's PodResources
    #[arg(
        long,
        value_name = "SOCKET",
        env = "MIGPOOL_POD_RESOURCES_SOCKET",
        default_value = kubelet_api::pod_resources::v1::SOCKET
    )]
    pod_resources_socket: PathBuf,
    /// The node's name [default: the machine's]
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: Option<String>,
}

impl Here {
    /// Looks at the GPUs, and asks who holds them.
    pub(crate) async fn look(&self) -> Result<ThisNode, Failure> {
        let search = DriverSearch {
            host_root: self.host_root.clone(),
            root: self.driver_root.clone(),
            mounted_at: self.container_driver_root.clone(),
        };
        let inventory = search.load().map_err(Failure::of)?.inventory();
        let inventory = inventory.map_err(Failure::of)?;
        let told = holdings::devices(&self.pod_resources_socket).await;
        let node = self.node_name.clone().unwrap_or_else(machine_name);
        Ok(ThisNode::of(
            node,
            &inventory,
            told.map_err(|error| error.to_string()),
        ))
    }
}

fn machine_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
