//! The model of node pools: validation and reconcile as pure functions
#![forbid(unsafe_code)]
