//! Node pools: what a person asks for with `NodePool` objects, and what comes of it, on nodes with simulated boards and on
//! simulated nodes.

mod absences;
mod adoption;
mod cluster_api;
mod kills;
mod leaders;
mod refusals;
mod rights;
mod rollout;
mod upgrade;

use crate::suite::Test;

/// What a pool is, and what is refused.
pub(crate) fn tests() -> Vec<Test> {
    [adoption::TESTS, refusals::TESTS].concat()
}

/// What becomes of pools that change, and of those who work on them.
pub(crate) fn changes() -> Vec<Test> {
    [
        rollout::TESTS,
        kills::TESTS,
        leaders::TESTS,
        absences::TESTS,
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
