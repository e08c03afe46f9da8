//! Every object is one that Kubernetes knows, field by field, and as unprivileged as it can be.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{CHARTS, POLICIES, objects, pod_spec};

/// What is there once the object was read as what it says it is.
fn understood(object: &Value) -> Value {
    fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
        let typed: T = serde_json::from_value(object.clone())
            .unwrap_or_else(|error| panic!("{error} in {object:#}"));
        serde_json::to_value(typed).unwrap()
    }
    match object["kind"].as_str().unwrap() {
        "ClusterRole" => through::<ClusterRole>(object),
        "ClusterRoleBinding" => through::<ClusterRoleBinding>(object),
        "ConfigMap" => through::<ConfigMap>(object),
        "CustomResourceDefinition" => through::<CustomResourceDefinition>(object),
        "DaemonSet" => through::<DaemonSet>(object),
        "Deployment" => through::<Deployment>(object),
        "Job" => through::<Job>(object),
        "Lease" => through::<Lease>(object),
        "Pod" => through::<Pod>(object),
        "PodDisruptionBudget" => through::<PodDisruptionBudget>(object),
        "Role" => through::<Role>(object),
        "RoleBinding" => through::<RoleBinding>(object),
        "Secret" => through::<Secret>(object),
        "Service" => through::<Service>(object),
        "ServiceAccount" => through::<ServiceAccount>(object),
        "ValidatingAdmissionPolicy" => through::<ValidatingAdmissionPolicy>(object),
        "ValidatingAdmissionPolicyBinding" => through::<ValidatingAdmissionPolicyBinding>(object),
        "ValidatingWebhookConfiguration" => through::<ValidatingWebhookConfiguration>(object),
        kind => panic!("a {kind} was not expected"),
    }
}

/// The paths of what a value has and another has not.
fn lost(from: &Value, to: Option<&Value>, path: &str, found: &mut Vec<String>) {
    match (from, to) {
        (Value::Object(fields), Some(to)) => {
            for (name, value) in fields {
                lost(value, to.get(name), &format!("{path}.{name}"), found);
            }
        }
        (Value::Array(items), Some(to)) => {
            for (index, item) in items.iter().enumerate() {
                lost(item, to.get(index), &format!("{path}[{index}]"), found);
            }
        }
        (_, Some(_)) => {}
        (_, None) => found.push(path.to_owned()),
    }
}

/// The charts with everything on that they can have.
fn everything(chart: &str) -> Option<Vec<Value>> {
    let more: &[&str] = match chart {
        "migpool" => &[
            "--set=drain=evict",
            "--set=output=node-feature",
            "--set=replaceAll=true",
            "--set=operator.replicas=2",
            "--set=operator.clusterAPI=true",
        ],
        "nvidia-device-plugin" => &[
            "--set=gfd.enabled=true",
            "--set=gfd.output=node-feature",
            "--set-json=config.map={\"default\": \"version: v1\", \"b\": \"version: v1\"}",
        ],
        "gpu-feature-discovery" => &["--set=output=node-feature"],
        _ => &["--set=allNodes=true"],
    };
    let arguments: Vec<_> = [POLICIES].into_iter().chain(more.iter().copied()).collect();
    objects(chart, &arguments)
}

#[test]
fn kubernetes_knows_every_field() {
    for chart in CHARTS {
        let Some(objects) = everything(chart) else {
            return;
        };
        for object in objects {
            let mut found = Vec::new();
            lost(&object, Some(&understood(&object)), "", &mut found);
            let kind = &object["kind"];
            assert!(found.is_empty(), "{chart}: {kind} has {found:?}");
        }
    }
}

/// Whether the pods that an object selects, if it does, are its own or, where it has none, those of another object.
fn selects_pods(object: &Value, objects: &[Value]) -> bool {
    let selector = &object["spec"]["selector"];
    let selected = match object["kind"].as_str() {
        Some("Service") => selector.as_object(),
        _ => selector["matchLabels"].as_object(),
    };
    let Some(selected) = selected else {
        return true;
    };
    let has = |maker: &Value| {
        let labels = &maker["spec"]["template"]["metadata"]["labels"];
        selected.iter().all(|(key, value)| labels[key] == *value)
    };
    if object["spec"]["template"].is_null() {
        objects.iter().any(has)
    } else {
        has(object)
    }
}

