//! Deployments of templates, as `az deployment group create` and compiled Bicep have them.

use crate::common::{Answer, Api, SUBSCRIPTION, VERSION, agent_pool, cluster, group};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};

/// What `az` sends.
pub(crate) const DEPLOYMENTS: &str = "2025-04-01";

pub(crate) fn deployment(name: &str) -> String {
    format!(
        "{}/providers/Microsoft.Resources/deployments/{name}",
        group()
    )
}

/// A cluster and the article's pool, as Bicep compiles them.
fn template() -> Value {
    json!({
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "metadata": {"_generator": {"name": "bicep", "version": "0.36.1.42791", "templateHash": "1"}},
        "parameters": {
            "clusterName": {"type": "string", "defaultValue": "myAKSCluster"},
            "location": {"type": "string", "defaultValue": "[resourceGroup().location]"},
            "poolName": {"type": "string", "defaultValue": "[toLower('MIGNODE')]", "maxLength": 12},
            "profile": {"type": "string", "allowedValues": ["MIG1g", "MIG7g"]},
            "password": {"type": "securestring", "defaultValue": "hidden"},
        },
        "variables": {
            "a_tags": {"team": "[variables('team')]", "password": "[parameters('password')]"},
            "team": "[format('team-{0}', parameters('clusterName'))]",
        },
        "resources": [
            {
                "type": "Microsoft.ContainerService/managedClusters/agentPools",
                "apiVersion": "2024-09-01",
                "name": "[format('{0}/{1}', parameters('clusterName'), parameters('poolName'))]",
                "properties": {
                    "count": 1,
                    "vmSize": "Standard_ND96asr_v4",
                    "gpuInstanceProfile": "[parameters('profile')]",
                },
                "dependsOn": [
                    "[resourceId('Microsoft.ContainerService/managedClusters', parameters('clusterName'))]",
                ],
            },
            {
                "type": "Microsoft.ContainerService/managedClusters",
                "apiVersion": "2024-02-01",
                "name": "[parameters('clusterName')]",
                "location": "[parameters('location')]",
                "tags": {"team": "[variables('a_tags').team]"},
                "identity": {"type": "SystemAssigned"},
                "properties": {
                    "dnsPrefix": "mig",
                    "agentPoolProfiles": [{"name": "agentpool", "count": 1, "vmSize": "Standard_DS2_v2", "mode": "System"}],
                },
            },
        ],
        "outputs": {
            "prefix": {
                "type": "string",
                "value": "[reference(resourceId('Microsoft.ContainerService/managedClusters', parameters('clusterName')), '2024-02-01').dnsPrefix]",
            },
            "team": {"type": "string", "value": "[variables('team')]"},
        },
    })
}

pub(crate) fn body(template: &Value, parameters: &Value) -> Value {
    json!({"properties": {"mode": "Incremental", "template": template, "parameters": parameters}})
}

fn asked() -> Value {
    body(&template(), &json!({"profile": {"value": "MIG1g"}}))
}

async fn with_group() -> Api {
    let api = Api::new();
    let body = json!({"location": "southcentralus"});
    api.put(&group(), "2024-11-01", &body).await;
    api
}

pub(crate) async fn post(api: &Api, what: &str, body: &Value) -> Answer {
    let uri = format!("{}/{what}?api-version={DEPLOYMENTS}", deployment("dep"));
    api.send(Method::POST, &uri, &[], body.to_string()).await
}

