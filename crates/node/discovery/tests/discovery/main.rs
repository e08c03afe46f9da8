//! The labels of nodes, over the simulated driver.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

// The name that the workspace reads the crate by.
extern crate migpool_discovery as discovery;

mod bounds;
mod node;
mod odd;
mod snapshots;
