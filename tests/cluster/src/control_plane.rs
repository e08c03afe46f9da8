//! The control plane's programs and how they are started.

use crate::config::{CONTROL_PLANE, SERVICES};
use crate::service::Program;
use crate::state::State;

pub(crate) const ETCD: &str = "etcd";
pub(crate) const API_SERVER: &str = "kube-apiserver";
pub(crate) const CONTROLLER_MANAGER: &str = "kube-controller-manager";
pub(crate) const SCHEDULER: &str = "kube-scheduler";

/// The users that have a `kubeconfig` in the state folder: its name, the user's and the group's.
pub(crate) const CLIENTS: [(&str, &str, Option<&str>); 3] = [
    ("admin", "admin", Some("system:masters")),
    (CONTROLLER_MANAGER, "system:kube-controller-manager", None),
    (SCHEDULER, "system:kube-scheduler", None),
];

/// The services in the order in which they are started.
pub(crate) fn programs(state: &State, path: &str) -> [(&'static str, Program); 4] {
    let program = |name: &'static str, arguments: Vec<String>| {
        let program = Program {
            path: name.to_owned(),
            arguments,
            environment: vec![("PATH".to_owned(), path.to_owned())],
        };
        (name, program)
    };
    [
        program(ETCD, etcd(state)),
        program(API_SERVER, api_server(state)),
        program(CONTROLLER_MANAGER, controller_manager(state)),
        program(SCHEDULER, scheduler(state)),
    ]
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

fn api_server(state: &State) -> Vec<String> {
    let pki = |name: &str| state.pki(name).display().to_string();
    vec![
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
    ]
}

fn controller_manager(state: &State) -> Vec<String> {
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
