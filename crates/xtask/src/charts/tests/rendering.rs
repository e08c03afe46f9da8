//! What the charts make of the values that matter.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::{CHARTS, POLICIES, env, helm, objects, of_kind, only, pod_spec, root, template};

const AGENT: &str = "migpool";
const PLUGIN: &str = "nvidia-device-plugin";
const DISCOVERY: &str = "gpu-feature-discovery";

/// Compares a rendered chart with its snapshot, whatever the version. Empty lines mean nothing, and helm 4 writes more of
/// them than helm 3.
pub(super) fn snapshot(name: &str, chart: &str, arguments: &[&str]) {
    let Some(rendered) = template(chart, arguments) else {
        return;
    };
    let rendered = rendered.unwrap();
    let lines = rendered.lines().filter(|line| !line.trim().is_empty());
    let text = lines.collect::<Vec<_>>().join("\n");
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    insta::with_settings!({snapshot_path => "snapshots", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn the_agent_for_slices_of_one_profile() {
    let arguments = [
        POLICIES,
        "--set=gpuInstanceProfile=MIG1g",
        "--set=drain=evict",
        "--set=operator.enabled=false",
    ];
    snapshot("the_agent_for_slices_of_one_profile", AGENT, &arguments);
}

#[test]
fn the_articles_device_plugin() {
    let arguments = [POLICIES, "--set=migStrategy=single"];
    snapshot("the_articles_device_plugin", PLUGIN, &arguments);
}

#[test]
fn the_articles_feature_discovery() {
    let arguments = [POLICIES, "--set=migStrategy=mixed"];
    snapshot("the_articles_feature_discovery", DISCOVERY, &arguments);
}

#[test]
fn a_simulated_driver_where_there_are_no_gpus() {
    let arguments = ["--set=allNodes=true"];
    snapshot(
        "a_simulated_driver_where_there_are_no_gpus",
        "nvml-sim",
        &arguments,
    );
}

#[test]
fn a_node_gets_the_configuration_that_its_label_names() {
    let arguments = [
        "--show-only=templates/configmap.yaml",
        "--show-only=templates/daemonset.yaml",
        "--set-json=config.map={\"default\": \"version: v1\\nflags: {migStrategy: single}\", \
         \"mig_mixed\": \"version: v1\\nflags: {migStrategy: mixed, nvidiaDriverRoot: /opt/nvidia, \
         plugin: {deviceListStrategy: envvar}}\"}",
    ];
    snapshot(
        "a_node_gets_the_configuration_that_its_label_names",
        PLUGIN,
        &arguments,
    );
}

#[test]
fn a_new_layout_changes_a_config_map_and_no_pod() {
    let render = |layout: &str| objects(AGENT, &[&format!("--set-string=layout={layout}")]);
    let (Some(before), Some(after)) = (render("MIG1g"), render("0-3=3g.20gb\\,1g.5gb*2;4-7=off"))
    else {
        return;
    };
    assert_eq!(only(&before, "DaemonSet"), only(&after, "DaemonSet"));
    let layout = |objects| only(objects, "ConfigMap")["data"]["layout"].clone();
    assert_eq!(layout(&before), "MIG1g");
    assert_eq!(layout(&after), "0-3=3g.20gb,1g.5gb*2;4-7=off");
}

/// The values that people have set for NVIDIA's charts, with what becomes of them.
#[test]
fn nvidias_values_keep_their_meaning() {
    let values = json!({
        "migStrategy": "mixed", "failOnInitError": false, "deviceListStrategy": "envvar,cdi-cri",
        "deviceIDStrategy": "index", "nvidiaDriverRoot": "/opt/nvidia", "compatWithCPUManager": true,
        "cdi": {"nvidiaHookPath": "/usr/bin/nvidia-cdi-hook"}, "runtimeClassName": "nvidia",
        "image": {"repository": "registry.example/migpool", "tag": "v9", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}], "nodeSelector": {"gpu": "yes"},
        "tolerations": [{"operator": "Exists"}],
        "resources": {"limits": {"memory": "100Mi"}}, "priorityClassName": "high",
        "podSecurityContext": {"fsGroup": 1}, "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}},
        "updateStrategy": {"type": "OnDelete"}, "fullnameOverride": "plugin", "namespaceOverride": "elsewhere",
        "selectorLabelsOverride": {"app": "plugin"}, "podAnnotations": {"a": "b"},
        "gfd": {"enabled": true, "sleepInterval": 30, "noTimestamp": true},
        "gdsEnabled": false, "gdrcopyEnabled": false, "mofedEnabled": false, "legacyDaemonsetAPI": false,
        "mps": {"root": "/run/nvidia/mps"}, "nfd": {"enabled": false}, "allowDefaultNamespace": true,
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), values.to_string()).unwrap();
    let arguments = format!("--values={}", file.path().display());
    let Some(objects) = objects(PLUGIN, &[&arguments]) else {
        return;
    };
    let daemonset = |name: &str| {
        let mut daemonsets = of_kind(&objects, "DaemonSet").into_iter();
        daemonsets.find(|daemonset| daemonset["metadata"]["name"] == name)
    };
    let plugin = daemonset("plugin").unwrap();
    let expected = [
        ("MIG_STRATEGY", "mixed"),
        ("FAIL_ON_INIT_ERROR", "false"),
        ("DEVICE_LIST_STRATEGY", "envvar,cdi-cri"),
        ("DEVICE_ID_STRATEGY", "index"),
        ("NVIDIA_DRIVER_ROOT", "/opt/nvidia"),
        ("PASS_DEVICE_SPECS", "true"),
        ("NVIDIA_CDI_HOOK_PATH", "/usr/bin/nvidia-cdi-hook"),
        ("NVIDIA_VISIBLE_DEVICES", "all"),
    ];
    for (name, value) in expected {
        assert_eq!(env(plugin, name), Some(value), "{name}");
    }
    assert_eq!(plugin["metadata"]["namespace"], "elsewhere");
    assert_eq!(plugin["spec"]["updateStrategy"], values["updateStrategy"]);
    assert_eq!(plugin["spec"]["selector"]["matchLabels"]["app"], "plugin");
    let metadata = &plugin["spec"]["template"]["metadata"];
    assert_eq!(metadata["annotations"], values["podAnnotations"]);
    let pod = pod_spec(plugin);
    assert_eq!(pod["runtimeClassName"], "nvidia");
    assert_eq!(pod["priorityClassName"], "high");
    assert_eq!(pod["imagePullSecrets"], values["imagePullSecrets"]);
    assert_eq!(pod["securityContext"], values["podSecurityContext"]);
    assert_eq!(pod["nodeSelector"]["gpu"], "yes");
    assert_eq!(pod["tolerations"][0], values["tolerations"][0]);
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "registry.example/migpool:v9");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["resources"], values["resources"]);
    assert_eq!(container["securityContext"], values["securityContext"]);
    let discovery = daemonset("plugin-gpu-feature-discovery").unwrap();
    assert_eq!(env(discovery, "GFD_SLEEP_INTERVAL"), Some("30s"));
    assert_eq!(env(discovery, "GFD_NO_TIMESTAMP"), Some("true"));
    assert_eq!(env(discovery, "MIG_STRATEGY"), Some("mixed"));
}

