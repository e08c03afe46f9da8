//! What the chart of the agent brings for clients of Azure Resource Manager.

use serde_json::Value;

use super::node_pools::rights;
use super::rendering::snapshot;
use super::{objects, of_kind, pod_spec};

const CHART: &str = "migpool";
const ON: &str = "--set=arm.enabled=true";

/// The object of a kind that is the front's.
fn fronts<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind).into_iter();
    let mut found =
        found.filter(|object| object["metadata"]["labels"]["app.kubernetes.io/component"] == "arm");
    found.next().unwrap()
}

#[test]
fn the_front_for_azures_clients() {
    let arguments = [
        ON,
        "--set=arm.replicas=2,arm.names={arm.example.com}",
        "--show-only=templates/arm.yaml",
        "--show-only=templates/arm-rbac.yaml",
    ];
    snapshot("the_front_for_azures_clients", CHART, &arguments);
}

#[test]
fn nothing_of_it_is_there_unless_it_is_asked_for() {
    let Some(objects) = objects(CHART, &[]) else {
        return;
    };
    let text = serde_json::to_string(&objects).unwrap();
    assert!(!text.contains("migpool-arm"), "{text}");
    assert!(!text.contains("resourcegroups"), "{text}");
    assert!(!text.contains("--arm"), "{text}");
}

#[test]
fn values_that_an_older_chart_did_not_have_are_the_defaults() {
    let absent = [
        ON,
        "--set=arm.service=null,arm.credentials=null,arm.issuer=null,arm.tolerations=null",
        "--set=arm.replicas=null,arm.port=null,arm.names=null,arm.subscription=null",
    ];
    let (Some(before), Some(after)) = (objects(CHART, &[ON]), objects(CHART, &absent)) else {
        return;
    };
    assert!(before == after);
}

#[test]
fn the_front_has_no_right_that_its_values_do_not_need() {
    let none = [ON, "--set=arm.credentials.clusterRole="];
    let Some(least) = rights("arm", &none) else {
        return;
    };
    let expected = [
        "get create update delete operations",
        "get list create update delete armdeployments",
        "get list create update managedclusters",
        "get list create update nodepools",
        "get list create update resourcegroups",
        "get patch secrets=r-migpool-arm",
        "list gpunodes",
        "list nodes",
        "patch configmaps=r-migpool-arm-authority",
    ];
    assert_eq!(least, expected);
    let mut more = rights("arm", &[ON]).unwrap();
    more.retain(|right| !least.contains(right));
    let credentials = [
        "create serviceaccounts/token=r-migpool-arm-user",
        "get configmaps=cluster-info",
    ];
    assert_eq!(more, credentials);
    let named = [ON, "--set=arm.credentials.server=https://api.example:6443"];
    let mut more = rights("arm", &named).unwrap();
    more.retain(|right| !least.contains(right));
    assert_eq!(more, credentials[..1]);
}

#[test]
fn the_front_is_told_its_objects_names_and_the_certificate_has_the_services() {
    let long = format!("--set=fullnameOverride={}", "a".repeat(63));
    let Some(objects) = objects(CHART, &[ON, &long]) else {
        return;
    };
    let pod = pod_spec(fronts(&objects, "Deployment"));
    let arguments = pod["containers"][0]["args"].as_array().unwrap();
    let arguments: Vec<&str> = arguments.iter().filter_map(Value::as_str).collect();
    let name = |kind: &str| fronts(&objects, kind)["metadata"]["name"].as_str().unwrap();
    for expected in [
        format!("--front-secret={}", name("Secret")),
        format!("--front-ca={}", name("ConfigMap")),
        format!("--name={}.gpu.svc", name("Service")),
        "--name=localhost".to_owned(),
    ] {
        assert!(
            arguments.contains(&expected.as_str()),
            "{expected}: {arguments:?}"
        );
    }
    let objects = objects
        .iter()
        .filter(|object| object["kind"] == "Deployment");
    let operator = objects
        .map(|object| object["spec"]["template"]["spec"]["containers"][0]["args"].to_string())
        .find(|args| args.contains("\"operator\""));
    assert!(operator.unwrap().contains("--arm"));
}
