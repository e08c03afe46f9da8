//! Nodes without GPUs, for pools whose VM size has none. No agent has to run there.
//!
//! A size with GPUs is told by the GPUs; of other machines Kubernetes says little that could be held against a size. So a pool
//! takes a node without GPUs whose label names its size, or no size that is known; and a pool of the size that nobody chose
//! (`az aks create` leaves it open) takes any. The control plane's nodes are for pools of mode System, which run the cluster's
//! own pods, and only when there is no other.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use pool::{Candidate, Candidates, NodePoolSpec, PoolMode, VmSize, vm_size};

use super::{INSTANCE_TYPE, Pair, allocatable, boards, in_words, is_ready};

/// Labels by which the control plane's nodes are known.
const CONTROL_PLANE: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];

/// Labels by which a node is known to have NVIDIA's GPUs before its agent has looked.
const WITH_GPUS: [&str; 3] = [
    "nvidia.com/gpu.present",
    "feature.node.kubernetes.io/pci-10de.present",
    "migpool.dev/simulated-driver",
];

/// Which nodes the pool may take: those of its size first, the control plane's last.
pub(super) fn candidates<'p>(
    spec: &NodePoolSpec,
    pairs: impl Iterator<Item = &'p Pair>,
    without_agent: impl Iterator<Item = Arc<Node>>,
) -> Candidates {
    let mut candidates = Candidates::default();
    let mut fitting = Vec::new();
    let nodes = pairs.filter_map(|pair| Some((pair.node.clone()?, Some(pair))));
    for (node, pair) in nodes.chain(without_agent.map(|node| (node, None))) {
        let name = node.name_any();
        match fits(spec, &node, pair) {
            Ok(candidate) => fitting.push((
                is_of_control_plane(&node),
                !is_of_size(spec, &node),
                candidate,
            )),
            Err(reason) => candidates.reject(&name, reason),
        }
    }
    fitting.sort_by(|a, b| (a.0, a.1, &a.2.name).cmp(&(b.0, b.1, &b.2.name)));
    candidates.fitting = fitting.into_iter().map(|(_, _, it)| it).collect();
    candidates
}

fn fits(spec: &NodePoolSpec, node: &Node, pair: Option<&Pair>) -> Result<Candidate, String> {
    if let Some(pool) = pair.and_then(|pair| pair.gpu_node.spec.pool.as_ref()) {
        return Err(format!("it is in node pool {}", pool.name));
    }
    let status = pair.and_then(|pair| pair.gpu_node.status.as_ref());
    let boards = status.map(boards).unwrap_or_default();
    if !boards.is_empty() {
        let has = in_words(&boards);
        return Err(format!("it has {has}, and a {} has no GPU", spec.vm_size()));
    }
    let is_known = |label: &&str| node.labels().get(*label).is_some_and(|it| it == "true");
    if allocatable(node).values().any(|count| *count > 0) || WITH_GPUS.iter().any(is_known) {
        return Err(format!("it has GPUs, and a {} has none", spec.vm_size()));
    }
    if let Some(size) = known_size(node)
        && !is_of_size(spec, node)
        && (size.gpus.is_some() || !spec.vm_size().eq_ignore_ascii_case(vm_size::DEFAULT))
    {
        return Err(format!("its size is {}", size.name));
    }
    if node.metadata.deletion_timestamp.is_some() {
        return Err("it is being deleted".to_owned());
    }
    if !is_ready(node) {
        return Err("it is not Ready".to_owned());
    }
    if is_of_control_plane(node) && spec.mode != PoolMode::System {
        return Err(
            "it is of the control plane, and those are for pools of mode System".to_owned(),
        );
    }
    Ok(Candidate {
        name: node
            .name_any()
            .parse()
            .map_err(|error| format!("{error}"))?,
        vm_size: spec.vm_size().to_owned(),
    })
}

fn known_size(node: &Node) -> Option<&'static VmSize> {
    let has = node.labels().get(INSTANCE_TYPE)?;
    VmSize::find(has).ok()
}

fn is_of_size(spec: &NodePoolSpec, node: &Node) -> bool {
    known_size(node).is_some_and(|size| size.name.eq_ignore_ascii_case(spec.vm_size()))
}

fn is_of_control_plane(node: &Node) -> bool {
    let labels = node.labels();
    CONTROL_PLANE
        .iter()
        .any(|label| labels.contains_key(*label))
}

