//! Agent pools: the status codes, bodies and errors that Azure's clients expect.

use crate::common::{Api, SUBSCRIPTION, VERSION, agent_pool, cluster, group, the_articles_pool};
use axum::http::{Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};

#[tokio::test]
async fn the_articles_put_answers_201_creating_and_ends_succeeded() {
    let api = Api::with_cluster().await;
    api.backend.hold_nodes();
    let answer = api
        .put(&agent_pool("mignode"), VERSION, &the_articles_pool())
        .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.json["name"], "mignode");
    assert_eq!(
        answer.json["type"],
        "Microsoft.ContainerService/managedClusters/agentPools"
    );
    assert_eq!(answer.json["properties"]["provisioningState"], "Creating");
    assert_eq!(answer.json["properties"]["gpuInstanceProfile"], "MIG1g");
    assert_eq!(
        answer.json["properties"]["gpuProfile"]["nvidia"]["migStrategy"],
        "Single"
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    let poll = answer.header("azure-asyncoperation").unwrap().to_owned();
    assert!(
        poll.starts_with(&format!("http://localhost:8443{SUBSCRIPTION}/providers/Microsoft.ContainerService/locations/southcentralus/operations/")),
        "{poll}"
    );
    assert!(poll.ends_with("?api-version=2017-08-31"), "{poll}");

    api.settle().await;
    let progress = api.follow(&poll).await;
    assert_eq!(progress.status, StatusCode::OK);
    assert_eq!(progress.json["status"], "InProgress");
    assert_eq!(progress.header("retry-after"), Some("1"));
    assert!(progress.json["startTime"].is_string());
    assert!(poll.contains(progress.json["name"].as_str().unwrap()));

    api.backend.advance_all();
    api.settle().await;
    let done = api.follow(&poll).await;
    assert_eq!(done.json["status"], "Succeeded");
    assert!(done.json["endTime"].is_string());
    assert_eq!(done.header("retry-after"), None);
    let pool = api.get(&agent_pool("mignode"), VERSION).await;
    assert_eq!(pool.status, StatusCode::OK);
    assert_eq!(pool.json["properties"]["provisioningState"], "Succeeded");
}

#[tokio::test]
async fn a_node_that_fails_ends_the_operation_with_its_reason() {
    let api = Api::with_cluster().await;
    api.backend.hold_nodes();
    let answer = api
        .put(&agent_pool("mignode"), VERSION, &the_articles_pool())
        .await;
    let poll = answer.header("azure-asyncoperation").unwrap().to_owned();
    api.settle().await;
    let names = api.backend.node_names();
    let name = names
        .iter()
        .find(|name| name.as_str().contains("mignode"))
        .unwrap();
    api.backend.change_node(name, |node| {
        node.phase = pool::NodePhase::Failed;
        node.message = "GPU 3 could not be partitioned".into();
    });
    api.settle().await;
    let failed = api.follow(&poll).await;
    assert_eq!(failed.status, StatusCode::OK);
    assert_eq!(failed.json["status"], "Failed");
    assert_eq!(failed.json["error"]["code"], "ReconcileAgentPoolFailed");
    let message = failed.json["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("GPU 3 could not be partitioned"),
        "{message}"
    );
    let pool = api.get(&agent_pool("mignode"), VERSION).await;
    assert_eq!(pool.json["properties"]["provisioningState"], "Failed");
    assert!(
        pool.json["properties"]["provisioningMessage"]
            .as_str()
            .unwrap()
            .contains("GPU 3")
    );
}

#[tokio::test]
async fn the_whole_body_of_a_get_can_be_put_back_and_changes_nothing() {
    let api = Api::with_pool().await;
    let before = api.get(&agent_pool("mignode"), VERSION).await;
    let answer = api.put(&agent_pool("mignode"), VERSION, &before.json).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json, before.json);
    assert_eq!(answer.header("azure-asyncoperation"), None);
}

#[tokio::test]
async fn scaling_puts_the_whole_body_back_with_another_count() {
    let api = Api::with_pool().await;
    api.backend.hold_nodes();
    let mut body = api.get(&agent_pool("mignode"), VERSION).await.json;
    body["properties"]["count"] = json!(3);
    let answer = api.put(&agent_pool("mignode"), VERSION, &body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json["properties"]["provisioningState"], "Scaling");
    let poll = answer.header("azure-asyncoperation").unwrap().to_owned();
    api.settle().await;
    assert_eq!(api.follow(&poll).await.json["status"], "InProgress");
    api.backend.advance_all();
    api.settle().await;
    assert_eq!(api.follow(&poll).await.json["status"], "Succeeded");
    let pool = api.get(&agent_pool("mignode"), VERSION).await;
    assert_eq!(pool.json["properties"]["count"], 3);
}

