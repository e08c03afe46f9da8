//! Which Go modules there are, and what is built from each.

/// One Go module of `parts/`, and the programs that it gives.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) packages: &'static [&'static str],
    /// The file that is built, where it is not named after its package.
    pub(super) file: Option<&'static str>,
    /// Other names for that file, by which it does other things.
    pub(super) names: &'static [&'static str],
    /// The module whose version `k8s.io/component-base` has to report: clients refuse servers without one.
    pub(super) version_of: Option<&'static str>,
    pub(super) cgo: bool,
}

pub(super) const PARTS: [Part; 6] = [
    Part {
        name: "kubernetes",
        packages: &["."],
        file: Some("kubernetes"),
        names: &[
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kubectl",
        ],
        version_of: Some("k8s.io/kubernetes"),
        cgo: false,
    },
    Part {
        name: "etcd",
        packages: &["go.etcd.io/etcd/server/v3"],
        file: Some("etcd"),
        names: &[],
        version_of: None,
        cgo: false,
    },
    Part {
        name: "containerd",
        packages: &[
            "github.com/containerd/containerd/v2/cmd/containerd",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/ctr",
        ],
        file: None,
        names: &[],
        version_of: None,
        cgo: false,
    },
    Part {
        name: "helm",
        packages: &["helm.sh/helm/v3/cmd/helm"],
        file: None,
        names: &[],
        version_of: None,
        cgo: false,
    },
    Part {
        name: "nvidia",
        packages: &["github.com/NVIDIA/nvidia-container-toolkit/cmd/nvidia-ctk"],
        file: None,
        names: &[],
        version_of: None,
        cgo: true,
    },
    Part {
        name: "kwok",
        packages: &["sigs.k8s.io/kwok/cmd/kwok"],
        file: None,
        names: &[],
        version_of: None,
        cgo: false,
    },
];
