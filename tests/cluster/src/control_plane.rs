//! The control plane's programs and how they are started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{CONTROL_PLANE, SERVICES};
use crate::service::Program;
use crate::state::State;

pub(crate) const ETCD: &str = "etcd";
pub(crate) const API_SERVER: &str = "kube-apiserver";
pub(crate) const CONTROLLER_MANAGER: &str = "kube-controller-manager";
pub(crate) const SCHEDULER: &str = "kube-scheduler";
/// It plays nodes that are none. It is part of no cluster's start.
pub(crate) const KWOK: &str = "kwok";

/// How long a node may say nothing before it is taken for dead; Kubernetes' own.
pub(crate) const NODE_GRACE: Duration = Duration::from_secs(50);

/// The annotation of the nodes that KWOK plays, with the value `fake`.
const FAKE_NODES: &str = "kwok.x-k8s.io/node=fake";

/// The users that have a `kubeconfig` in the state folder: its name, the user's and the group's.
pub(crate) const CLIENTS: [(&str, &str, Option<&str>); 3] = [
    ("admin", "admin", Some("system:masters")),
    (CONTROLLER_MANAGER, "system:kube-controller-manager", None),
    (SCHEDULER, "system:kube-scheduler", None),
];

/// The services in the order in which they are started.
pub(crate) fn programs(
    state: &State,
    path: &str,
    with_audit: bool,
) -> [(&'static str, Program); 5] {
    [
        (ETCD, etcd(state)),
        (API_SERVER, api_server(state, with_audit)),
        (CONTROLLER_MANAGER, controller_manager(state, NODE_GRACE)),
        (SCHEDULER, scheduler(state)),
        (KWOK, kwok(state)),
    ]
    .map(|(name, arguments)| (name, program(name, path, arguments)))
}

/// The controller manager with another patience for nodes that say nothing.
pub(crate) fn patient_controller_manager(state: &State, path: &str, grace: Duration) -> Program {
    let arguments = controller_manager(state, grace);
    program(CONTROLLER_MANAGER, path, arguments)
}

fn program(name: &str, path: &str, arguments: Vec<String>) -> Program {
    Program {
        path: name.to_owned(),
        arguments,
        environment: vec![("PATH".to_owned(), path.to_owned())],
    }
}

/// Where the API server writes down the requests of service accounts.
pub(crate) fn audit_log(state: &State) -> PathBuf {
    state.path("audit.log")
}

/// Where the API server reads what it is to write down.
pub(crate) fn audit_policy(state: &State) -> PathBuf {
    state.path("audit-policy.json")
}

/// Where KWOK reads what it is to make of nodes and pods.
pub(crate) fn stages(state: &State) -> PathBuf {
    state.path("kwok.yaml")
}

/// That, as it is written there.
pub(crate) const STAGES: &str = include_str!("kwok.yaml");

/// Who did what, of all service accounts but those of Kubernetes' own controllers. One line for each request that was
/// answered, and for each watch that began.
pub(crate) fn audit_policy_text() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": true,
        "rules": [
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "None"},
        ],
    })
}

fn etcd(state: &State) -> Vec<String> {
    vec![
        format!("--data-dir={}", state.path("etcd").display()),
        "--listen-client-urls=http://127.0.0.1:2379".into(),
        "--advertise-client-urls=http://127.0.0.1:2379".into(),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        // The cluster does not outlive its machine: nothing needs to reach the disk in time.
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ]
}

fn api_server(state: &State, with_audit: bool) -> Vec<String> {
    let pki = |name: &str| state.pki(name).display().to_string();
    let mut arguments = vec![
        "--etcd-servers=http://127.0.0.1:2379".into(),
        format!("--advertise-address={CONTROL_PLANE}"),
        // The `kubernetes` service's own port, on an address that is the service's own.
        "--secure-port=443".into(),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        "--enable-aggregator-routing=true".into(),
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        format!("--kubelet-certificate-authority={}", pki("ca.crt")),
        format!("--kubelet-client-certificate={}", pki("admin.crt")),
        format!("--kubelet-client-key={}", pki("admin.key")),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", pki("sa.pub")),
        format!("--service-account-signing-key-file={}", pki("sa.key")),
        format!("--cert-dir={}", pki("")),
        // Suites stop it for a while; what hangs on a watch should not hold that up.
        "--shutdown-delay-duration=0s".into(),
        "--shutdown-watch-termination-grace-period=1s".into(),
    ];
    if with_audit {
        let path = |path: &Path| path.display().to_string();
        arguments.extend([
            format!("--audit-policy-file={}", path(&audit_policy(state))),
            format!("--audit-log-path={}", path(&audit_log(state))),
            // A request is written down before it is answered, and all of them in one file.
            "--audit-log-mode=blocking".into(),
            "--audit-log-maxsize=4096".into(),
        ]);
    }
    arguments
}

fn controller_manager(state: &State, grace: Duration) -> Vec<String> {
    let kubeconfig = state.kubeconfig(CONTROLLER_MANAGER).display().to_string();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".into(),
        "--use-service-account-credentials=true".into(),
        // Its controllers start one after the other, each after some requests that it otherwise spreads over seconds.
        "--kube-api-qps=1000".into(),
        "--kube-api-burst=1000".into(),
        format!("--node-monitor-grace-period={}s", grace.as_secs()),
        format!(
            "--service-account-private-key-file={}",
            state.pki("sa.key").display()
        ),
        format!("--root-ca-file={}", state.pki("ca.crt").display()),
        format!("--cert-dir={}", state.pki("").display()),
    ]
}

fn scheduler(state: &State) -> Vec<String> {
    let kubeconfig = state.kubeconfig(SCHEDULER).display().to_string();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".into(),
        format!("--cert-dir={}", state.pki("").display()),
    ]
}

/// Nodes that are not written about again and again: thousands of them are to cost next to nothing.
fn kwok(state: &State) -> Vec<String> {
    vec![
        format!("--config={}", stages(state).display()),
        format!("--kubeconfig={}", state.kubeconfig("admin").display()),
        format!("--manage-nodes-with-annotation-selector={FAKE_NODES}"),
        // Each is renewed after a quarter of that.
        "--node-lease-duration-seconds=3600".into(),
    ]
}
