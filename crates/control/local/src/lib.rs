//! Node pools on one machine, with no cluster: what stands in for Kubernetes where there is none.
//!
//! [`up`](up::up) opens a state folder ([`state_folder`]), a SQLite store in it ([`store`]) and a
//! Unix socket on which [`arm`] answers, and then keeps three things as the store says they are:
//!
//! * **nodes** ([`node`]): a folder each, with a simulated driver root where the machine has no
//!   GPU, and one `migpool agent` child process that partitions its GPUs and advertises them;
//! * **the kubelet's side of the device plugin** ([`kubelet`]): a device manager per node that
//!   speaks v1beta1 with the agent's plugins and answers the pod resources API;
//! * **pods** ([`pod`]): ordinary manifests, run as plain processes of this machine under a small
//!   shim each, found again after a restart.
//!
//! Everything is crash-only. A change is one transaction in the store before anything happens in
//! the world, and every start is an adoption of what the last run left, however it ended. So a
//! slice is never given twice.
#![forbid(unsafe_code)]

pub mod backend;
mod engine;
pub mod kubelet;
pub mod node;
pub mod pod;
pub mod process;
pub mod state_folder;
pub mod store;
pub mod up;

pub use pod::shim;
pub use up::{BesideError, Running, UpConfig, UpError, up, up_beside};
