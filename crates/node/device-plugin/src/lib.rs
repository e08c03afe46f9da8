//! Advertises GPUs and MIG slices to the kubelet, hands them to containers, and says which are healthy.
//!
//! A pure core decides, a thin shell talks. The core: [`Fleet`] is what is known of the node's GPUs, the lost
//! ones included; [`resources`] turns it into [`AdvertisedDevice`]s under a MIG strategy; [`Table`] is one
//! resource's devices, looked up by id; [`allocate`] answers what a container needs, [`preferred`] which
//! devices it had better get; [`Monitor`] turns driver events into [`Health`] and back into health again.
//! The shell, [`run`]: one gRPC [`Service`] per resource on a socket of its own, registered with the kubelet
//! again whenever the kubelet is restarted, fed from watch channels. It never calls NVML: what a container
//! gets was known before it asked.
#![forbid(unsafe_code)]

mod advertise;
mod allocate;
mod cdi;
mod config;
mod device;
mod device_nodes;
mod driver_files;
mod fleet;
mod health;
mod health_checks;
mod kubelet;
mod manager;
mod monitor;
mod preferred;
mod registration;
mod resource;
mod service;
mod status;
mod table;
#[cfg(test)]
mod test_support;

pub use advertise::{Advertisement, StrategyError, resources};
pub use allocate::{AllocateError, allocate};
pub use cdi::CdiError;
pub use config::{Config, DeviceIdStrategy, DeviceListStrategy, NodeFolder, ParseStrategyError};
pub use device::{AdvertisedDevice, DeviceHealth, Slice};
pub use device_nodes::ControlNodes;
pub use fleet::{Fleet, KnownGpu};
pub use health::{Fault, Health, Location};
pub use health_checks::{HealthChecks, ParseXidsError, Xids};
pub use manager::{Error, run};
pub use monitor::{Monitor, Recovery};
pub use preferred::preferred;
pub use resource::{ParseResourceError, Renaming, Resource};
pub use service::Service;
pub use status::{PluginStatus, Registration, ResourceStatus, UnhealthyDevice};
pub use table::Table;
