#![allow(
    clippy::needless_pass_by_value,
    reason = "values made for the call read better"
)]

use kube::api::ObjectMeta;
use pool::{MaxUnavailable, Reason};
use serde_json::json;

use super::*;
use crate::node_pool::NodePool;
use crate::status;

fn pool(spec: serde_json::Value) -> NodePool {
    serde_json::from_value(json!({
        "apiVersion": "migpool.dev/v1alpha1", "kind": "NodePool",
        "metadata": {"name": "mignode", "uid": "pool-uid", "generation": 1},
        "spec": spec,
    }))
    .unwrap()
}

fn node(labels: serde_json::Value, ready: &str, allocatable: serde_json::Value) -> Arc<Node> {
    let node = serde_json::from_value(json!({
        "metadata": {"name": "node-1", "labels": labels},
        "spec": {"taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "allocatable": allocatable,
        },
    }));
    Arc::new(node.unwrap())
}

fn gpus(count: u32, board: &str) -> Vec<gpu_node::GpuStatus> {
    (0..count)
        .map(|index| gpu_node::GpuStatus {
            index,
            board: board.to_owned(),
            mig_capable: !board.is_empty(),
            healthy: true,
            ..gpu_node::GpuStatus::default()
        })
        .collect()
}

fn pair(node: Arc<Node>, spec: gpu_node::GpuNodeSpec, status: GpuNodeStatus) -> Pair {
    let mut object = GpuNode::new("node-1", spec);
    object.metadata = ObjectMeta {
        name: Some("node-1".to_owned()),
        generation: Some(3),
        ..ObjectMeta::default()
    };
    object.status = Some(status);
    Pair {
        node: Some(node),
        gpu_node: Arc::new(object),
    }
}

fn ready(boards: u32, board: &str) -> GpuNodeStatus {
    GpuNodeStatus {
        observed_generation: Some(3),
        phase: Phase::Ready,
        gpus: gpus(boards, board),
        ..GpuNodeStatus::default()
    }
}

fn free(boards: u32, board: &str) -> Pair {
    let node = node(json!({}), "True", json!({}));
    pair(node, gpu_node::GpuNodeSpec::default(), ready(boards, board))
}

fn why_not(pool: &NodePool, pair: &Pair) -> String {
    let spec = convert::spec(pool).unwrap();
    let candidates = candidates(&spec, std::iter::once(pair), std::iter::empty());
    match candidates.fitting.first() {
        Some(candidate) => format!("{} fits", candidate.name),
        None => candidates.why_not(),
    }
}

fn of_size() -> NodePool {
    pool(json!({"vmSize": "Standard_ND96asr_v4", "gpuInstanceProfile": "MIG1g"}))
}

#[test]
fn a_node_without_a_size_label_is_known_by_its_boards() {
    assert_eq!(why_not(&of_size(), &free(8, "A100-40GB")), "node-1 fits");
    assert_eq!(
        why_not(&of_size(), &free(2, "H100-SXM-80GB")),
        "node-1: it has 2 x H100-SXM-80GB, and a Standard_ND96asr_v4 has 8 x A100-40GB"
    );
}

#[test]
fn a_size_label_goes_before_the_boards() {
    let mut other = free(8, "A100-40GB");
    other.node = Some(node(
        json!({INSTANCE_TYPE: "Standard_ND96isr_H100_v5"}),
        "True",
        json!({}),
    ));
    assert_eq!(
        why_not(&of_size(), &other),
        "node-1: its size is Standard_ND96isr_H100_v5"
    );
    // What is no size that is known says nothing.
    other.node = Some(node(json!({INSTANCE_TYPE: "k3s"}), "True", json!({})));
    assert_eq!(why_not(&of_size(), &other), "node-1 fits");
}

