//! What the chart of the agent brings for node pools: the operator, its webhook, and the custom resource definitions.

use serde_json::{Value, json};

use super::rendering::snapshot;
use super::{POLICIES, env, objects, of_kind, only, pod_spec, root};

const CHART: &str = "migpool";

/// Only these templates: the definitions are long, and committed anyway.
const OPERATOR: [&str; 3] = [
    "--show-only=templates/operator.yaml",
    "--show-only=templates/operator-rbac.yaml",
    "--show-only=templates/webhook.yaml",
];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    OPERATOR.into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn the_operator_of_node_pools() {
    snapshot("the_operator_of_node_pools", CHART, &with(&[]));
}

#[test]
fn an_operator_that_stands_by_and_one_that_acts() {
    let arguments = [OPERATOR[0], "--set=operator.replicas=2"];
    snapshot(
        "an_operator_that_stands_by_and_one_that_acts",
        CHART,
        &arguments,
    );
}

#[test]
fn an_operator_that_scales_machines_and_has_no_webhook() {
    let arguments = [
        OPERATOR[0],
        OPERATOR[1],
        "--set=operator.clusterAPI=true",
        "--set=operator.webhook.enabled=false",
    ];
    snapshot(
        "an_operator_that_scales_machines_and_has_no_webhook",
        CHART,
        &arguments,
    );
}

#[test]
fn what_an_agent_has_with_an_operator() {
    let arguments = [POLICIES, "--show-only=templates/rbac.yaml"];
    snapshot("what_an_agent_has_with_an_operator", CHART, &arguments);
}

/// `helm upgrade --reuse-values` from a chart without an operator: its values are not there, nor are their defaults.
#[test]
fn values_that_an_older_chart_did_not_have_are_the_defaults() {
    let absent = ["--set=operator=null", "--set=crds=null"];
    let (Some(before), Some(after)) = (objects(CHART, &[]), objects(CHART, &absent)) else {
        return;
    };
    assert!(before == after);
    let some = [
        "--set=operator.listen=null",
        "--set=operator.webhook.port=9000",
    ];
    let objects = objects(CHART, &some).unwrap();
    let deployment = only(&objects, "Deployment");
    assert_eq!(env(deployment, "MIGPOOL_LISTEN"), Some("0.0.0.0:8091"));
    let webhook = env(deployment, "MIGPOOL_WEBHOOK_LISTEN");
    assert_eq!(webhook, Some("0.0.0.0:9000"));
}

/// What goes by the chart's values goes by them with an operator as it does without.
#[test]
fn an_operator_changes_nothing_for_nodes_that_are_in_no_pool() {
    let values = ["--set=gpuInstanceProfile=MIG1g", POLICIES];
    let off = ["--set=operator.enabled=false"];
    let off: Vec<_> = values.into_iter().chain(off).collect();
    let (Some(with), Some(without)) = (objects(CHART, &values), objects(CHART, &off)) else {
        return;
    };
    assert_eq!(only(&with, "ConfigMap"), only(&without, "ConfigMap"));
    let daemonset = only(&with, "DaemonSet");
    assert_eq!(env(daemonset, "MIGPOOL_GPU_NODE"), Some("true"));
    assert_eq!(env(only(&without, "DaemonSet"), "MIGPOOL_GPU_NODE"), None);

    let mut same = daemonset.clone();
    let pod = &mut same["spec"]["template"]["spec"];
    let retain = |list: &mut Value, dropped: &dyn Fn(&Value) -> bool| {
        list.as_array_mut().unwrap().retain(|entry| !dropped(entry));
    };
    retain(&mut pod["containers"][0]["env"], &|variable| {
        variable["name"] == "MIGPOOL_GPU_NODE"
    });
    retain(&mut pod["tolerations"], &|toleration| {
        toleration["effect"] == "NoExecute"
    });
    assert_eq!(&same, only(&without, "DaemonSet"));

    for kind in [
        "CustomResourceDefinition",
        "Deployment",
        "Lease",
        "Secret",
        "Service",
        "ValidatingWebhookConfiguration",
    ] {
        assert!(of_kind(&without, kind).is_empty(), "{kind}");
        assert!(!of_kind(&with, kind).is_empty(), "{kind}");
    }
}