#[tokio::test]
async fn a_cluster_and_then_its_pool_are_made_and_the_deployment_ends_when_they_are_there() {
    let api = with_group().await;
    api.backend.hold_nodes();
    let answer = api.put(&deployment("dep"), DEPLOYMENTS, &asked()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    assert_eq!(answer.json["properties"]["provisioningState"], "Running");
    assert_eq!(
        answer.json["properties"]["parameters"]["location"],
        json!({"type": "String", "value": "southcentralus"})
    );
    assert!(!answer.text.contains("hidden"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let poll = answer.header("azure-asyncoperation").unwrap().to_owned();
    assert!(poll.contains("/operationStatuses/"), "{poll}");
    assert_eq!(api.follow(&poll).await.json, json!({"status": "Running"}));
    api.settle().await;

    let made = api.get(&cluster(), VERSION).await;
    assert_eq!(made.json["tags"], json!({"team": "team-myAKSCluster"}));
    let pool = api.get(&agent_pool("mignode"), VERSION).await;
    assert_eq!(pool.status, StatusCode::NOT_FOUND, "{pool:?}");
    let again = api.put(&deployment("dep"), DEPLOYMENTS, &asked()).await;
    assert_eq!(
        (again.status, again.code()),
        (StatusCode::CONFLICT, "DeploymentActive")
    );
    let uri = format!("{}?api-version={DEPLOYMENTS}", deployment("dep"));
    let deleted = api.send(Method::DELETE, &uri, &[], Body::empty()).await;
    assert_eq!(deleted.code(), "DeploymentActive");

    for _ in 0..3 {
        api.backend.advance_all();
        api.settle().await;
    }
    assert_eq!(api.follow(&poll).await.json, json!({"status": "Succeeded"}));
    let pool = api.get(&agent_pool("mignode"), VERSION).await;
    assert_eq!(pool.json["properties"]["gpuInstanceProfile"], "MIG1g");
    let shown = api.get(&deployment("dep"), DEPLOYMENTS).await;
    let properties = &shown.json["properties"];
    assert_eq!(properties["provisioningState"], "Succeeded");
    assert_eq!(
        properties["outputs"],
        json!({
            "prefix": {"type": "String", "value": "mig"},
            "team": {"type": "String", "value": "team-myAKSCluster"},
        })
    );
    let made = properties["outputResources"].as_array().unwrap();
    assert_eq!(made.len(), 2);
    let dependencies = &properties["dependencies"][0];
    assert_eq!(dependencies["resourceName"], "myAKSCluster/mignode");
    assert!(properties["duration"].as_str().unwrap().starts_with("PT"));
    let stored = format!("{:?}", api.backend);
    assert!(!stored.contains("hidden"), "a secret is kept");
}

#[tokio::test]
async fn it_is_read_with_comments_and_under_a_name_without_quotes_as_az_sends_it() {
    let api = Api::with_cluster().await;
    let text = r#"{"properties": {"parameters": {"name": {"value": "mignode"}}, "mode": "Incremental", template:{ "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#", "contentVersion": "1.0.0.0",
  // a comment
  "parameters": {"name": {"type":"string"}},
  "resources": [ {"type":"Microsoft.ContainerService/managedClusters/agentPools","apiVersion":"2024-09-01","name":"[format('{0}/{1}', 'myAKSCluster', parameters('name'))]","properties":{"count":1,"vmSize":"Standard_ND96asr_v4","gpuInstanceProfile":"MIG1g"}} ] }
}}"#;
    for (method, what) in [(Method::POST, "/validate"), (Method::PUT, "")] {
        let uri = format!("{}{what}?api-version={DEPLOYMENTS}", deployment("dep"));
        let answer = api.send(method, &uri, &[], text).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }
    api.settle().await;
    let shown = api.get(&deployment("dep"), DEPLOYMENTS).await;
    assert_eq!(shown.json["properties"]["provisioningState"], "Succeeded");
    let pool = api.get(&agent_pool("mignode"), VERSION).await;
    assert_eq!(pool.json["properties"]["provisioningState"], "Succeeded");
}

#[tokio::test]
async fn validation_makes_nothing() {
    let api = with_group().await;
    let answer = post(&api, "validate", &asked()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json["properties"]["provisioningState"], "Succeeded");
    let looked_at = answer.json["properties"]["validatedResources"].as_array();
    assert_eq!(looked_at.unwrap().len(), 2);
    api.settle().await;
    assert_eq!(
        api.get(&cluster(), VERSION).await.code(),
        "ResourceNotFound"
    );
    let none = api.get(&deployment("dep"), DEPLOYMENTS).await;
    assert_eq!(
        (none.status, none.code()),
        (StatusCode::NOT_FOUND, "DeploymentNotFound")
    );
}