#[cfg(test)]
mod tests {
    use gpu_node::{GpuNode, GpuNodeSpec, GpuNodeStatus, Phase, PoolReference};
    use pool::NodePoolInput;
    use serde_json::{Value, json};

    use super::*;

    fn spec(size: &str, mode: &str) -> NodePoolSpec {
        let input = NodePoolInput {
            vm_size: Some(size.to_owned()),
            mode: Some(mode.to_owned()),
            count: Some(1),
            ..NodePoolInput::default()
        };
        pool::validation::node_pool(&input, None).unwrap()
    }

    fn node(name: &str, labels: &Value) -> Arc<Node> {
        let node = json!({
            "metadata": {"name": name, "labels": labels},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn found(spec: &NodePoolSpec, nodes: &[Arc<Node>]) -> (Vec<String>, String) {
        let found = candidates(spec, std::iter::empty(), nodes.iter().cloned());
        let fitting = found.fitting.iter().map(|it| it.name.to_string());
        (fitting.collect(), found.why_not())
    }

    fn nodes() -> Vec<Arc<Node>> {
        vec![
            node(
                "a-control",
                &json!({"node-role.kubernetes.io/control-plane": ""}),
            ),
            node("b-big", &json!({INSTANCE_TYPE: "Standard_D8s_v5"})),
            node("c-plain", &json!({INSTANCE_TYPE: "k3s"})),
            node("d-default", &json!({INSTANCE_TYPE: "standard_ds2_V2"})),
            node("e-gpus", &json!({"nvidia.com/gpu.present": "true"})),
            node("f-gpus", &json!({INSTANCE_TYPE: "Standard_ND96asr_v4"})),
        ]
    }

    #[test]
    fn the_size_that_nobody_chose_takes_any_node_without_gpus_and_the_control_planes_last() {
        let (fitting, why_not) = found(&spec(vm_size::DEFAULT, "System"), &nodes());
        assert_eq!(fitting, ["d-default", "b-big", "c-plain", "a-control"]);
        assert!(why_not.contains("e-gpus: it has GPUs"), "{why_not}");
        assert!(
            why_not.contains("f-gpus: its size is Standard_ND96asr_v4"),
            "{why_not}"
        );
    }

    #[test]
    fn a_size_that_was_chosen_takes_its_own_and_those_that_say_nothing_of_size() {
        let (fitting, why_not) = found(&spec("Standard_D8s_v5", "User"), &nodes());
        assert_eq!(fitting, ["b-big", "c-plain"]);
        assert!(
            why_not.contains("a-control: it is of the control plane"),
            "{why_not}"
        );
        assert!(
            why_not.contains("d-default: its size is Standard_DS2_v2"),
            "{why_not}"
        );
    }

    #[test]
    fn a_node_whose_agent_found_gpus_or_that_another_pool_has_does_not_fit() {
        let pair = |spec: GpuNodeSpec, gpus: Value| {
            let mut object = GpuNode::new("x", spec);
            object.status = Some(GpuNodeStatus {
                phase: Phase::Idle,
                gpus: serde_json::from_value(gpus).unwrap(),
                ..GpuNodeStatus::default()
            });
            Pair {
                node: Some(node("x", &json!({}))),
                gpu_node: Arc::new(object),
            }
        };
        let wanted = spec(vm_size::DEFAULT, "System");
        let why_not = |pair: &Pair| {
            let found = candidates(&wanted, std::iter::once(pair), std::iter::empty());
            (found.fitting.len(), found.why_not())
        };
        assert_eq!(why_not(&pair(GpuNodeSpec::default(), json!([]))).0, 1);
        let gpu = json!([{"index": 0, "board": "A100-40GB", "healthy": true}]);
        let with_gpu = why_not(&pair(GpuNodeSpec::default(), gpu)).1;
        assert!(with_gpu.contains("1 x A100-40GB"), "{with_gpu}");
        let taken = GpuNodeSpec {
            pool: Some(PoolReference {
                name: "other".to_owned(),
                uid: "u".to_owned(),
            }),
            ..GpuNodeSpec::default()
        };
        let taken = why_not(&pair(taken, json!([]))).1;
        assert_eq!(taken, "x: it is in node pool other");
    }
}