#[tokio::test]
async fn asking_for_something_else_cancels_the_operation_in_progress() {
    let api = Api::with_cluster().await;
    api.backend.hold_nodes();
    let first = api
        .put(&agent_pool("mignode"), VERSION, &the_articles_pool())
        .await;
    let mut body = the_articles_pool();
    body["properties"]["count"] = json!(2);
    let second = api.put(&agent_pool("mignode"), VERSION, &body).await;
    let poll =
        |answer: &crate::common::Answer| answer.header("azure-asyncoperation").unwrap().to_owned();
    let canceled = api.follow(&poll(&first)).await;
    assert_eq!(canceled.json["status"], "Canceled");
    assert_eq!(canceled.json["error"]["code"], "OperationPreempted");
    assert_eq!(
        api.follow(&poll(&second)).await.json["status"],
        "InProgress"
    );
    let same = api.put(&agent_pool("mignode"), VERSION, &body).await;
    assert_eq!(
        poll(&same),
        poll(&second),
        "asking for the same again is no other operation"
    );
}

#[tokio::test]
async fn delete_answers_202_with_both_urls_and_then_204() {
    let api = Api::with_pool().await;
    api.backend.hold_nodes();
    let answer = api.delete(&agent_pool("mignode"), VERSION).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert!(answer.text.is_empty());
    let poll = answer.header("azure-asyncoperation").unwrap().to_owned();
    let result = answer.header("location").unwrap().to_owned();
    assert!(
        result.contains("/locations/southcentralus/operationresults/"),
        "{result}"
    );
    assert_eq!(
        api.get(&agent_pool("mignode"), VERSION).await.json["properties"]["provisioningState"],
        "Deleting"
    );
    let again = api.delete(&agent_pool("mignode"), VERSION).await;
    assert_eq!(again.status, StatusCode::ACCEPTED);
    assert_eq!(again.header("azure-asyncoperation"), Some(poll.as_str()));
    let put = api
        .put(&agent_pool("mignode"), VERSION, &the_articles_pool())
        .await;
    assert_eq!(
        (put.status, put.code()),
        (StatusCode::CONFLICT, "OperationNotAllowed")
    );

    api.settle().await;
    let waiting = api.follow(&result).await;
    assert_eq!(waiting.status, StatusCode::ACCEPTED);
    assert_eq!(waiting.header("location"), Some(result.as_str()));
    api.backend.advance_all();
    api.settle().await;
    assert_eq!(api.follow(&poll).await.json["status"], "Succeeded");
    assert_eq!(api.follow(&result).await.status, StatusCode::NO_CONTENT);
    assert_eq!(
        api.delete(&agent_pool("mignode"), VERSION).await.status,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn a_missing_pool_is_akss_own_not_found() {
    let api = Api::with_cluster().await;
    let answer = api.get(&agent_pool("nothere"), VERSION).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.json["code"], "NotFound");
    assert_eq!(answer.json["subcode"], "GetAgentPool_NotFound");
    assert!(
        answer
            .message()
            .starts_with("Could not find the agentpool "),
        "{answer:?}"
    );
}

#[tokio::test]
async fn missing_parents_have_their_own_errors() {
    let api = Api::new();
    let answer = api
        .put(&agent_pool("mignode"), VERSION, &the_articles_pool())
        .await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::NOT_FOUND, "ResourceGroupNotFound")
    );
    assert_eq!(
        answer.json["error"]["message"],
        "Resource group 'myResourceGroup' could not be found."
    );
    api.put(
        &group(),
        "2024-11-01",
        &json!({"location": "southcentralus"}),
    )
    .await;
    let answer = api
        .put(&agent_pool("mignode"), VERSION, &the_articles_pool())
        .await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::NOT_FOUND, "ParentResourceNotFound")
    );
    assert_eq!(
        answer.message(),
        "Can not perform requested operation on nested resource. Parent resource 'myAKSCluster' not found."
    );
    let answer = api.get(&format!("{}/agentPools", cluster()), VERSION).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::NOT_FOUND, "ResourceNotFound")
    );
    assert_eq!(
        answer.message(),
        "The Resource 'Microsoft.ContainerService/managedClusters/myAKSCluster' under resource group 'myResourceGroup' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    );
}