#[test]
fn a_node_of_another_pool_a_node_that_is_not_ready_and_one_whose_gpus_cannot_do_it_do_not_fit() {
    let selected = pool(json!({"nodeSelector": {"gpu": "a100"}, "layouts": "7g.40gb"}));
    let labels = json!({"gpu": "a100"});
    let with = |labels, ready_word, spec, board| {
        pair(node(labels, ready_word, json!({})), spec, ready(1, board))
    };
    let nobody = gpu_node::GpuNodeSpec::default;
    assert_eq!(
        why_not(&selected, &with(json!({}), "True", nobody(), "A100-40GB")),
        "node-1: it has no label gpu=a100"
    );
    assert_eq!(
        why_not(
            &selected,
            &with(labels.clone(), "Unknown", nobody(), "A100-40GB")
        ),
        "node-1: it is not Ready"
    );
    let said = why_not(
        &selected,
        &with(labels.clone(), "True", nobody(), "H100-SXM-80GB"),
    );
    assert!(
        said.starts_with("node-1: The layout '7g.40gb' is not possible on 1 x H100-SXM-80GB"),
        "{said}"
    );
    let taken = gpu_node::GpuNodeSpec {
        pool: Some(gpu_node::PoolReference {
            name: "other".to_owned(),
            uid: "other-uid".to_owned(),
        }),
        ..nobody()
    };
    assert_eq!(
        why_not(&selected, &with(labels, "True", taken, "A100-40GB")),
        "node-1: it is in node pool other"
    );
}

fn in_pool() -> gpu_node::GpuNodeSpec {
    gpu_node::GpuNodeSpec {
        pool: Some(gpu_node::PoolReference {
            name: "mignode".to_owned(),
            uid: "pool-uid".to_owned(),
        }),
        layout: Some("MIG1g".to_owned()),
        mig_strategy: Some(gpu_node::Strategy::Single),
        drain: Some(gpu_node::Drain::Wait),
        ..gpu_node::GpuNodeSpec::default()
    }
}

fn seen(pair: &Pair) -> ObservedNode {
    let pool = of_size();
    observed(
        pair,
        &convert::key(&pool).unwrap(),
        &convert::spec(&pool).unwrap(),
    )
    .unwrap()
}

#[test]
fn an_agent_that_has_not_seen_what_is_asked_is_waited_for_whatever_it_says() {
    let node = node(json!({}), "True", json!({"nvidia.com/gpu": "56"}));
    let behind = GpuNodeStatus {
        observed_generation: Some(2),
        ..ready(8, "A100-40GB")
    };
    let seen = seen(&pair(node, in_pool(), behind));
    assert_eq!(seen.phase, NodePhase::Creating);
    assert_eq!(seen.message, "its agent has not answered yet");
}

#[test]
fn a_node_is_what_its_agent_and_the_kubelet_say() {
    let allocatable = json!({"nvidia.com/gpu": "56", "cpu": "96"});
    let node = node(json!({}), "True", allocatable);
    let seen = seen(&pair(node, in_pool(), ready(8, "A100-40GB")));
    assert_eq!(seen.phase, NodePhase::Running);
    assert!(seen.ready);
    assert_eq!(
        seen.allocatable,
        BTreeMap::from([("nvidia.com/gpu".to_owned(), 56)])
    );
    assert_eq!(seen.boards.len(), 8);
    assert_eq!(pool::expected_of(&seen).unwrap(), seen.allocatable);
}

#[test]
fn an_agent_of_a_later_version_is_not_believed_and_the_operator_is_to_be_upgraded() {
    let mut said = ready(8, "A100-40GB");
    said.agent_version = "99.0.0".to_owned();
    said.phase = serde_json::from_value(json!("Polishing")).unwrap();
    let free = pair(
        node(json!({}), "True", json!({})),
        gpu_node::GpuNodeSpec::default(),
        said.clone(),
    );
    let why = why_not(&of_size(), &free);
    assert!(
        why.contains("99.0.0") && why.contains("upgrade the operator"),
        "{why}"
    );
    let node = seen(&pair(node(json!({}), "True", json!({})), in_pool(), said));
    assert_eq!(node.phase, NodePhase::Creating);
    assert!(
        node.message.contains("upgrade the operator"),
        "{}",
        node.message
    );
}

#[test]
fn a_lost_gpu_counts_as_one_of_its_siblings() {
    let mut status = ready(8, "A100-40GB");
    status.gpus[3] = gpu_node::GpuStatus {
        index: 3,
        healthy: false,
        ..gpu_node::GpuStatus::default()
    };
    assert!(boards(&status).values().all(|board| board == "A100-40GB"));
}

