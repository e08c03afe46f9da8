//! How deep what is sent may be nested, and that what is kept can be read again.

use crate::common::{
    Answer, Api, VERSION, agent_pool, cluster, group, the_articles_cluster, the_articles_pool,
};
use axum::http::{Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};

const GROUPS: &str = "2024-11-01";
const DEPLOYMENTS: &str = "2025-04-01";
/// How many levels there may be.
const DEEPEST: usize = 64;

fn deployment() -> String {
    format!("{}/providers/Microsoft.Resources/deployments/dep", group())
}

/// Objects and arrays within one another.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!("x"), |value, level| {
        if level % 2 == 0 {
            json!({ "a": value })
        } else {
            json!([value])
        }
    })
}

/// Objects alone.
fn objects(levels: usize) -> Value {
    (0..levels).fold(json!("x"), |value, _| json!({ "a": value }))
}

fn a_pool(levels: usize) -> (String, &'static str, Value) {
    let mut body = the_articles_pool();
    body["properties"]["kubeletConfig"] = objects(levels - 2);
    (agent_pool("deep"), VERSION, body)
}

fn a_cluster(levels: usize) -> (String, &'static str, Value) {
    let mut body = the_articles_cluster();
    body["identity"] = objects(levels - 1);
    (cluster(), VERSION, body)
}

fn a_clusters_pool(levels: usize) -> (String, &'static str, Value) {
    let mut body = the_articles_cluster();
    body["properties"]["agentPoolProfiles"][0]["linuxOSConfig"] = objects(levels - 4);
    (cluster(), VERSION, body)
}

/// What a group has no use for is passed over.
fn a_group(levels: usize) -> (String, &'static str, Value) {
    let body = json!({"location": "southcentralus", "more": nested(levels - 1)});
    (group(), GROUPS, body)
}

fn of_template(template: &Value) -> (String, &'static str, Value) {
    let properties = json!({"mode": "Incremental", "template": template});
    let body = json!({ "properties": properties });
    (deployment(), DEPLOYMENTS, body)
}

/// A cluster, as a resource of a template.
fn resource() -> Value {
    let mut resource = the_articles_cluster();
    resource["type"] = json!("Microsoft.ContainerService/managedClusters");
    resource["apiVersion"] = json!("2024-02-01");
    resource["name"] = json!("myAKSCluster");
    resource
}

/// As it is written.
fn a_template(levels: usize) -> (String, &'static str, Value) {
    let mut resource = resource();
    resource["identity"] = objects(levels - 5);
    of_template(&json!({ "resources": [resource] }))
}

fn a_parameter(levels: usize) -> (String, &'static str, Value) {
    let parameters = json!({"deep": {"type": "object"}});
    let (path, version, mut body) = of_template(&json!({"parameters": parameters}));
    body["properties"]["parameters"] = json!({"deep": {"value": objects(levels - 4)}});
    (path, version, body)
}

/// Each of two variables makes half of what the resource is.
fn what_a_resource_comes_to(levels: usize) -> (String, &'static str, Value) {
    let mut resource = resource();
    resource["identity"] = json!("[variables('whole')]");
    let written = (0..(levels - 1) / 2).fold(json!("[variables('part')]"), |it, _| json!([it]));
    of_template(&json!({
        "variables": {"part": objects(levels - 1 - (levels - 1) / 2), "whole": written},
        "resources": [resource],
    }))
}

fn what_a_variable_comes_to(levels: usize) -> (String, &'static str, Value) {
    of_template(&json!({"variables": {
        "a": format!("[{}variables('b'){}]", "createArray(".repeat(40), ")".repeat(40)),
        "b": objects(levels - 40),
    }}))
}

fn what_an_output_comes_to(levels: usize) -> (String, &'static str, Value) {
    let (part, rest) = (levels / 2, levels - levels / 2);
    let written = (0..rest).fold(json!("[variables('part')]"), |it, _| json!({ "b": it }));
    of_template(&json!({
        "variables": {"part": objects(part)},
        "outputs": {"deep": {"type": "object", "value": written}},
    }))
}

async fn with_group() -> Api {
    let api = Api::new();
    let body = json!({"location": "southcentralus"});
    api.put(&group(), GROUPS, &body).await;
    api
}

async fn kept(api: &Api) -> Vec<Value> {
    let records = api.records().await.into_iter();
    records.map(|record| record.body).collect()
}

