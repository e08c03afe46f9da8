//! What is wanted of a pool's nodes.

use std::collections::BTreeMap;

use mig::NodeLayout;

use crate::node::NodeSpec;
use crate::node_name::NodeName;
use crate::resource::NodePool;
use crate::vm_size::VmSize;

/// The layout that the pool's nodes are to have now: the one that is asked for, or the one that they had before if a node
/// could not take it.
#[must_use]
pub fn target_layout(pool: &NodePool) -> Option<NodeLayout> {
    let asked = pool.spec.node_layout();
    match (&pool.rollout.refused, &pool.rollout.settled) {
        (Some(refused), Some(settled)) if refused.layout == asked => settled.layout.clone(),
        _ => asked,
    }
}

/// What is wanted of the node of this name.
#[must_use]
pub fn node_spec(pool: &NodePool, name: NodeName) -> NodeSpec {
    NodeSpec {
        labels: node_labels(pool, &name),
        name,
        pool: pool.key.clone(),
        vm_size: pool.spec.vm_size().to_owned(),
        layout: target_layout(pool),
        mig_strategy: pool.spec.mig_strategy,
        taints: pool.spec.node_taints.clone(),
        drain: pool.spec.drain,
    }
}

/// The pool's labels, and those that AKS gives its nodes.
fn node_labels(pool: &NodePool, name: &NodeName) -> BTreeMap<String, String> {
    let mut labels = pool.spec.node_labels.clone();
    let pool_name = pool.key.pool.to_string();
    let mut put = |key: &str, value: &str| labels.insert(key.to_owned(), value.to_owned());
    put("agentpool", &pool_name);
    put("kubernetes.azure.com/agentpool", &pool_name);
    put(
        "kubernetes.azure.com/cluster",
        pool.key.cluster.cluster.as_str(),
    );
    put(
        "kubernetes.azure.com/mode",
        &pool.spec.mode.to_string().to_ascii_lowercase(),
    );
    put("kubernetes.io/arch", "amd64");
    put("kubernetes.io/hostname", name.as_str());
    put("kubernetes.io/os", "linux");
    put("node.kubernetes.io/instance-type", pool.spec.vm_size());
    // A pool that chooses its nodes by labels has no size to tell it; what is to be cut are GPUs.
    let has_gpus = VmSize::find(pool.spec.vm_size()).is_ok_and(|size| size.gpus.is_some())
        || pool.spec.node_layout().is_some();
    if has_gpus {
        put("accelerator", "nvidia");
        put("kubernetes.azure.com/accelerator", "nvidia");
    }
    labels
}
