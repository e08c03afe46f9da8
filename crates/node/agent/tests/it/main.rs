//! The agent's promises, on a node of simulated GPUs, against a small kubelet and a small API server.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod agent;
mod api_server;
mod cluster;
mod failures;
mod files;
mod gpu_node;
mod gpu_nodes;
#[path = "../../../device-plugin/tests/it/kubelet.rs"]
mod kubelet;
mod node;
mod pod_resources;