#[test]
fn what_nobody_sets_is_left_to_the_configuration_file() {
    let arguments = [
        "--set=config.name=mine",
        "--set=config.default=all",
        "--set=gfd.enabled=true",
    ];
    let Some(objects) = objects(PLUGIN, &arguments) else {
        return;
    };
    let daemonsets = of_kind(&objects, "DaemonSet");
    assert_eq!(daemonsets.len(), 2);
    for daemonset in daemonsets {
        for name in ["MIG_STRATEGY", "DEVICE_LIST_STRATEGY", "NVIDIA_DRIVER_ROOT"] {
            assert_eq!(env(daemonset, name), None);
        }
        let file = env(daemonset, "CONFIG_FILE");
        assert_eq!(file, Some("/etc/migpool/config/all"));
    }
}

#[test]
fn the_node_feature_api_of_nvidias_charts_is_an_output() {
    let nfd = "--set=nfd.enableNodeFeatureApi=true";
    let Some(discovery) = objects(DISCOVERY, &[nfd]) else {
        return;
    };
    let output = |objects: &[Value], name: &str| {
        let daemonsets = of_kind(objects, "DaemonSet");
        let found = daemonsets
            .iter()
            .find(|daemonset| daemonset["metadata"]["name"] == name);
        env(found.unwrap(), "MIGPOOL_OUTPUT").map(str::to_owned)
    };
    let expected = Some("node-feature".to_owned());
    assert_eq!(output(&discovery, "r-gpu-feature-discovery"), expected);
    let both = objects(PLUGIN, &[nfd, "--set=gfd.enabled=true"]).unwrap();
    let name = "r-nvidia-device-plugin-gpu-feature-discovery";
    assert_eq!(output(&both, name), expected);
}