fn changed(field: &str, value: Value) -> Value {
    let mut body = the_articles_pool();
    body["properties"][field] = value;
    body
}

#[rstest]
#[case(changed("gpuInstanceProfile", json!("MIG2g")), "properties.gpuInstanceProfile")]
#[case(changed("vmSize", json!("Standard_ND96amsr_A100_v4")), "properties.vmSize")]
#[case(changed("gpuProfile", json!({"nvidia": {"migStrategy": "Mixed"}})), "properties.gpuProfile.nvidia.migStrategy")]
#[tokio::test]
async fn what_a_pool_is_made_of_cannot_be_changed(#[case] body: Value, #[case] target: &str) {
    let api = Api::with_pool().await;
    let before = api.get(&agent_pool("mignode"), VERSION).await;
    let answer = api.put(&agent_pool("mignode"), VERSION, &body).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, "PropertyChangeNotAllowed")
    );
    assert_eq!(answer.json["target"], target);
    assert!(
        answer
            .message()
            .starts_with(&format!("Changing property '{target}' is not allowed."))
    );
    assert_eq!(
        api.get(&agent_pool("mignode"), VERSION).await.json,
        before.json
    );
}

#[rstest]
#[case("MIGNODE", the_articles_pool(), "agentPoolProfile.name")]
#[case("toolongforapool", the_articles_pool(), "agentPoolProfile.name")]
#[case("mignode", changed("count", json!(1001)), "agentPoolProfile.count")]
#[case("mignode", changed("gpuInstanceProfile", json!("MIG9g")), "agentPoolProfile.gpuInstanceProfile")]
#[case("mignode", changed("vmSize", json!("Standard_Nope")), "agentPoolProfile.vmSize")]
#[case("mignode", changed("vmSize", json!("Standard_NC4as_T4_v3")), "agentPoolProfile.gpuInstanceProfile")]
#[case("mignode", changed("layouts", json!("3g.20gb")), "agentPoolProfile.layouts")]
#[case("mignode", changed("mode", json!("Other")), "agentPoolProfile.mode")]
#[case("mignode", changed("nodeTaints", json!(["sku=gpu"])), "agentPoolProfile.nodeTaints")]
#[case("mignode", changed("osType", json!("Windows")), "agentPoolProfile.osType")]
#[case("mignode", json!({"properties": {"mode": "System", "powerState": {"code": "Stopped"}}}), "agentPoolProfile.powerState")]
#[case("mignode", changed("powerState", json!({"code": "Paused"})), "agentPoolProfile.powerState.code")]
#[case("mignode", changed("orchestratorVersion", json!("1.20.0")), "agentPoolProfile.orchestratorVersion")]
#[case("mignode", changed("minCount", json!(1)), "agentPoolProfile.enableAutoScaling")]
#[case("mignode", changed("enableAutoScaling", json!(true)), "agentPoolProfile.enableAutoScaling")]
#[case("mignode", changed("type", json!("VirtualMachines")), "agentPoolProfile.type")]
#[case("mignode", changed("creationData", json!({"sourceResourceId": "/s"})), "agentPoolProfile.creationData")]
#[case("mignode", changed("scaleSetPriority", json!("Cheap")), "agentPoolProfile.scaleSetPriority")]
#[case("mignode", changed("scaleSetEvictionPolicy", json!("Delete")), "agentPoolProfile.scaleSetEvictionPolicy")]
#[case("mignode", json!({"properties": {"mode": "System", "scaleSetPriority": "Spot"}}), "agentPoolProfile.scaleSetPriority")]
#[case("mignode", changed("maxPods", json!(5)), "agentPoolProfile.maxPods")]
#[case("mignode", changed("gpuProfile", json!({"driver": "Maybe"})), "agentPoolProfile.gpuProfile.driver")]
#[case("mignode", changed("gpuProfile", json!({"nvidia": {"driverMode": "DRA"}})), "agentPoolProfile.gpuProfile.driverMode")]
#[case("mignode", changed("gpuProfile", json!({"nvidia": {"managementMode": "Partly"}})), "agentPoolProfile.gpuProfile.managementMode")]
#[case("mignode", changed("gpuProfile", json!({"nvidia": {"migProfiles": ["MIG1g"]}})), "agentPoolProfile.gpuProfile.nvidia.migProfiles")]
#[tokio::test]
async fn what_cannot_be_had_is_refused_and_nothing_is_stored(
    #[case] name: &str,
    #[case] body: Value,
    #[case] target: &str,
) {
    let api = Api::with_cluster().await;
    let answer = api.put(&agent_pool(name), VERSION, &body).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, "InvalidParameter"),
        "{answer:?}"
    );
    assert_eq!(answer.json["target"], target);
    let list = api.get(&format!("{}/agentPools", cluster()), VERSION).await;
    let names: Vec<&Value> = list.json["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pool| &pool["name"])
        .collect();
    assert_eq!(names, ["nodepool1"]);
}