type Sent = (String, &'static str, Value);

#[rstest]
#[case(a_group, "InvalidRequestContent")]
#[case(a_pool, "InvalidRequestContent")]
#[case(a_cluster, "InvalidRequestContent")]
#[case(a_clusters_pool, "InvalidRequestContent")]
#[case(a_template, "InvalidRequestContent")]
#[case(a_parameter, "InvalidRequestContent")]
#[case(what_a_resource_comes_to, "InvalidTemplate")]
#[case(what_a_variable_comes_to, "InvalidTemplate")]
#[case(what_an_output_comes_to, "InvalidTemplate")]
#[tokio::test]
async fn what_is_nested_as_deep_as_may_be_can_be_read_again_and_deeper_is_refused(
    #[case] sent: fn(usize) -> Sent,
    #[case] code: &str,
) {
    let api = if sent(DEEPEST).0 == agent_pool("deep") {
        Api::with_cluster().await
    } else {
        with_group().await
    };
    let before = kept(&api).await;
    let is_refused = |answer: Answer| {
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::BAD_REQUEST, code),
            "{answer:?}"
        );
        assert!(answer.message().contains("deeper than 64"), "{answer:?}");
    };
    for levels in [65, 66, 100] {
        let (path, version, body) = sent(levels);
        is_refused(api.put(&path, version, &body).await);
        if version == DEPLOYMENTS {
            is_refused(validate(&api, &body).await);
        }
    }
    assert_eq!(kept(&api).await, before);

    let (path, version, body) = sent(DEEPEST);
    if version == DEPLOYMENTS {
        let valid = validate(&api, &body).await;
        assert_eq!(valid.status, StatusCode::OK, "{valid:?}");
    }
    let put = api.put(&path, version, &body).await;
    assert!(put.status.is_success(), "{put:?}");
    api.settle().await;
    let shown = api.get(&path, version).await;
    assert_eq!(shown.status, StatusCode::OK);
    assert_eq!(
        shown.json["properties"]["provisioningState"], "Succeeded",
        "{shown:?}"
    );
    for record in kept(&api).await {
        // As a list of a cluster's custom resources has it.
        let listed = json!({"items": [{"spec": {"record": record}}]}).to_string();
        let read: Value = serde_json::from_str(&listed).unwrap();
        assert_eq!(read["items"][0]["spec"]["record"], record);
    }
    let deleted = api.delete(&path, version).await;
    assert!(deleted.status.is_success(), "{deleted:?}");
}

async fn validate(api: &Api, body: &Value) -> Answer {
    let uri = format!("{}/validate?api-version={DEPLOYMENTS}", deployment());
    api.send(Method::POST, &uri, &[], body.to_string()).await
}

#[rstest]
#[case(127)]
#[case(128)]
#[case(500)]
#[case(100_000)]
#[tokio::test]
async fn a_body_that_no_parser_takes_is_told_the_same_limit(#[case] levels: usize) {
    let api = with_group().await;
    let (open, close) = ("[".repeat(levels), "]".repeat(levels));
    let body = format!("{{\"location\": \"southcentralus\", \"properties\": {open}{close}}}");
    for (method, path, version) in [
        (Method::PUT, group(), GROUPS),
        (Method::PATCH, group(), GROUPS),
        (Method::PUT, cluster(), VERSION),
        (Method::PATCH, cluster(), VERSION),
        (Method::PUT, agent_pool("deep"), VERSION),
        (Method::PUT, deployment(), DEPLOYMENTS),
        (
            Method::POST,
            format!("{}/validate", deployment()),
            DEPLOYMENTS,
        ),
    ] {
        let uri = format!("{path}?api-version={version}");
        let answer = api.send(method, &uri, &[], body.clone()).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::BAD_REQUEST, "InvalidRequestContent"),
            "{answer:?}"
        );
        assert!(answer.message().contains("deeper than 64"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_template_of_a_million_properties_or_of_deep_variables_is_refused() {
    let api = with_group().await;
    let chain = json!({"variables": {"x": format!("['a'{}]", ".a".repeat(1_000_000))}});
    let deep = |place: usize| {
        let before = json!(format!("[variables('v{:02}')]", place - 1));
        (0..58).fold(before, |it, _| json!([it]))
    };
    let mut variables = json!({"v00": "x"});
    for place in 1..32 {
        variables[format!("v{place:02}")] = deep(place);
    }
    // The last one is made first.
    variables["a"] = json!("[variables('v31')]");
    let deep = json!({ "variables": variables });
    for (template, told) in [(chain, "more than 64"), (deep, "deeper than 128")] {
        let (path, version, body) = of_template(&template);
        for answer in [
            validate(&api, &body).await,
            api.put(&path, version, &body).await,
        ] {
            assert_eq!(
                (answer.status, answer.code()),
                (StatusCode::BAD_REQUEST, "InvalidTemplate")
            );
            assert!(answer.message().contains(told));
        }
    }
    assert_eq!(api.get(&group(), GROUPS).await.status, StatusCode::OK);
}