#[test]
fn agents_work_with_the_operator_of_another_release() {
    let Some(objects) = objects(CHART, &["--set=operator.replicas=0"]) else {
        return;
    };
    for kind in ["Deployment", "Lease", "ValidatingWebhookConfiguration"] {
        assert!(of_kind(&objects, kind).is_empty(), "{kind}");
    }
    let daemonset = only(&objects, "DaemonSet");
    assert_eq!(env(daemonset, "MIGPOOL_GPU_NODE"), Some("true"));
}

#[test]
fn the_definitions_are_those_of_the_types_and_stay_at_an_uninstallation() {
    let render = |arguments: &[&str]| {
        let objects = objects(CHART, arguments)?;
        let found = of_kind(&objects, "CustomResourceDefinition");
        Some(found.into_iter().cloned().collect::<Vec<_>>())
    };
    let Some(kept) = render(&[]) else { return };
    assert_eq!(kept.len(), 2);
    for (crd, file) in kept.iter().zip(["gpunodes.yaml", "nodepools.yaml"]) {
        let folder = root().join("charts").join(CHART).join("crds-files");
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let committed: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(whole(&crd["spec"]), whole(&committed["spec"]), "{file}");
        assert_eq!(crd["metadata"]["name"], committed["metadata"]["name"]);
        let annotations = json!({"helm.sh/resource-policy": "keep"});
        assert_eq!(crd["metadata"]["annotations"], annotations);
    }
    let gone = render(&["--set=crds.keep=false"]).unwrap();
    assert_eq!(gone.len(), 2);
    for crd in &gone {
        assert!(crd["metadata"]["annotations"].is_null());
    }
    assert!(render(&["--set=crds.install=false"]).unwrap().is_empty());
}

/// Numbers that are whole are the same however they are written: helm makes 255 of 255.0.
fn whole(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(whole).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), whole(value)))
            .collect(),
        value => value.clone(),
    }
}

/// What the operator writes there is not the chart's, so that an upgrade leaves it.
#[test]
fn a_webhook_that_is_away_keeps_nobody_from_anything() {
    let Some(objects) = objects(CHART, &[]) else {
        return;
    };
    let configuration = only(&objects, "ValidatingWebhookConfiguration");
    let webhooks = configuration["webhooks"].as_array().unwrap();
    assert_eq!(webhooks.len(), 1);
    assert_eq!(webhooks[0]["failurePolicy"], "Ignore");
    assert_eq!(webhooks[0]["timeoutSeconds"], 5);
    assert!(webhooks[0]["clientConfig"]["caBundle"].is_null());
    for kind in ["Secret", "Lease"] {
        let object = only(&objects, kind);
        assert!(object["data"].is_null() && object["spec"].is_null());
    }
}

/// The program is told the names of what the chart makes.
#[test]
fn the_operator_is_told_its_objects_names() {
    let long = format!("--set=fullnameOverride={}", "a".repeat(63));
    let Some(objects) = objects(CHART, &[&long]) else {
        return;
    };
    let pod = pod_spec(only(&objects, "Deployment"));
    let arguments = pod["containers"][0]["args"].as_array().unwrap();
    for (flag, kind) in [
        ("--lease=", "Lease"),
        ("--webhook-service=", "Service"),
        ("--webhook-secret=", "Secret"),
        ("--webhook-configuration=", "ValidatingWebhookConfiguration"),
    ] {
        let named = arguments
            .iter()
            .find_map(|argument| argument.as_str()?.strip_prefix(flag));
        let name = only(&objects, kind)["metadata"]["name"].as_str();
        assert_eq!(named, name, "{flag}");
    }
}

fn operators_rights(arguments: &[&str]) -> Option<Vec<String>> {
    rights("operator", arguments)
}