#[tokio::test]
async fn the_sentences_for_a_bad_name_and_count_are_those_of_aks() {
    let api = Api::with_cluster().await;
    let answer = api
        .put(&agent_pool("BAD"), VERSION, &the_articles_pool())
        .await;
    assert!(
        answer.message().starts_with("The value of parameter agentPoolProfile.name is invalid. Please see https://aka.ms/aks-naming-rules for more details."),
        "{answer:?}"
    );
    let mut system = changed("count", json!(0));
    system["properties"]["mode"] = json!("System");
    let answer = api.put(&agent_pool("mignode"), VERSION, &system).await;
    assert_eq!(
        answer.message(),
        "agentPoolProfile.count was 0. It must be greater or equal to minCount:1 and less than or equal to maxCount:1000."
    );
}

#[tokio::test]
async fn the_last_system_pool_stays() {
    let api = Api::with_pool().await;
    let answer = api.delete(&agent_pool("nodepool1"), VERSION).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(
        answer.message().contains("at least one system agent pool"),
        "{answer:?}"
    );
    let body = json!({"properties": {"mode": "User", "count": 1}});
    let answer = api.put(&agent_pool("nodepool1"), VERSION, &body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let another = json!({"properties": {"mode": "System", "count": 1}});
    assert_eq!(
        api.put(&agent_pool("second"), VERSION, &another)
            .await
            .status,
        StatusCode::CREATED
    );
    assert_eq!(
        api.delete(&agent_pool("nodepool1"), VERSION).await.status,
        StatusCode::ACCEPTED
    );
}

#[tokio::test]
async fn empty_texts_and_zeros_get_defaults() {
    let api = Api::with_cluster().await;
    let body = json!({"properties": {
        "count": 1, "vmSize": "", "orchestratorVersion": "", "osDiskSizeGB": 0, "gpuInstanceProfile": "", "mode": "",
    }});
    let answer = api.put(&agent_pool("plain"), VERSION, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let properties = &answer.json["properties"];
    assert_eq!(properties["vmSize"], "Standard_DS2_v2");
    assert_eq!(properties["osDiskSizeGB"], 128);
    assert_eq!(properties["mode"], "User");
    assert_eq!(properties["orchestratorVersion"], "1.33.0");
    assert_eq!(properties.get("gpuInstanceProfile"), None);
    assert_eq!(properties.get("gpuProfile"), None);
}

#[tokio::test]
async fn fields_that_mean_nothing_here_are_kept_and_given_back() {
    let api = Api::with_cluster().await;
    let mut body = the_articles_pool();
    let kept = json!({
        "upgradeSettings": {"maxSurge": "33%"},
        "availabilityZones": ["1", "2"],
        "scaleSetPriority": "Spot",
        "spotMaxPrice": -1.0,
        "gpuProfile": {"driver": "Install", "nvidia": {"managementMode": "Unmanaged", "migStrategy": "Mixed"}},
        "nodeLabels": {"team": "a"},
        "nodeTaints": ["sku=gpu:NoSchedule"],
        "tags": {"cost": "center"},
    });
    for (name, value) in kept.as_object().unwrap() {
        body["properties"][name] = value.clone();
    }
    api.put(&agent_pool("mignode"), VERSION, &body).await;
    let answer = api.get(&agent_pool("mignode"), VERSION).await;
    for (name, value) in kept.as_object().unwrap() {
        assert_eq!(answer.json["properties"][name], *value, "{name}");
    }
}

#[tokio::test]
async fn layouts_are_migpools_own_and_come_back_as_text() {
    let api = Api::with_cluster().await;
    let body = json!({"properties": {
        "count": 1, "vmSize": "Standard_ND96asr_v4",
        "layouts": "0-3=3g.20gb,2g.10gb,1g.5gb*2;4-7=off",
        "gpuProfile": {"nvidia": {"migStrategy": "Mixed"}},
    }});
    let answer = api.put(&agent_pool("mixed"), VERSION, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    assert_eq!(
        answer.json["properties"]["layouts"],
        "0-3=3g.20gb,2g.10gb,1g.5gb*2;4-7=off"
    );
    api.settle().await;
    let nodes = api
        .get(
            &format!("{}/providers/Migpool.Local/nodes", cluster()),
            VERSION,
        )
        .await;
    let node = nodes.json["value"]
        .as_array()
        .unwrap()
        .iter()
        .find(|n| n["properties"]["spec"]["pool"]["pool"] == "mixed")
        .unwrap();
    assert_eq!(
        node["properties"]["allocatable"]["nvidia.com/mig-1g.5gb"],
        8
    );
    assert_eq!(node["properties"]["allocatable"]["nvidia.com/gpu"], 4);
}

#[tokio::test]
async fn etags_guard_changes_and_deletions() {
    let api = Api::with_pool().await;
    let pool = api.get(&agent_pool("mignode"), VERSION).await;
    let etag = pool.json["properties"]["eTag"].as_str().unwrap().to_owned();
    assert_eq!(pool.header("etag"), Some(format!("\"{etag}\"").as_str()));

    let body = changed("count", json!(2));
    let wrong = api
        .put_if(
            &agent_pool("mignode"),
            VERSION,
            &body,
            &[("if-match", "\"other\"")],
        )
        .await;
    assert_eq!(
        (wrong.status, wrong.code()),
        (StatusCode::PRECONDITION_FAILED, "PreconditionFailed")
    );
    let there = api
        .put_if(
            &agent_pool("mignode"),
            VERSION,
            &body,
            &[("if-none-match", "*")],
        )
        .await;
    assert_eq!(there.status, StatusCode::PRECONDITION_FAILED);
    let absent = api
        .put_if(&agent_pool("another"), VERSION, &body, &[("if-match", "*")])
        .await;
    assert_eq!(absent.status, StatusCode::PRECONDITION_FAILED);
    let right = api
        .put_if(
            &agent_pool("mignode"),
            VERSION,
            &body,
            &[("if-match", &etag)],
        )
        .await;
    assert_eq!(right.status, StatusCode::OK);
    assert_ne!(right.json["properties"]["eTag"], etag.as_str());

    let uri = format!("{}?api-version={VERSION}", agent_pool("mignode"));
    let stale = api
        .send(Method::DELETE, &uri, &[("if-match", &etag)], "")
        .await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let new = api
        .put_if(
            &agent_pool("another"),
            VERSION,
            &body,
            &[("if-none-match", "*")],
        )
        .await;
    assert_eq!(new.status, StatusCode::CREATED);
}

#[tokio::test]
async fn names_in_any_case_are_one_resource_and_words_in_any_case_one_path() {
    let api = Api::with_pool().await;
    let path = agent_pool("mignode")
        .replace(
            "resourcegroups/myResourceGroup",
            "resourceGroups/MYRESOURCEGROUP",
        )
        .replace(
            "managedClusters/myAKSCluster",
            "MANAGEDCLUSTERS/myakscluster",
        )
        .replace("agentPools", "AgentPools")
        .replace("Microsoft.ContainerService", "microsoft.containerservice");
    let answer = api.get(&path, VERSION).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(
        answer.json["id"]
            .as_str()
            .unwrap()
            .contains("/resourcegroups/myResourceGroup/"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_subscription_is_a_scope_of_its_own_and_must_be_a_uuid() {
    let api = Api::with_pool().await;
    let other = agent_pool("mignode").replace("00000000-0000", "11111111-0000");
    assert_eq!(
        api.get(&other, VERSION).await.code(),
        "SubscriptionNotFound"
    );
    let none = agent_pool("mignode").replace("00000000-0000-0000-0000-000000000000", "mine");
    let answer = api.get(&none, VERSION).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, "InvalidSubscriptionId")
    );
}