#[rstest]
#[case("/resources/0/properties/count", json!("[copyIndex()]"), "the function 'copyIndex' can't be had here")]
#[case("/resources/0/copy", json!({"name": "a", "count": 2}), "'copy' can't be had here")]
#[case("/resources/0/type", json!("Microsoft.Storage/storageAccounts"), "resources of this type can't be made here")]
#[case("/resources/0/dependsOn", json!(["nothing"]), "the resource 'nothing' that 'myAKSCluster/mignode' depends on is not defined")]
#[case("/resources/1/dependsOn", json!(["myAKSCluster/mignode"]), "depends on itself, by way of others")]
#[case("/resources/1/condition", json!("yes"), "its condition is")]
#[case("/parameters/profile/allowedValues", json!(["MIG2g"]), "is none of")]
#[case("/parameters/poolName/maxLength", json!(3), "shorter or longer")]
#[case("/parameters/clusterName/type", json!("int"), "is not of its type Int")]
#[case("/parameters/more", json!({"type": "string"}), "the parameter 'more': it has no default")]
#[case("/variables/team", json!("[variables('a_tags')]"), "is made of itself")]
#[case("/outputs/team/value", json!("[listKeys('a', 'b')]"), "the output 'team'")]
#[case("/outputs/prefix/value", json!("[reference('other').a]"), "no resource of the template")]
#[case("/functions", json!([{"namespace": "a"}]), "functions of the template's own")]
#[case("/resource", json!([]), "the part 'resource'")]
#[tokio::test]
async fn a_template_that_cannot_be_carried_out_is_refused_whole_and_says_why(
    #[case] at: &str,
    #[case] value: Value,
    #[case] told: &str,
) {
    let api = with_group().await;
    let mut template = template();
    let (parent, name) = at.rsplit_once('/').unwrap();
    template.pointer_mut(parent).unwrap()[name] = value;
    let body = body(&template, &json!({"profile": {"value": "MIG1g"}}));
    for answer in [
        post(&api, "validate", &body).await,
        api.put(&deployment("dep"), DEPLOYMENTS, &body).await,
    ] {
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::BAD_REQUEST, "InvalidTemplate"),
            "{answer:?}"
        );
        assert!(answer.message().contains(told), "{answer:?}");
    }
    api.settle().await;
    assert_eq!(
        api.get(&cluster(), VERSION).await.code(),
        "ResourceNotFound"
    );
}

