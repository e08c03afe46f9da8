//! Pods: manifests, where they run, and their processes.

pub mod shim;
