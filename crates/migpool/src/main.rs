//! Multi-instance GPU node pools for any Kubernetes
#![forbid(unsafe_code)]

fn main() {}
