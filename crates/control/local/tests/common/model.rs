//! The cluster, node and pods that the tests and their helper program speak of.
#![allow(dead_code, clippy::expect_used)]

use pool::{ClusterKey, GroupKey, NodeName, NodeSpec, PoolKey, SubscriptionId};

/// How many devices the helper's agent advertises.
pub(crate) const DEVICES: usize = 56;

/// The cluster.
pub(crate) fn cluster() -> ClusterKey {
    let group = GroupKey {
        subscription: SubscriptionId::local(),
        group: "group".parse().expect("group"),
    };
    ClusterKey {
        group,
        cluster: "cluster".parse().expect("cluster"),
    }
}

/// The first node of its GPU pool.
pub(crate) fn node() -> NodeSpec {
    let pool = PoolKey {
        cluster: cluster(),
        pool: "mignode".parse().expect("pool"),
    };
    NodeSpec {
        name: NodeName::of(&pool, 0),
        pool,
        vm_size: "Standard_ND96asr_v4".to_owned(),
        layout: Some("MIG1g".parse().expect("layout")),
        mig_strategy: mig::MigStrategy::Single,
        labels: std::collections::BTreeMap::new(),
        taints: vec![],
        drain: pool::Drain::default(),
    }
}

/// A pod that says which device it got and sleeps.
pub(crate) fn sleeper(name: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: main
    image: nvidia/cuda:12.1.1-base-ubuntu22.04
    command: [sh, -c]
    args: ["echo started with $NVIDIA_VISIBLE_DEVICES; sleep 1000"]
    resources: {{limits: {{nvidia.com/gpu: 1}}}}
"#
    )
}
