//! The pods that tests make, and how pods are doing.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// The image of the article's manifests: the stand-in with a shell and glibc.
pub(crate) const CUDA: &str = "nvidia/cuda:12.1.1-base-ubuntu22.04";

/// The image with Python and NVIDIA's binding of NVML.
pub(crate) const PYNVML: &str = "migpool-test/pynvml:1";

/// What a pod that holds slices runs: it writes what it sees into its log, then stays.
const SHOW_AND_STAY: &str =
    "nvidia-smi -L && trap 'exit 0' TERM && while :; do sleep 1000 & wait $!; done";

/// What a pod without slices runs: it counts, so that its log shows whether it was ever away.
const COUNT: &str =
    "trap 'exit 0' TERM; n=0; while :; do n=$((n+1)); echo $n; sleep 0.2 & wait $!; done";

/// A pod to make.
#[derive(Debug, Clone)]
pub(crate) struct PodSpec {
    name: String,
    image: &'static str,
    command: Vec<String>,
    limits: BTreeMap<String, u32>,
    labels: BTreeMap<String, String>,
    node: Option<String>,
    restart: bool,
}

impl PodSpec {
    /// A pod with slices: it asks for `count` of `resource`, writes what it sees into its log, and stays.
    pub(crate) fn with_slices(name: &str, resource: &str, count: u32) -> Self {
        Self {
            name: name.to_owned(),
            image: CUDA,
            command: shell(SHOW_AND_STAY),
            limits: BTreeMap::from([(resource.to_owned(), count)]),
            labels: BTreeMap::new(),
            node: None,
            restart: false,
        }
    }

    /// A pod without slices on this node, that writes a number into its log five times a second.
    pub(crate) fn counting(name: &str, node: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: CUDA,
            command: shell(COUNT),
            limits: BTreeMap::new(),
            labels: BTreeMap::new(),
            node: Some(node.to_owned()),
            restart: false,
        }
    }

    /// Asks for `count` of `resource` as well, in the same container.
    pub(crate) fn and(mut self, resource: &str, count: u32) -> Self {
        self.limits.insert(resource.to_owned(), count);
        self
    }

    /// Another image, that runs this program.
    pub(crate) fn running(mut self, image: &'static str, command: &[&str]) -> Self {
        self.image = image;
        self.command = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Stays even if there is nothing to show, or nothing to show it with.
    pub(crate) fn running_whatever_it_sees(mut self) -> Self {
        self.command = shell(&SHOW_AND_STAY.replacen("&&", ";", 1));
        self
    }

    /// With a label, to find it by.
    pub(crate) fn labelled(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The manifest.
    pub(crate) fn manifest(&self) -> Value {
        let mut pod = self.template();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(self.name);
        pod
    }

    /// The manifest of a replica set of such pods. They carry the label `app` with the set's name.
    pub(crate) fn replicas(mut self, count: u32) -> Value {
        self.labels.insert("app".to_owned(), self.name.clone());
        self.restart = true;
        json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": self.name},
            "spec": {
                "replicas": count,
                "selector": {"matchLabels": {"app": self.name}},
                "template": self.template(),
            },
        })
    }

    fn template(&self) -> Value {
        let node = self
            .node
            .as_ref()
            .map_or_else(|| json!({}), |node| json!({"kubernetes.io/hostname": node}));
        json!({
            "metadata": {"labels": self.labels},
            "spec": {
                "nodeSelector": node,
                "restartPolicy": if self.restart { "Always" } else { "Never" },
                "terminationGracePeriodSeconds": 2,
                "automountServiceAccountToken": false,
                "containers": [{
                    "name": "main",
                    "image": self.image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": self.command,
                    "resources": {"limits": self.limits},
                }],
            },
        })
    }
}

/// There are none of these pods, not even ending ones.
///
/// # Errors
/// There are.
pub(crate) fn are_gone(pods: &[Pod]) -> anyhow::Result<()> {
    let left: Vec<_> = pods.iter().map(Pod::line).collect();
    ensure!(left.is_empty(), "{}", left.join(" | "));
    Ok(())
}

fn shell(script: &str) -> Vec<String> {
    vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()]
}

/// A pod, as the API server shows it.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its UID.
    pub(crate) uid: String,
    /// The node it is bound to.
    pub(crate) node: Option<String>,
    /// `Pending`, `Running`, `Succeeded` or `Failed`.
    pub(crate) phase: String,
    /// Why it is in that phase, as far as that is said anywhere.
    pub(crate) reason: String,
    /// All its containers are ready.
    pub(crate) ready: bool,
    /// It is being deleted.
    pub(crate) deleting: bool,
    /// How often containers of it were started again.
    pub(crate) restarts: u64,
    /// The ids of its containers.
    pub(crate) containers: Vec<String>,
}

impl Pod {
    /// From the API server's JSON.
    ///
    /// # Errors
    /// It is no pod.
    pub(crate) fn from_json(pod: &Value) -> anyhow::Result<Self> {
        let text = |path: &str| pod.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let statuses: Vec<&Value> = pod
            .pointer("/status/containerStatuses")
            .and_then(Value::as_array)
            .map(|statuses| statuses.iter().collect())
            .unwrap_or_default();
        let conditions = pod
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|condition| condition["status"] == "False")
            .map(|condition| &condition["message"]);
        let waiting = statuses
            .iter()
            .flat_map(|status| [&status["state"]["waiting"], &status["state"]["terminated"]])
            .flat_map(|state| [&state["reason"], &state["message"]]);
        let reason: Vec<_> = [&pod["status"]["reason"], &pod["status"]["message"]]
            .into_iter()
            .chain(conditions)
            .chain(waiting)
            .filter_map(Value::as_str)
            .collect();
        Ok(Self {
            namespace: text("/metadata/namespace").unwrap_or_default(),
            name: text("/metadata/name").context("a pod without a name")?,
            uid: text("/metadata/uid").context("a pod without a UID")?,
            node: text("/spec/nodeName"),
            phase: text("/status/phase").unwrap_or_default(),
            reason: reason.join("; "),
            ready: !statuses.is_empty() && statuses.iter().all(|status| status["ready"] == true),
            deleting: pod.pointer("/metadata/deletionTimestamp").is_some(),
            restarts: statuses
                .iter()
                .filter_map(|status| status["restartCount"].as_u64())
                .sum(),
            containers: statuses
                .iter()
                .filter_map(|status| status["containerID"].as_str())
                .map(str::to_owned)
                .collect(),
        })
    }

    /// It runs, all of it, and is not about to end.
    pub(crate) fn runs(&self) -> bool {
        self.phase == "Running" && self.ready && !self.deleting
    }

    /// A line about how it is doing.
    pub(crate) fn line(&self) -> String {
        format!(
            "{}/{} on {}: {}{}{}, {} restarts{}{}",
            self.namespace,
            self.name,
            self.node.as_deref().unwrap_or("no node"),
            self.phase,
            if self.ready { ", ready" } else { "" },
            if self.deleting { ", being deleted" } else { "" },
            self.restarts,
            if self.reason.is_empty() { "" } else { ": " },
            self.reason
        )
    }
}
