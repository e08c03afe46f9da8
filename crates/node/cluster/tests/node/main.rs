//! The requests that go over the wire, against a server that answers as a Kubernetes 1.37 does.
#![allow(
    clippy::unwrap_used,
    reason = "outside of the test functions, too: helpers of tests alone"
)]

mod api_server;
mod events;
mod evictions;
mod failures;
mod gpu_node;
mod labels;
mod node_feature;
mod status;
