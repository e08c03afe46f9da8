//! Which node a pod goes to: the first, by name, that is ready, matches and has room. Pure. It is no
//! scheduler to be proud of; beyond one machine Kubernetes has a real one.

use std::collections::BTreeMap;

use pool::{Taint, TaintEffect};

use crate::pod::manifest::{PodSpec, Toleration, TolerationOperator};

/// A node as the scheduler sees it.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Whether it takes work.
    pub ready: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// What is free: `cpu` in thousandths, `memory` in bytes, devices by number.
    pub free: BTreeMap<String, u64>,
}

/// The node for a pod, or the scheduler's kind of sentence why there is none.
///
/// # Errors
/// The sentence, such as `0/2 nodes are available: 2 Insufficient nvidia.com/gpu.`
pub fn place<'a>(
    spec: &PodSpec,
    requests: &BTreeMap<String, u64>,
    nodes: &'a [NodeView],
) -> Result<&'a NodeView, String> {
    let mut in_order: Vec<&NodeView> = nodes.iter().collect();
    in_order.sort_by(|a, b| a.name.cmp(&b.name));
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut second_choice = None;
    for node in in_order {
        let against = objections(spec, requests, node);
        if against.is_empty() {
            let preferred = |taint: &&Taint| taint.effect == TaintEffect::PreferNoSchedule;
            if untolerated(spec, node).any(|taint| preferred(&taint)) {
                second_choice = second_choice.or(Some(node));
                continue;
            }
            return Ok(node);
        }
        for reason in against {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    if let Some(node) = second_choice {
        return Ok(node);
    }
    if nodes.is_empty() {
        return Err("no nodes available to schedule pods".to_owned());
    }
    let mut counted: Vec<String> = reasons
        .into_iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    counted.sort();
    Err(format!(
        "0/{} nodes are available: {}.",
        nodes.len(),
        counted.join(", ")
    ))
}

/// Whether a pod that runs must leave a node because of a `NoExecute` taint.
#[must_use]
pub fn is_evicted(spec: &PodSpec, node: &NodeView) -> bool {
    untolerated(spec, node).any(|taint| taint.effect == TaintEffect::NoExecute)
}

// Like the scheduler's filters: the first kind of objection hides the later ones, but every
// missing resource is named.
fn objections(spec: &PodSpec, requests: &BTreeMap<String, u64>, node: &NodeView) -> Vec<String> {
    if spec
        .node_name
        .as_ref()
        .is_some_and(|name| *name != node.name)
    {
        return vec!["node(s) didn't match the requested node name".to_owned()];
    }
    if !node.ready {
        return vec!["node(s) had untolerated taint {node.kubernetes.io/not-ready: }".to_owned()];
    }
    let hard = |taint: &&Taint| taint.effect != TaintEffect::PreferNoSchedule;
    if let Some(taint) = untolerated(spec, node).find(hard) {
        let Taint { key, value, .. } = taint;
        return vec![format!("node(s) had untolerated taint {{{key}: {value}}}")];
    }
    let matches = |(key, value): (&String, &String)| node.labels.get(key) == Some(value);
    if !spec.node_selector.iter().all(matches) {
        return vec!["node(s) didn't match Pod's node affinity/selector".to_owned()];
    }
    let missing = |(name, amount): &(&String, &u64)| {
        node.free.get(*name).copied().unwrap_or_default() < **amount
    };
    requests
        .iter()
        .filter(missing)
        .map(|(name, _)| format!("Insufficient {name}"))
        .collect()
}

fn untolerated<'a>(spec: &PodSpec, node: &'a NodeView) -> impl Iterator<Item = &'a Taint> {
    let tolerations = spec.tolerations.clone();
    node.taints
        .iter()
        .filter(move |taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    if toleration
        .effect
        .is_some_and(|effect| effect != taint.effect)
    {
        return false;
    }
    match (&toleration.key, toleration.operator) {
        (None, TolerationOperator::Exists) => true,
        (None, TolerationOperator::Equal) => false,
        (Some(key), TolerationOperator::Exists) => *key == taint.key,
        (Some(key), TolerationOperator::Equal) => {
            *key == taint.key && toleration.value == taint.value
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::container::RestartPolicy;
    use proptest::prelude::*;

    fn spec() -> PodSpec {
        PodSpec {
            containers: vec![],
            restart_policy: RestartPolicy::Always,
            node_name: None,
            node_selector: BTreeMap::new(),
            tolerations: vec![],
            termination_grace_period_seconds: 30,
        }
    }

    fn node(name: &str, gpus: u64) -> NodeView {
        NodeView {
            name: name.to_owned(),
            ready: true,
            labels: BTreeMap::from([("pool".to_owned(), name.to_owned())]),
            taints: vec![],
            free: BTreeMap::from([("nvidia.com/gpu".to_owned(), gpus)]),
        }
    }

    fn gpus(count: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([("nvidia.com/gpu".to_owned(), count)])
    }

    #[test]
    fn the_first_node_by_name_with_room_is_taken() {
        let nodes = [node("c", 4), node("a", 0), node("b", 4)];
        assert_eq!(place(&spec(), &gpus(1), &nodes).expect("room").name, "b");
    }

    #[test]
    fn the_refusal_counts_nodes_by_reason() {
        let mut down = node("c", 4);
        down.ready = false;
        let nodes = [node("a", 0), node("b", 1), down];
        assert_eq!(
            place(&spec(), &gpus(2), &nodes).expect_err("no room"),
            "0/3 nodes are available: 1 node(s) had untolerated taint \
             {node.kubernetes.io/not-ready: }, 2 Insufficient nvidia.com/gpu."
        );
        let none = place(&spec(), &gpus(1), &[]).expect_err("no nodes");
        assert_eq!(none, "no nodes available to schedule pods");
        let unknown = BTreeMap::from([("example.com/x".to_owned(), 1)]);
        assert_eq!(
            place(&spec(), &unknown, &nodes[..2]).expect_err("unknown"),
            "0/2 nodes are available: 2 Insufficient example.com/x."
        );
    }

    #[test]
    fn selectors_names_and_taints_decide() {
        let mut pod = spec();
        pod.node_selector = BTreeMap::from([("pool".to_owned(), "b".to_owned())]);
        let mut nodes = [node("a", 4), node("b", 4)];
        assert_eq!(place(&pod, &gpus(1), &nodes).expect("b").name, "b");
        nodes[1].taints = vec!["sku=gpu:NoSchedule".parse().expect("taint")];
        let error = place(&pod, &gpus(1), &nodes).expect_err("tainted");
        assert!(
            error.contains("1 node(s) had untolerated taint {sku: gpu}"),
            "{error}"
        );
        pod.tolerations = vec![Toleration {
            key: Some("sku".to_owned()),
            operator: TolerationOperator::Exists,
            value: String::new(),
            effect: None,
        }];
        assert_eq!(place(&pod, &gpus(1), &nodes).expect("tolerated").name, "b");
        pod.node_name = Some("a".to_owned());
        assert!(place(&pod, &gpus(1), &nodes).is_err());
    }

    #[test]
    fn a_node_that_is_only_dispreferred_is_the_second_choice() {
        let mut nodes = [node("a", 4), node("b", 4)];
        nodes[0].taints = vec!["busy:PreferNoSchedule".parse().expect("taint")];
        assert_eq!(place(&spec(), &gpus(1), &nodes).expect("room").name, "b");
        assert_eq!(
            place(&spec(), &gpus(1), &nodes[..1]).expect("room").name,
            "a"
        );
    }

    proptest! {
        #[test]
        fn a_pod_is_placed_exactly_when_some_node_has_room(
            free in prop::collection::vec(0..5_u64, 0..6), wanted in 0..5_u64,
        ) {
            let nodes: Vec<NodeView> =
                free.iter().enumerate().map(|(i, free)| node(&format!("n{i}"), *free)).collect();
            let expected = free.iter().position(|free| *free >= wanted).map(|i| format!("n{i}"));
            let placed = place(&spec(), &gpus(wanted), &nodes).ok().map(|node| node.name.clone());
            prop_assert_eq!(placed, expected);
        }
    }
}
