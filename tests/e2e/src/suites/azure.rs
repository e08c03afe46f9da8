//! The article with its own commands: the real az, the Python SDK, curl, `kubectl` and `helm`.

mod accounts;
mod article;
mod clusters;
mod crowd;
mod deployments;
mod failures;
mod node_pools;
mod on_cluster;
mod openapi;
mod rarely;
mod rights;
mod sdk;
mod sign_in;
mod versions;

use crate::suite::{Alone, Test};

/// On one machine, without a Kubernetes.
pub(super) fn alone() -> Vec<Alone> {
    [
        article::ALONE,
        accounts::ALONE,
        clusters::ALONE,
        node_pools::ALONE,
        failures::ALONE,
        rarely::ALONE,
        deployments::ALONE,
        versions::ALONE,
        sdk::ALONE,
        sign_in::ALONE,
        crowd::ALONE,
        openapi::ALONE,
    ]
    .concat()
}

/// On a cluster.
pub(super) fn tests() -> Vec<Test> {
    [
        article::TESTS,
        on_cluster::TESTS,
        failures::TESTS,
        sdk::TESTS,
        versions::TESTS,
        openapi::TESTS,
        crowd::TESTS,
        rights::TESTS,
    ]
    .concat()
}

/// Which group and cluster az's `aks` commands are about.
const AT_CLUSTER: &str = "--resource-group myResourceGroup --name myAKSCluster";

/// The same for `aks nodepool`.
const IN_CLUSTER: &str = "--resource-group myResourceGroup --cluster-name myAKSCluster";
