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
//! A node without a GPU or a driver is no failure: the agent idles, says so, and picks the driver up when it
//! appears.
#![forbid(unsafe_code)]

mod config;
mod config_file;
mod discover;
mod events;
mod holders;
mod http;
mod inventories;
mod lifeline;
mod metrics;
mod observation;
mod owner;
mod partitioning;
mod run;
mod schedule;
mod settings;
mod status;
mod status_file;

use std::path::Path;

pub use config::{AgentConfig, Discovery, LabelsOutput, PartitionConfig};
pub use config_file::{ConfigFile, ConfigFileError};
pub use observation::{Driver, PartitionStatus};
pub use run::{Error, run};
pub use settings::{Defaults, ParseIntervalError, Settings, SleepInterval};
pub use status::{DiscoveryStatus, FaultStatus, Phase, Status};

/// One look at the GPUs of the driver under a root, for commands that need no agent.
///
/// # Errors
/// When there is no driver, or it does not answer.
pub fn probe(driver_root: &Path) -> Result<nvml::Inventory, nvml::Error> {
    nvml::Nvml::load(driver_root)?.inventory()
}
