//! The suites, in the order in which they run. A suite is one file with a list of tests.

mod article;
mod azure;
mod bad_input;
mod faults;
mod isolation;
mod layouts;
mod nodepool;
mod restarts;
mod scale;
mod security;
mod soundness;

use crate::suite::Suite;

/// All of them. Soundness comes first: what it shows is why the others can be believed.
pub(crate) fn all() -> Vec<Suite> {
    vec![
        Suite::new("soundness", soundness::TESTS),
        Suite::new("article", article::TESTS),
        Suite::alone("azure", &azure::alone()).and(&azure::tests()),
        Suite::new("isolation", isolation::TESTS),
        Suite::new("restarts", restarts::TESTS),
        Suite::new("faults", faults::TESTS),
        Suite::new("layouts", layouts::TESTS),
        Suite::new("bad_input", bad_input::TESTS),
        Suite::new("security", security::TESTS),
        Suite::new("nodepool", &nodepool::tests()),
        Suite::new("nodepool_changes", &nodepool::changes()),
        Suite::new("scale", scale::TESTS),
    ]
}