/// Each right of a part as `verbs resource`, or `verbs resource=name`.
pub(super) fn rights(part: &str, arguments: &[&str]) -> Option<Vec<String>> {
    let objects = objects(CHART, arguments)?;
    let mut rights = Vec::new();
    for role in &objects {
        let component = &role["metadata"]["labels"]["app.kubernetes.io/component"];
        if component != part {
            continue;
        }
        for rule in role["rules"].as_array().into_iter().flatten() {
            let words = |list: &Value| -> Vec<String> {
                let words = list.as_array().into_iter().flatten();
                words
                    .filter_map(|word| word.as_str().map(str::to_owned))
                    .collect()
            };
            let verbs = words(&rule["verbs"]).join(" ");
            let names = words(&rule["resourceNames"]);
            for resource in words(&rule["resources"]) {
                let name = names.iter().map(|name| format!("={name}"));
                rights.push(format!("{verbs} {resource}{}", name.collect::<String>()));
            }
        }
    }
    rights.sort();
    Some(rights)
}

#[test]
fn the_operator_has_no_right_that_its_values_do_not_need() {
    let Some(least) = operators_rights(&["--set=operator.webhook.enabled=false"]) else {
        return;
    };
    let expected = [
        "create leases",
        "create patch events",
        "get update leases=migpool-operator",
        "list watch create patch delete gpunodes",
        "list watch patch nodepools",
        "list watch patch nodes",
        "patch nodepools/status",
    ];
    assert_eq!(least, expected);
    let more = |arguments: &[&str]| {
        let mut more = operators_rights(arguments).unwrap();
        more.retain(|right| !least.contains(right));
        more
    };
    let webhook = [
        "get patch validatingwebhookconfigurations=gpu-r-migpool-webhook",
        "get update secrets=r-migpool-webhook",
    ];
    assert_eq!(more(&[]), webhook);
    let machines = ["get patch machinedeployments", "list patch machines"];
    let arguments = [
        "--set=operator.webhook.enabled=false",
        "--set=operator.clusterAPI=true",
    ];
    assert_eq!(more(&arguments), machines);
    let records = [
        "get list delete armdeployments",
        "get list watch delete resourcegroups",
        "get list watch update delete managedclusters",
        "get list watch update delete operations",
        "list watch patch get create update delete nodepools",
    ];
    let arguments = [
        "--set=operator.webhook.enabled=false",
        "--set=arm.enabled=true",
    ];
    assert_eq!(more(&arguments), records);
}

#[test]
fn agents_evict_for_pools_only_where_the_chart_allows_it() {
    let may_evict = |arguments: &[&str]| {
        let objects = objects(CHART, arguments)?;
        let rules = of_kind(&objects, "ClusterRole");
        Some(
            rules
                .iter()
                .any(|role| role.to_string().contains("pods/eviction")),
        )
    };
    let Some(by_default) = may_evict(&[]) else {
        return;
    };
    assert!(!by_default);
    assert!(may_evict(&["--set=operator.evict=true"]).unwrap());
    assert!(may_evict(&["--set=drain=evict"]).unwrap());
    let off = ["--set=operator.evict=true", "--set=operator.enabled=false"];
    assert!(!may_evict(&off).unwrap());
}

/// The examples are of the version and the kind that the definitions have.
#[test]
fn examples_of_node_pools_have_fields_that_the_definition_knows() {
    let folder = root().join("charts").join(CHART).join("crds-files");
    let text = std::fs::read_to_string(folder.join("nodepools.yaml")).unwrap();
    let crd: Value = serde_saphyr::from_str(&text).unwrap();
    let version = &crd["spec"]["versions"][0];
    let known = &version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    for name in ["mig1g", "mixed", "cluster-api"] {
        let file = root().join(format!("examples/nodepool-{name}.yaml"));
        let pool: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let api_version = format!("migpool.dev/{}", version["name"].as_str().unwrap());
        assert_eq!(pool["apiVersion"], api_version, "{name}");
        assert_eq!(pool["kind"], crd["spec"]["names"]["kind"], "{name}");
        for field in pool["spec"].as_object().unwrap().keys() {
            assert!(known.get(field).is_some(), "{name}: {field}");
        }
    }
}
