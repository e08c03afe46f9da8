//! The front as an HTTP client sees it.
#![allow(
    clippy::unwrap_used,
    clippy::similar_names,
    reason = "a test may panic"
)]

mod agent_pool;
mod api_version;
mod asked_again;
mod common;
mod conditions;
mod conformance;
mod credential;
mod deployment;
mod fuzz;
mod managed_cluster;
mod nesting;
mod openapi;
mod paging;
mod pool_operations;
mod pool_properties;
mod redeployment;
mod resource_group;
mod resources;
mod socket;
mod subscription;
mod unread;