#[test]
fn only_who_labels_nodes_has_a_token() {
    let Some(plugin) = objects(PLUGIN, &[POLICIES]) else {
        return;
    };
    let pod = pod_spec(only(&plugin, "DaemonSet"));
    assert_eq!(pod["automountServiceAccountToken"], false);
    for kind in ["ServiceAccount", "Role", "ClusterRole"] {
        assert!(of_kind(&plugin, kind).is_empty(), "{kind}");
    }
    let file = objects(DISCOVERY, &[POLICIES, "--set=output=file"]).unwrap();
    let pod = pod_spec(only(&file, "DaemonSet"));
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert!(of_kind(&file, "ClusterRole").is_empty());
}

/// The resources of every rule that the agent has for as long as it runs.
fn agents_rights(arguments: &[&str]) -> Option<Vec<String>> {
    let objects = objects(AGENT, arguments)?;
    let granting = objects.iter().filter(|object| {
        let part = &object["metadata"]["labels"]["app.kubernetes.io/component"];
        object.get("rules").is_some() && part == "agent"
    });
    let rules = granting.flat_map(|role| role["rules"].as_array().unwrap());
    let resources = rules.flat_map(|rule| rule["resources"].as_array().unwrap());
    Some(
        resources
            .map(|resource| resource.as_str().unwrap().to_owned())
            .collect(),
    )
}

#[test]
fn the_agent_has_no_right_that_its_values_do_not_need() {
    let alone = ["--set=nodeStatus=false", "--set=operator.enabled=false"];
    let Some(least) = agents_rights(&alone) else {
        return;
    };
    assert_eq!(least, ["nodes"]);
    let operated = agents_rights(&["--set=nodeStatus=false"]).unwrap();
    assert_eq!(operated, ["nodes", "gpunodes", "gpunodes/status"]);
    let most = agents_rights(&["--set=drain=evict", "--set=output=node-feature"]).unwrap();
    let most: BTreeSet<_> = most.iter().map(String::as_str).collect();
    let expected = BTreeSet::from([
        "events",
        "gpunodes",
        "gpunodes/status",
        "nodefeatures",
        "nodes",
        "nodes/status",
        "pods",
        "pods/eviction",
    ]);
    assert_eq!(most, expected);
}

#[test]
fn a_release_without_policies_or_hook_has_none() {
    let arguments = [
        POLICIES,
        "--set=admissionPolicy.enabled=false",
        "--set=uninstallHook.enabled=false",
        "--set=nodeSelector.gpu=yes",
    ];
    for chart in CHARTS {
        let Some(objects) = objects(chart, &arguments) else {
            return;
        };
        for kind in ["ValidatingAdmissionPolicy", "Job"] {
            assert!(of_kind(&objects, kind).is_empty(), "{chart}: {kind}");
        }
    }
}

