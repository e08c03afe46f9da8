//! Pods: manifests, where they run, and their processes.

pub mod container;
pub mod manifest;
pub mod runner;
pub mod scheduler;
pub mod shim;
