#![allow(
    clippy::needless_pass_by_value,
    reason = "values made for the call read better"
)]

use jiff::Timestamp;
use pool::{Key, Rollout};
use serde_json::json;

use super::*;

fn object(name: &str, spec: Value) -> NodePool {
    serde_json::from_value(json!({
        "apiVersion": "migpool.dev/v1alpha1", "kind": "NodePool",
        "metadata": {"name": name, "uid": "p", "generation": 1}, "spec": spec,
    }))
    .unwrap()
}

fn asked_for(input: NodePoolInput) -> pool::NodePool {
    pool::NodePool {
        key: PoolKey {
            cluster: ClusterKey {
                group: GroupKey {
                    subscription: SubscriptionId::local(),
                    group: "My.Group_1".parse().unwrap(),
                },
                cluster: "myAKS_Cluster".parse().unwrap(),
            },
            pool: "mignode".parse().unwrap(),
        },
        spec: node_pool(&input, None).unwrap(),
        provisioning_state: ProvisioningState::Creating,
        message: String::new(),
        operation: Some(Uuid::from_u128(7)),
        created: Timestamp::UNIX_EPOCH,
        rollout: Rollout::default(),
        leaving: ["node-1".parse().unwrap()].into(),
        seen: PoolSummary::default(),
    }
}

fn made(record: &pool::NodePool) -> NodePool {
    let mut object = NodePool::new("mignode", object_spec(record, None));
    object.metadata.generation = Some(1);
    // As the API server gives it back.
    serde_json::from_value(serde_json::to_value(object).unwrap()).unwrap()
}

#[test]
fn what_an_arm_client_asks_comes_back_as_it_was_asked() {
    let everything = NodePoolInput {
        count: Some(3),
        vm_size: Some("Standard_ND96asr_v4".to_owned()),
        layouts: Some("0-3=3g.20gb,2g.10gb;4-7=off".to_owned()),
        mig_strategy: Some("Mixed".to_owned()),
        max_unavailable: Some("10%".to_owned()),
        power: Some("Stopped".to_owned()),
        drain: Some(pool::Drain::Evict),
        node_labels: [("a".to_owned(), "b".to_owned())].into(),
        node_taints: vec!["sku=gpu:NoSchedule".to_owned(), "x:NoExecute".to_owned()],
        tags: [("Team".to_owned(), "ml, ai".to_owned())].into(),
        extra: json!({"spotMaxPrice": -1.0, "a": {"b": null, "c": []}})
            .as_object()
            .unwrap()
            .clone(),
        ..NodePoolInput::default()
    };
    let by_profile = NodePoolInput {
        mode: Some("System".to_owned()),
        vm_size: Some("Standard_ND96asr_v4".to_owned()),
        gpu_instance_profile: Some("MIG1g".to_owned()),
        ..NodePoolInput::default()
    };
    let listed = NodePoolInput {
        vm_size: Some("Standard_ND96asr_v4".to_owned()),
        mig_strategy: Some("Mixed".to_owned()),
        mig_profiles: vec!["MIG1g".to_owned(), "MIG3g".to_owned()],
        auto_scaling: pool::validation::AutoScalingInput {
            enabled: Some(true),
            min_count: Some(1),
            max_count: Some(5),
        },
        ..NodePoolInput::default()
    };
    for input in [everything, by_profile, listed, NodePoolInput::default()] {
        let asked = asked_for(input);
        let kept = record(&made(&asked)).unwrap();
        assert_eq!(kept, asked);
        assert_eq!(kept.key.to_string(), asked.key.to_string());
    }
}

#[test]
fn what_was_asked_holds_until_the_status_is_about_it() {
    let asked = asked_for(NodePoolInput::default());
    let mut object = made(&asked);
    object.status = Some(crate::node_pool::NodePoolStatus {
        phase: "Succeeded".to_owned(),
        message: "of before".to_owned(),
        observed_generation: Some(1),
        ..crate::node_pool::NodePoolStatus::default()
    });
    let unseen = record(&object).unwrap();
    assert_eq!(unseen.provisioning_state, ProvisioningState::Creating);
    assert_eq!(
        (unseen.message.as_str(), unseen.operation),
        ("", asked.operation)
    );

    let on_its_way = crate::status::of(&object, &unseen, Timestamp::UNIX_EPOCH);
    object.status = Some(on_its_way);
    assert_eq!(record(&object).unwrap().operation, asked.operation);

    let arrived = pool::NodePool {
        provisioning_state: ProvisioningState::Failed,
        message: "node a: broken".to_owned(),
        operation: None,
        ..record(&object).unwrap()
    };
    object.status = Some(crate::status::of(&object, &arrived, Timestamp::UNIX_EPOCH));
    let kept = record(&object).unwrap();
    assert_eq!(kept.operation, None);
    assert_eq!(kept.provisioning_state, ProvisioningState::Failed);
    let last = object.status.unwrap().last_operation.unwrap();
    assert_eq!(last.id, Uuid::from_u128(7).to_string());
    assert_eq!(
        (last.state.as_str(), last.message.as_str()),
        ("Failed", "node a: broken")
    );
}

#[test]
fn a_pool_has_its_own_name_or_that_and_a_digest_of_its_cluster() {
    let plain = object("mignode", json!({"vmSize": "Standard_ND96asr_v4"}));
    assert_eq!(
        key(&plain).unwrap().path(),
        "00000000-0000-0000-0000-000000000000/kubernetes/kubernetes/mignode"
    );
    let spec =
        json!({"vmSize": "Standard_ND96asr_v4", "clusterName": "East", "resourceGroup": "rg"});
    let path = key(&object("mignode", spec.clone())).unwrap().path();
    let [first, second] = names(&path);
    assert_eq!(first, "mignode");
    assert_eq!(key(&object(&second, spec.clone())).unwrap().path(), path);
    let error = key(&object("mignode-00000000", spec)).unwrap_err();
    assert!(error.message.contains(&second), "{error}");
}