#[test]
fn what_somebody_took_off_a_node_is_put_on_again() {
    let mut wish = in_pool();
    wish.node_labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    wish.node_taints = vec![
        gpu_node::WantedTaint {
            key: "sku".to_owned(),
            value: "gpu".to_owned(),
            effect: "NoSchedule".to_owned(),
        },
        gpu_node::WantedTaint {
            key: "gone".to_owned(),
            value: String::new(),
            effect: "NoExecute".to_owned(),
        },
    ];
    let node = node(json!({}), "True", json!({}));
    let seen = seen(&pair(node, wish, ready(8, "A100-40GB")));
    assert!(seen.spec.labels.is_empty());
    let taints: Vec<String> = seen.spec.taints.iter().map(ToString::to_string).collect();
    assert_eq!(taints, ["sku=gpu:NoSchedule"]);
}

#[test]
fn labels_of_others_and_of_the_machine_are_left_alone() {
    let node = node(json!({"agentpool": "nodepool1"}), "True", json!({}));
    let pair = pair(node, in_pool(), ready(8, "A100-40GB"));
    let wanted = [
        ("agentpool", "mignode"),
        ("kubernetes.azure.com/agentpool", "mignode"),
        ("kubernetes.io/os", "linux"),
        (INSTANCE_TYPE, "Standard_ND96asr_v4"),
    ];
    let wanted = wanted.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let own = own_labels(&wanted.into(), &pair);
    assert_eq!(
        own.keys().collect::<Vec<_>>(),
        ["kubernetes.azure.com/agentpool"]
    );
}

#[test]
fn a_node_can_go_when_its_gpus_have_their_layout_back_or_cannot() {
    let node = node(json!({}), "True", json!({}));
    let leaving = gpu_node::GpuNodeSpec {
        releasing: true,
        ..in_pool()
    };
    let with = |status| pair(Arc::clone(&node), leaving.clone(), status);
    let of = |phase| GpuNodeStatus {
        phase,
        ..ready(8, "A100-40GB")
    };
    assert!(is_released(&with(of(Phase::Ready))));
    assert!(is_released(&with(of(Phase::Refused))));
    assert!(!is_released(&with(of(Phase::Draining))));
    let behind = GpuNodeStatus {
        observed_generation: Some(2),
        ..of(Phase::Ready)
    };
    assert!(!is_released(&with(behind)));
    let mut without = leaving.clone();
    without.layout = None;
    assert!(is_released(&pair(
        Arc::clone(&node),
        without,
        of(Phase::Draining)
    )));
}

#[test]
fn a_pool_is_read_with_its_defaults_and_what_cannot_be_is_said_in_words() {
    let spec = convert::spec(&of_size()).unwrap();
    assert_eq!(
        (spec.count, spec.max_unavailable),
        (1, MaxUnavailable::Count(1))
    );
    let share =
        pool(json!({"vmSize": "Standard_ND96asr_v4", "maxUnavailable": "10%", "count": 5000}));
    let share = convert::spec(&share).unwrap();
    assert_eq!(
        (share.count, share.max_unavailable),
        (5000, MaxUnavailable::Percent(10))
    );
    let impossible = pool(json!({"vmSize": "Standard_ND96asr_v4", "layouts": "4g.20gb*2"}));
    let error = convert::spec(&impossible).unwrap_err();
    assert!(error.message.contains("4g.20gb"), "{error}");
    let said = status::of_invalid(&impossible, &error, Timestamp::UNIX_EPOCH);
    assert_eq!(said.reason, Reason::InvalidSpec.to_string());
    let degraded = said
        .conditions
        .iter()
        .find(|it| it.type_ == status::DEGRADED);
    assert_eq!(degraded.unwrap().status, "True");
}

#[test]
fn a_condition_keeps_its_time_while_it_holds() {
    let mut object = of_size();
    let record = convert::record(&object).unwrap();
    let early = Timestamp::UNIX_EPOCH;
    let late = "2026-11-28T12:00:00Z".parse().unwrap();
    object.status = Some(status::of(&object, &record, early));
    let again = status::of(&object, &record, late);
    assert_eq!(object.status.as_ref(), Some(&again));
}