#[test]
fn names_are_short_and_different_whatever_the_release_is_called() {
    let long = format!("--set=fullnameOverride={}", "a".repeat(63));
    let configs = "--set-json=config.map={\"default\": \"version: v1\", \
                   \"a-very-long-name-of-a-configuration\": \"version: v1\", \
                   \"a-very-long-name-of-another-configuration\": \"version: v1\"}";
    let charts: [(&str, &[&str]); 2] = [
        (AGENT, &[&long]),
        (PLUGIN, &[&long, configs, "--set=gfd.enabled=true"]),
    ];
    for (chart, arguments) in charts {
        let Some(objects) = objects(chart, arguments) else {
            return;
        };
        let mut names = BTreeSet::new();
        for object in &objects {
            let kind = object["kind"].as_str().unwrap();
            let name = object["metadata"]["name"].as_str().unwrap();
            // Names in RBAC are paths' parts, and a webhook's configuration has a domain's: both may be longer.
            let may_be_long = kind.contains("Role") || kind == "ValidatingWebhookConfiguration";
            assert!(may_be_long || name.len() <= 63, "{chart}: {kind} {name}");
            let namespace = object["metadata"]["namespace"].to_string();
            assert!(
                names.insert((kind, namespace, name)),
                "{chart}: {kind} {name} is there twice"
            );
        }
    }
}

#[test]
fn charts_share_the_same_helpers() {
    let read = |chart: &str, file: &str| {
        let templates = root().join("charts").join(chart).join("templates");
        std::fs::read_to_string(templates.join(file)).unwrap()
    };
    let common = read(AGENT, "_common.tpl");
    for chart in CHARTS {
        assert!(read(chart, "_common.tpl") == common, "{chart}");
    }
    assert!(read(PLUGIN, "_discovery.tpl") == read(DISCOVERY, "_discovery.tpl"));
}

/// helm renders NOTES.txt at an installation only; so the notes are rendered as an object's field here.
fn notes(chart: &str) -> Option<String> {
    let helm = helm()?;
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join(chart);
    let mut cp = Command::new("cp");
    cp.arg("-r").arg(root().join("charts").join(chart));
    assert!(cp.arg(&copy).status().unwrap().success());
    let templates = copy.join("templates");
    let notes = std::fs::read_to_string(templates.join("NOTES.txt")).unwrap();
    let helper = format!("{{{{- define \"notes\" -}}}}\n{notes}\n{{{{- end -}}}}");
    std::fs::write(templates.join("_notes.tpl"), helper).unwrap();
    let object = "kind: Notes\ntext: {{ include \"notes\" . | toJson }}\n";
    std::fs::write(templates.join("notes.yaml"), object).unwrap();
    let mut command = Command::new(helm);
    command.args(["template", "r"]).arg(&copy).args([
        "--namespace=gpu",
        "--kube-version=1.37.2",
        "--show-only=templates/notes.yaml",
        "--set=nodeSelector.gpu=yes",
    ]);
    let output = super::run(&mut command);
    assert!(output.status.success(), "{}", super::text(&output.stderr));
    let rendered = super::parse(&super::text(&output.stdout));
    Some(rendered[0]["text"].as_str().unwrap().to_owned())
}

#[test]
fn notes_tell_the_next_three_commands() {
    for chart in CHARTS {
        let Some(notes) = notes(chart) else { return };
        let next = notes.split("Next:\n").nth(1).unwrap();
        let commands: Vec<_> = next
            .lines()
            .take_while(|line| line.starts_with("  "))
            .collect();
        assert_eq!(commands.len(), 3, "{chart}: {notes}");
        let waits = "  kubectl --namespace gpu rollout status daemonset/";
        assert!(commands[0].starts_with(waits), "{chart}: {notes}");
    }
}
