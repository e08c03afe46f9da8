//! migpool as a person uses it: the program itself, with a real control plane on a folder of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on fails, and says where"
)]

mod article;
mod azure;
mod bad_input;
mod charts;
mod control_plane;
mod faults;
mod full_disk;
mod node_components;
mod nodepool;
mod nodepool_on_cluster;
mod pods;
mod restart;
mod sim_node;
mod simulated;
mod this_node;