#[test]
fn the_names_that_objects_use_are_those_of_other_objects() {
    for chart in CHARTS {
        let Some(objects) = everything(chart) else {
            return;
        };
        let has = |kind: &str, name: &Value| {
            let is_it =
                |object: &Value| object["kind"] == kind && object["metadata"]["name"] == *name;
            name.is_null() || objects.iter().any(is_it)
        };
        for object in &objects {
            let name = format!("{chart}: {} {}", object["kind"], object["metadata"]["name"]);
            let role = &object["roleRef"];
            let kind = role["kind"].as_str().unwrap_or_default();
            assert!(has(kind, &role["name"]), "{name}");
            let account = &object["subjects"][0]["name"];
            assert!(has("ServiceAccount", account), "{name}");
            let policy = &object["spec"]["policyName"];
            assert!(has("ValidatingAdmissionPolicy", policy), "{name}");
            let pod = pod_spec(object);
            assert!(has("ServiceAccount", &pod["serviceAccountName"]), "{name}");
            for webhook in object["webhooks"].as_array().into_iter().flatten() {
                let service = &webhook["clientConfig"]["service"]["name"];
                assert!(has("Service", service), "{name}");
            }
            for volume in pod["volumes"].as_array().into_iter().flatten() {
                assert!(has("ConfigMap", &volume["configMap"]["name"]), "{name}");
            }
            assert!(selects_pods(object, &objects), "{name}");
        }
    }
}

/// No two `DaemonSets` of a release may take each other's pods for their own.
#[test]
fn every_daemon_set_selects_its_own_pods_alone() {
    let Some(objects) = everything("nvidia-device-plugin") else {
        return;
    };
    let daemonsets = super::of_kind(&objects, "DaemonSet");
    assert_eq!(daemonsets.len(), 4);
    for (index, one) in daemonsets.iter().enumerate() {
        for other in daemonsets.iter().skip(index + 1) {
            let selector = |daemonset: &Value| daemonset["spec"]["selector"].clone();
            assert_ne!(selector(one), selector(other));
        }
    }
}

/// The level `restricted` of Pod Security, as far as it asks anything of a pod like ours.
fn is_restricted(pod: &Value) -> bool {
    let hostless = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .all(|field| pod[field].is_null());
    let containers = pod["containers"].as_array().unwrap();
    hostless
        && pod["volumes"].is_null()
        && containers.iter().all(|container| {
            let context = &container["securityContext"];
            context["allowPrivilegeEscalation"] == false
                && context["runAsNonRoot"] == true
                && context["runAsUser"] != 0
                && context["capabilities"] == json!({"drop": ["ALL"]})
                && context["seccompProfile"] == json!({"type": "RuntimeDefault"})
                && context["privileged"].is_null()
                && context["readOnlyRootFilesystem"] == true
        })
}

#[test]
fn only_daemon_sets_are_privileged() {
    for chart in CHARTS {
        let Some(objects) = everything(chart) else {
            return;
        };
        for object in &objects {
            let kind = object["kind"].as_str().unwrap();
            if ["Pod", "Job", "Deployment"].contains(&kind) {
                assert!(is_restricted(pod_spec(object)), "{chart}: {object:#}");
            }
            if kind == "DaemonSet" {
                let context = &pod_spec(object)["containers"][0]["securityContext"];
                assert_eq!(context["privileged"], true);
                assert_eq!(context["readOnlyRootFilesystem"], true);
            }
        }
    }
}

#[test]
fn the_nodes_root_is_mounted_read_only() {
    for chart in CHARTS {
        let Some(objects) = everything(chart) else {
            return;
        };
        for object in super::of_kind(&objects, "DaemonSet") {
            let pod = pod_spec(object);
            let volumes = pod["volumes"].as_array().unwrap();
            let root = volumes
                .iter()
                .find(|volume| volume["hostPath"]["path"] == "/");
            // The simulated driver has no need of it.
            assert_eq!(root.is_some(), chart != "nvml-sim");
            let Some(root) = root else { continue };
            let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
            let mount = mounts.iter().find(|mount| mount["name"] == root["name"]);
            assert_eq!(mount.unwrap()["readOnly"], true, "{chart}");
        }
    }
}

#[test]
fn the_simulated_driver_stays_away_from_nodes_with_gpus() {
    let Some(objects) = everything("nvml-sim") else {
        return;
    };
    let node = &pod_spec(super::only(&objects, "DaemonSet"))["affinity"]["nodeAffinity"];
    let terms = &node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    let barred = |term: &Value, key: &str| {
        let expressions = term["matchExpressions"].as_array().unwrap();
        expressions.iter().any(|expression| {
            let operator = expression["operator"].as_str().unwrap();
            expression["key"] == key && ["NotIn", "DoesNotExist"].contains(&operator)
        })
    };
    for term in terms.as_array().unwrap() {
        for key in [
            "feature.node.kubernetes.io/pci-10de.present",
            "cloud.google.com/gke-accelerator",
            "k8s.amazonaws.com/accelerator",
        ] {
            assert!(barred(term, key), "{key}");
        }
        // The label that the simulated driver itself sets bars it only where it did not, and that of a node pool too.
        let its_own =
            json!({"key": "migpool.dev/simulated-driver", "operator": "In", "values": ["true"]});
        let expressions = term["matchExpressions"].as_array().unwrap();
        for key in ["nvidia.com/gpu.present", "kubernetes.azure.com/accelerator"] {
            assert!(barred(term, key) || expressions.contains(&its_own), "{key}");
        }
    }
}