#[tokio::test]
async fn a_resource_that_would_be_refused_stops_all_before_anything_is_made() {
    let api = with_group().await;
    let mut template = template();
    template["resources"][0]["properties"]["vmSize"] = json!("Standard_DS2_v2");
    let body = body(&template, &json!({"profile": {"value": "MIG1g"}}));
    let answer = api.put(&deployment("dep"), DEPLOYMENTS, &body).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, "InvalidTemplateDeployment")
    );
    let inner = &answer.json["error"]["details"][0];
    assert_eq!(inner["code"], "InvalidParameter");
    assert!(inner["message"].as_str().unwrap().contains("has no GPU"));
    assert_eq!(
        api.get(&cluster(), VERSION).await.code(),
        "ResourceNotFound"
    );
    let parameter = json!({"profile": {"value": "MIG1g"}, "other": {"value": 1}});
    let answer = api
        .put(
            &deployment("dep"),
            DEPLOYMENTS,
            &self::body(&self::template(), &parameter),
        )
        .await;
    assert!(
        answer.message().contains("no parameter 'other'"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_pool_that_fails_fails_the_deployment_with_its_nodes_reason() {
    let api = with_group().await;
    api.backend.hold_nodes();
    let answer = api.put(&deployment("dep"), DEPLOYMENTS, &asked()).await;
    let poll = answer.header("azure-asyncoperation").unwrap().to_owned();
    api.settle().await;
    api.backend.advance_all();
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
    assert_eq!(failed.json["status"], "Failed");
    assert_eq!(failed.json["error"]["code"], "DeploymentFailed");
    let detail = &failed.json["error"]["details"][0];
    assert_eq!(detail["code"], "ReconcileAgentPoolFailed");
    assert!(detail["message"].as_str().unwrap().contains("GPU 3"));
    let operations = format!("{}/deployments/dep/operations", group());
    let operations = api.get(&operations, DEPLOYMENTS).await;
    let operations = operations.json["value"].as_array().unwrap();
    let state = |name: &str| {
        let found = operations.iter().find(|it| {
            it["properties"]["targetResource"]["resourceName"]
                .as_str()
                .unwrap()
                .ends_with(name)
        });
        found.unwrap()["properties"].clone()
    };
    assert_eq!(state("myAKSCluster")["provisioningState"], "Succeeded");
    assert_eq!(state("myAKSCluster")["statusCode"], "Created");
    assert_eq!(state("mignode")["provisioningState"], "Failed");
    let told = &state("mignode")["statusMessage"]["error"]["message"];
    assert!(told.as_str().unwrap().contains("GPU 3"));
}

#[tokio::test]
async fn deploying_the_same_again_changes_nothing() {
    let api = with_group().await;
    api.put(&deployment("dep"), DEPLOYMENTS, &asked()).await;
    api.settle().await;
    let before = api.get(&cluster(), VERSION).await.json;
    let again = api.put(&deployment("dep"), DEPLOYMENTS, &asked()).await;
    assert_eq!(again.status, StatusCode::OK, "{again:?}");
    api.settle().await;
    let shown = api.get(&deployment("dep"), DEPLOYMENTS).await;
    assert_eq!(shown.json["properties"]["provisioningState"], "Succeeded");
    assert_eq!(api.get(&cluster(), VERSION).await.json, before);
}

#[tokio::test]
async fn resources_may_be_named_by_symbols_left_out_and_be_there_already() {
    let api = Api::with_cluster().await;
    let pool = |name: &str| {
        json!({
            "type": "Microsoft.ContainerService/managedClusters/agentPools",
            "apiVersion": "2024-09-01",
            "name": format!("myAKSCluster/{name}"),
            "properties": {"count": 0, "vmSize": "Standard_ND96asr_v4"},
        })
    };
    let mut second = pool("second");
    second["dependsOn"] = json!(["first", "aks"]);
    let mut third = pool("third");
    third["condition"] = json!("[not(true())]");
    let template = json!({
        "languageVersion": "2.0",
        "resources": {
            "aks": {"existing": true, "type": "Microsoft.ContainerService/managedClusters", "apiVersion": "2024-09-01", "name": "myAKSCluster"},
            "first": pool("first"),
            "second": second,
            "third": third,
        },
    });
    let answer = api
        .put(
            &deployment("dep"),
            DEPLOYMENTS,
            &body(&template, &json!({})),
        )
        .await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let dependency = &answer.json["properties"]["dependencies"][0];
    assert_eq!(
        dependency["dependsOn"][0]["resourceName"],
        "myAKSCluster/first"
    );
    api.settle().await;
    let shown = api.get(&deployment("dep"), DEPLOYMENTS).await;
    assert_eq!(shown.json["properties"]["provisioningState"], "Succeeded");
    for (name, status) in [
        ("first", StatusCode::OK),
        ("second", StatusCode::OK),
        ("third", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(api.get(&agent_pool(name), VERSION).await.status, status);
    }
}

#[tokio::test]
async fn a_canceled_deployment_begins_nothing_more_and_can_be_deleted() {
    let api = with_group().await;
    api.backend.hold_nodes();
    api.put(&deployment("dep"), DEPLOYMENTS, &asked()).await;
    api.settle().await;
    let canceled = post(&api, "cancel", &json!({})).await;
    assert_eq!(canceled.status, StatusCode::NO_CONTENT);
    let again = post(&api, "cancel", &json!({})).await;
    assert_eq!(
        (again.status, again.code()),
        (StatusCode::CONFLICT, "DeploymentCannotBeCancelled")
    );
    api.backend.advance_all();
    api.settle().await;
    let made = api.get(&cluster(), VERSION).await;
    assert_eq!(made.json["properties"]["provisioningState"], "Succeeded");
    assert_eq!(
        api.get(&agent_pool("mignode"), VERSION).await.status,
        StatusCode::NOT_FOUND
    );
    let head = async || {
        let uri = format!("{}?api-version={DEPLOYMENTS}", deployment("dep"));
        let answer = api.send(Method::HEAD, &uri, &[], Body::empty()).await;
        answer.status
    };
    assert_eq!(head().await, StatusCode::NO_CONTENT);
    let deleted = api.delete(&deployment("dep"), DEPLOYMENTS).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    assert_eq!(head().await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn deployments_are_listed_by_state_and_go_with_their_group() {
    let api = with_group().await;
    for name in ["one", "two"] {
        api.put(&deployment(name), DEPLOYMENTS, &asked()).await;
        api.settle().await;
    }
    let list = async |filter: &str| {
        let uri = format!("{}?api-version={DEPLOYMENTS}{filter}", deployment(""));
        let answer = api.send(Method::GET, &uri, &[], Body::empty()).await;
        answer.json["value"].as_array().map(Vec::len)
    };
    assert_eq!(list("").await, Some(2));
    let succeeded = "&$filter=provisioningState%20eq%20'Succeeded'";
    assert_eq!(list(succeeded).await, Some(2));
    assert_eq!(
        list(&succeeded.replace("Succeeded", "Failed")).await,
        Some(0)
    );
    api.delete(&group(), "2024-11-01").await;
    api.settle().await;
    assert_eq!(list("").await, None);
    let body = json!({"location": "southcentralus"});
    api.put(&group(), "2024-11-01", &body).await;
    assert_eq!(list("").await, Some(0));
}

#[rstest]
#[case(json!({"mode": "Complete", "template": {}}), "InvalidDeployment")]
#[case(json!({"mode": "Incremental"}), "InvalidDeployment")]
#[case(json!({"mode": "Incremental", "templateLink": {"uri": "https://x"}}), "InvalidDeployment")]
#[case(json!({"mode": "Incremental", "template": []}), "UnmarshalError")]
#[case(json!({"mode": "Incremental", "template": {}, "parameters": {"a": 1}}), "UnmarshalError")]
#[tokio::test]
async fn what_is_no_deployment_here_is_refused(#[case] properties: Value, #[case] code: &str) {
    let api = with_group().await;
    let body = json!({"properties": properties});
    let answer = api.put(&deployment("dep"), DEPLOYMENTS, &body).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, code)
    );
}

#[tokio::test]
async fn what_would_change_and_what_was_deployed_are_not_told() {
    let api = with_group().await;
    let what_if = post(&api, "whatIf", &asked()).await;
    assert_eq!(
        (what_if.status, what_if.code()),
        (StatusCode::OK, "NotSupported")
    );
    assert_eq!(what_if.json["status"], "Failed");
    assert!(what_if.message().contains("validate"), "{what_if:?}");
    api.put(&deployment("dep"), DEPLOYMENTS, &asked()).await;
    let export = post(&api, "exportTemplate", &json!({})).await;
    assert_eq!(export.code(), "NotSupported");
    let elsewhere =
        format!("{SUBSCRIPTION}/resourcegroups/none/providers/Microsoft.Resources/deployments/dep");
    let none = api.put(&elsewhere, DEPLOYMENTS, &asked()).await;
    assert_eq!(none.code(), "ResourceGroupNotFound");
}
