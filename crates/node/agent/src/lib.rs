//! What runs on a GPU node: partition, device plugin and feature discovery over one watched inventory.
//!
//! One thread, the *owner*, holds NVML: it loads the driver, brings the GPUs to the wanted layout, waits for
//! driver events, and publishes an inventory and a health on watch channels whenever they change. Everything
//! else reads those channels: the device plugin, the labels, the [`Status`] file and the optional HTTP address
//! with `/healthz`, `/readyz` and `/metrics`. [`run`] is all of it, with the parts that its [`AgentConfig`]
//! asks for. [`Settings`] are NVIDIA's flags, wherever they come from; [`ConfigFile`] is NVIDIA's file of them.
//!
//! The owner outlives the driver: `schedule` decides when to look, when to try the layout and when to load the driver
//! anew, `events` keeps watching across event sets, and what was published stays published as failed while the driver
//! does not answer.
//!
//! The wanted layout may change: `wanted` follows its file. What to do then is decided by `drain`, a pure function of
//! the partitioner's survey: slices that have to go are held back, their users are waited for, or evicted by
//! `evictions`, and only then is anything changed. What the cluster is told of the node is another pure function of the
//! [`Status`], in `node_report`; `node_status` writes it. The API server may be away for hours meanwhile. `counted` looks what the
//! cluster takes the node to have, so that the device plugin can put it right.
//!
//! Where an operator runs, a pool may have the node: `gpu_node` watches the node's `GpuNode`, and what it wants is a
//! `wish` that goes before the flags and the files. Another layout restarts nothing; another strategy or another way to
//! drain starts the parts anew (`configured`). What the operator is told is one more pure function of the [`Status`], in
//! `gpu_node_status`. The wish seen last is kept in a file, so that it is followed while the API server is away.
//!
//! A node without a GPU or a driver is no failure: the agent idles, says so, and picks the driver up when it
//! appears. Nor is a configuration that is wrong for a while ([`run_configured`]): the agent is not ready, says why,
//! and goes on when it is right. At the end it takes away what it left on the node: labels, taint, conditions, sockets
//! and CDI specifications. What was killed leaves that to its successor. Pods that run need none of it: only a container
//! that is started anew in its pod between one agent and the next finds no specification, and the kubelet tries again.
#![forbid(unsafe_code)]

mod config;
mod config_file;
mod configured;
mod connection;
mod counted;
mod discover;
mod drain;
mod driver;
mod events;
mod evictions;
mod file_watch;
mod gpu_node;
mod gpu_node_status;
mod hardware;
mod holders;
mod http;
mod inventories;
mod label_target;
mod lifeline;
mod metrics;
mod node_report;
mod node_status;
mod observation;
mod owner;
mod partitioning;
mod parts;
mod presence;
mod pulse;
mod reporter;
mod run;
mod schedule;
mod settings;
mod status;
mod status_file;
mod wanted;
mod wish;
mod xid;

use std::path::Path;

pub use config::{AgentConfig, Discovery, PartitionConfig};
pub use config_file::{ConfigFile, ConfigFileError};
pub use configured::run_configured;
pub use connection::ClusterConfig;
pub use drain::{Drain, ParseDrainError};
pub use driver::{DriverError, DriverRoot, DriverSearch};
pub use evictions::{EvictionState, EvictionStatus};
pub use holders::Pod;
pub use label_target::{LabelsError, LabelsOutput};
pub use observation::{Asked, Blocker, Driver, PartitionStatus, PartitionStep};
pub use run::{Error, run};
pub use settings::{
    Defaults, OutputKind, ParseIntervalError, ParseOutputError, Settings, SleepInterval,
};
pub use status::{ClusterStatus, DiscoveryStatus, FaultStatus, GpuNodeLink, Phase, Status};
pub use wanted::LayoutSource;

/// One look at the GPUs of the driver under a root, for commands that need no agent.
///
/// # Errors
/// When there is no driver, or it does not answer.
pub fn probe(driver_root: &Path) -> Result<nvml::Inventory, nvml::Error> {
    nvml::Nvml::load(driver_root)?.inventory()
}
