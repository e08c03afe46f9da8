#![allow(
    clippy::needless_pass_by_value,
    reason = "values made for the call read better"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::core::Status;
use pool::{ConditionStatus, NodePhase, ProvisioningState};
use serde_json::{Value, json};

use super::nodes::{seen, whole};
use super::*;

fn node_pool(spec: Value, status: Value) -> NodePool {
    serde_json::from_value(json!({
        "apiVersion": "migpool.dev/v1alpha1", "kind": "NodePool",
        "metadata": {"name": "mignode", "uid": "p", "generation": 2},
        "spec": spec, "status": status,
    }))
    .unwrap()
}

fn pair(spec: Value, status: Value) -> Pair {
    let node = json!({
        "metadata": {"name": "worker-1", "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"agentpool": "mignode", "zone": "a", "node.kubernetes.io/instance-type": "standard_nd96asr_V4"}},
        "spec": {"taints": [
            {"key": "sku", "value": "gpu", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "posting",
                "lastTransitionTime": "2026-01-02T03:05:00Z"}],
            "capacity": {"cpu": "96", "memory": "4Ki", "nvidia.com/gpu": "7"},
            "allocatable": {"cpu": "95500m", "memory": "2Ki", "nvidia.com/gpu": "6"},
        },
    });
    let gpu_node = json!({
        "apiVersion": "migpool.dev/v1alpha1", "kind": "GpuNode",
        "metadata": {"name": "worker-1", "generation": 3}, "spec": spec, "status": status,
    });
    Pair {
        node: Some(Arc::new(serde_json::from_value(node).unwrap())),
        gpu_node: Arc::new(serde_json::from_value(gpu_node).unwrap()),
    }
}

fn ready(more: Value) -> Value {
    let mut status = json!({
        "observedGeneration": 3, "phase": "Ready", "driverVersion": "580.1", "slices": 2, "slicesInUse": 1,
        "currentLayout": "0=3g.20gb*2", "resources": {"nvidia.com/gpu": 2},
        "gpus": [
            {"index": 0, "uuid": "GPU-0", "product": "NVIDIA A100-SXM4-40GB", "board": "A100-40GB", "memoryMib": 40960,
             "memoryUnits": 8, "computeSlices": 7, "migCapable": true, "migEnabled": true, "healthy": true,
             "fault": "GPU instance 2: XID 48", "slices": [
                {"uuid": "MIG-0", "profile": "3g.20gb", "gpuInstance": 1, "computeInstance": 0, "start": 0, "size": 4,
                 "memoryMib": 19968, "healthy": true,
                 "holder": {"namespace": "ml", "pod": "train", "container": "main"}},
                {"uuid": "MIG-1", "profile": "3g.20gb", "gpuInstance": 2, "computeInstance": 0, "start": 4, "size": 4,
                 "healthy": false}]},
            {"index": 1, "healthy": false, "fault": "GPU is lost"}],
    });
    if let (Value::Object(into), Value::Object(more)) = (&mut status, more) {
        into.extend(more);
    }
    status
}

fn pools(pool: NodePool) -> BTreeMap<String, NodePool> {
    BTreeMap::from([("mignode".to_owned(), pool)])
}

#[test]
fn a_node_of_a_pool_has_all_that_the_node_and_its_agent_say() {
    let spec =
        json!({"vmSize": "Standard_ND96asr_v4", "layouts": "3g.20gb*2", "clusterName": "east"});
    let wish = json!({"pool": {"name": "mignode", "uid": "p"}, "layout": "3g.20gb*2", "migStrategy": "single"});
    let node = seen(
        &pair(wish, ready(json!({}))),
        &pools(node_pool(spec, Value::Null)),
    )
    .unwrap();
    assert!(!is_free(&node) && node.ready);
    assert_eq!(node.phase, NodePhase::Running);
    assert_eq!(node.spec.pool.pool.to_string(), "mignode");
    assert_eq!(node.spec.pool.cluster.cluster.to_string(), "east");
    assert_eq!(node.spec.vm_size, "Standard_ND96asr_v4");
    assert_eq!(node.capacity["cpu"], 96);
    assert_eq!(node.allocatable["cpu"], 95);
    assert_eq!(node.allocatable["memory"], 2048);
    assert_eq!(node.allocatable["nvidia.com/gpu"], 6);
    assert_eq!(node.labels["zone"], "a");
    let taints: Vec<_> = node.spec.taints.iter().map(ToString::to_string).collect();
    assert_eq!(
        taints,
        [
            "sku=gpu:NoSchedule",
            "node.kubernetes.io/unschedulable:NoSchedule"
        ]
    );
    assert_eq!(node.conditions[0].kind, "Ready");
    assert_eq!(node.conditions[0].status, ConditionStatus::True);
    assert_eq!(node.created.to_string(), "2026-01-02T03:04:05Z");
    assert_eq!(node.driver_version.as_deref(), Some("580.1"));

    let [cut, lost] = node.gpus.as_slice() else {
        panic!("{:?}", node.gpus)
    };
    assert_eq!(cut.name, "NVIDIA A100-SXM4-40GB");
    // Its slices are known, so what is wrong with one of them does not hide them.
    assert_eq!(cut.failure, "");
    let holders: Vec<_> = cut.slices.iter().map(|it| it.holder.as_ref()).collect();
    assert_eq!(holders[0].map(|it| it.pod.as_str()), Some("train"));
    assert_eq!(holders[1], None);
    assert!(!cut.slices[1].healthy);
    assert_eq!(lost.failure, "GPU is lost");
}

#[test]
fn a_node_in_no_pool_is_free_and_has_the_layout_that_is_there() {
    let node = seen(&pair(json!({}), ready(json!({}))), &BTreeMap::new()).unwrap();
    assert!(is_free(&node));
    assert!(node.spec.layout.is_some());
    let idle = ready(json!({"phase": "Idle", "message": "there is no driver", "gpus": []}));
    let node = seen(&pair(json!({}), idle), &BTreeMap::new()).unwrap();
    assert_eq!(node.phase, NodePhase::Running);
    assert_eq!(node.message, "there is no driver");
}

#[test]
fn a_node_is_seen_whose_pool_is_gone_or_makes_no_sense_and_not_one_that_is_gone_itself() {
    let wish = json!({"pool": {"name": "mignode", "uid": "p"}});
    let mut pair = pair(wish, ready(json!({})));
    let broken = node_pool(json!({"vmSize": "Standard_Nothing"}), Value::Null);
    for pools in [BTreeMap::new(), pools(broken)] {
        let node = seen(&pair, &pools).unwrap();
        assert_eq!(node.spec.pool.pool.to_string(), "mignode");
        assert!(!is_free(&node));
        assert_eq!(node.gpus.len(), 2);
    }
    pair.node = None;
    assert!(seen(&pair, &BTreeMap::new()).is_none());
}

#[test]
fn quantities_are_rounded_down() {
    for (text, expected) in [
        ("96", Some(96)),
        ("7910m", Some(7)),
        ("1.5k", Some(1500)),
        ("32Ki", Some(32768)),
        ("0.5Gi", Some(1 << 29)),
        ("15Ei", Some(15 << 60)),
        ("16Ei", None),
        ("1.", Some(1)),
        ("-1", None),
        ("", None),
        ("1e3", None),
        ("99999999999999999999999999999999999999999E", None),
    ] {
        assert_eq!(whole(text), expected, "{text}");
    }
}

#[test]
fn a_change_that_nobody_looked_at_yet_is_not_settled() {
    let spec = json!({"vmSize": "Standard_ND96asr_v4", "count": 1});
    let of = |status: Value| node_pool(spec.clone(), status);
    let new = of(Value::Null);
    assert_eq!(state_of(&new), ProvisioningState::Creating);
    assert!(progress_of(&new).contains("operator"));
    let stale = of(json!({"observedGeneration": 1, "phase": "Succeeded", "nodes": 1}));
    assert!(!state_of(&stale).is_terminal());
    let done = of(json!({"observedGeneration": 2, "phase": "Succeeded", "nodes": 1}));
    assert_eq!(state_of(&done), ProvisioningState::Succeeded);
    let failed = json!({"observedGeneration": 2, "phase": "Failed", "message": "GPU 3 is lost"});
    assert_eq!(progress_of(&of(failed.clone())), "GPU 3 is lost");
    let nonsense = node_pool(json!({"vmSize": "Standard_Nothing"}), failed);
    assert_eq!(state_of(&nonsense), ProvisioningState::Failed);
}

fn refusal(code: u16, reason: &str, message: &str, causes: Value) -> PoolClientError {
    let status: Status = serde_json::from_value(json!({
        "status": "Failure", "code": code, "reason": reason, "message": message,
        "details": {"name": "mignode", "kind": "NodePool", "causes": causes},
    }))
    .unwrap();
    refused("mignode", &status)
}

#[test]
fn a_refusal_is_the_sentence_of_who_refused() {
    let rule = refusal(
        422,
        "Invalid",
        "NodePool.migpool.dev \"mignode\" is invalid: [...]",
        json!([
            {"reason": "FieldValueInvalid", "field": "spec", "message": "Invalid value: \"object\": Give either."},
            {"reason": "FieldValueInvalid", "field": "spec", "message": "Invalid value: Leave one away."},
            {"reason": "FieldValueInvalid", "field": "spec.count",
             "message": "Invalid value: 20000: spec.count in body should be less than or equal to 10000"},
            {"reason": "FieldValueInvalid", "field": "<nil>",
             "message": "Invalid value: null: some validation rules were not checked because the object was invalid"},
        ]),
    );
    assert_eq!(
        rule.to_string(),
        "Give either. Leave one away. spec.count in body should be less than or equal to 10000"
    );
    let unknown = refusal(
        422,
        "Invalid",
        "..",
        json!([{"field": "spec.mode", "message": "Unsupported value: \"x\": supported values: \"User\""}]),
    );
    assert_eq!(
        unknown.to_string(),
        "spec.mode: Unsupported value: \"x\": supported values: \"User\""
    );
    let webhook = refusal(
        400,
        "",
        "admission webhook \"nodepools.migpool.dev\" denied the request: A 1g.10gb does not fit nine times.",
        json!([]),
    );
    assert_eq!(webhook.to_string(), "A 1g.10gb does not fit nine times.");
    let right =
        "nodepools.migpool.dev is forbidden: User \"me\" cannot list resource \"nodepools\"";
    assert_eq!(
        refusal(403, "Forbidden", right, json!([])).to_string(),
        right
    );
}

#[test]
fn a_cluster_without_the_chart_is_told_from_one_without_the_pool() {
    let not_found = refusal(
        404,
        "NotFound",
        "nodepools \"mignode\" not found",
        json!([]),
    );
    assert!(matches!(not_found, PoolClientError::NotFound(name) if name == "mignode"));
    let unknown =
        Status::failure("404 page not found", "Failed to parse error data").with_code(404);
    let said = refused("mignode", &unknown);
    assert!(matches!(said, PoolClientError::NoDefinitions));
    assert!(said.to_string().contains("install migpool's chart"));
    let exists = refusal(409, "AlreadyExists", "already exists", json!([]));
    assert!(matches!(exists, PoolClientError::Exists(_)));
    let away = refusal(503, "ServiceUnavailable", "etcd is away", json!([]));
    assert!(matches!(away, PoolClientError::Unreachable(said) if said == "etcd is away"));
}
