//! Node pools: what a person asks for with `NodePool` objects, and what comes of it, on nodes with simulated boards and on
//! simulated nodes.

mod absences;
mod adoption;
mod cluster_api;
mod kills;
mod leaders;
mod neighbours;
mod refusals;
mod rights;
mod rollout;
mod upgrade;

use crate::suite::Test;

/// What a pool is, what is refused, and how layouts change.
pub(crate) fn tests() -> Vec<Test> {
    [adoption::TESTS, refusals::TESTS, rollout::TESTS].concat()
}

/// What becomes of pools while those who work on them go and come; upgrades, rights and Cluster API.
pub(crate) fn changes() -> Vec<Test> {
    [
        kills::TESTS,
        leaders::TESTS,
        absences::TESTS,
        neighbours::TESTS,
        upgrade::TESTS,
        rights::TESTS,
        cluster_api::TESTS,
    ]
    .concat()
}

/// The VM size whose nodes are as `mignode`: eight A100 40GB.
const A100_SIZE: &str = "Standard_ND96asr_v4";

/// A resource of whole GPUs, and of all slices with strategy `single`.
const RESOURCE: &str = "nvidia.com/gpu";
