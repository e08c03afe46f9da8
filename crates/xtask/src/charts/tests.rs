mod arm;
mod node_pools;
mod objects;
mod packing;
mod refusals;
mod rendering;

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::step::root;

const CHARTS: [&str; 4] = [
    "gpu-feature-discovery",
    "migpool",
    "nvidia-device-plugin",
    "nvml-sim",
];

/// A policy API is something that helm has to be told of, where there is no cluster to ask.
const POLICIES: &str = "--api-versions=admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy";

/// The first helm of: `MIGPOOL_HELM`, the PATH, the test cluster's parts. Without one the test is skipped, aloud; in CI
/// that is a failure.
fn helm() -> Option<PathBuf> {
    let named = std::env::var_os("MIGPOOL_HELM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("helm"));
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let parts = cache.map(|dir| dir.join("migpool/parts"));
    let parts = parts.and_then(|dir| std::fs::read_dir(dir).ok());
    let parts = parts
        .into_iter()
        .flatten()
        .flatten()
        .map(|part| part.path().join("helm"));
    let found = named
        .into_iter()
        .chain(in_path)
        .chain(parts)
        .find(|file| file.is_file());
    if found.is_none() {
        let missing =
            "no helm: not in MIGPOOL_HELM, nor in the PATH, nor among the test cluster's parts";
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("SKIPPED: {missing} (`cargo xtask cluster up` builds it)");
    }
    found
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `helm template` of a chart with these arguments: its output, or what it said instead.
fn template(chart: &str, arguments: &[&str]) -> Option<Result<String, String>> {
    let mut command = Command::new(helm()?);
    command
        .args(["template", "r"])
        .arg(root().join("charts").join(chart))
        .args(["--namespace", "gpu", "--kube-version", "1.37.2"])
        .args(arguments);
    let output = run(&mut command);
    Some(if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    })
}

/// The objects that a chart makes.
fn objects(chart: &str, arguments: &[&str]) -> Option<Vec<Value>> {
    let rendered = template(chart, arguments)?.unwrap_or_else(|error| panic!("{chart}: {error}"));
    Some(parse(&rendered))
}

fn parse(rendered: &str) -> Vec<Value> {
    rendered
        .split("\n---\n")
        .map(|document| document.trim_start_matches("---\n"))
        .filter(|document| {
            document
                .lines()
                .any(|line| !line.is_empty() && !line.starts_with('#'))
        })
        .map(|document| {
            serde_saphyr::from_str(document)
                .unwrap_or_else(|error| panic!("{error}\nin\n{document}"))
        })
        .collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

/// The only object of a kind.
fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

/// The pod that an object makes, itself or by a template.
fn pod_spec(object: &Value) -> &Value {
    if object["kind"] == "Pod" {
        &object["spec"]
    } else {
        &object["spec"]["template"]["spec"]
    }
}

/// The value of an environment variable of a `DaemonSet`'s container; `None` where it is not set.
fn env<'a>(daemonset: &'a Value, name: &str) -> Option<&'a str> {
    pod_spec(daemonset)["containers"][0]["env"]
        .as_array()?
        .iter()
        .find(|variable| variable["name"] == name)?["value"]
        .as_str()
}
