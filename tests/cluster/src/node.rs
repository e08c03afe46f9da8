//! A node: a kubelet and a containerd in namespaces of their own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::certificates::{self, kubeconfig};
use crate::config::{CONTROL_PLANE, Place};
use crate::namespace::{self, Namespace, Setup};
use crate::service::{Program, Service};
use crate::state::{self, State};
use crate::{cgroups, run, service};

/// Why a node could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its namespaces.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
    /// Its certificates.
    #[error(transparent)]
    Certificates(#[from] certificates::Error),
    /// Its cgroups.
    #[error(transparent)]
    Cgroups(#[from] cgroups::Error),
    /// A file of the state folder.
    #[error(transparent)]
    State(#[from] state::Error),
    /// One of its services.
    #[error(transparent)]
    Service(#[from] service::Error),
    /// An image archive cannot be read.
    #[error("cannot read the image archive {path}: {source}")]
    Archive {
        /// Its path.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// containerd does not take an image.
    #[error("{node} does not take the image {path}: {source}")]
    Import {
        /// The node.
        node: String,
        /// The archive.
        path: PathBuf,
        /// containerd's words.
        source: run::Error,
    },
}

/// A node of the cluster.
#[derive(Debug, Clone)]
pub struct Node {
    state: State,
    namespace: Namespace,
    path: String,
}

/// What every node of a cluster has in common.
pub(crate) struct Surroundings<'cluster> {
    pub(crate) state: &'cluster State,
    pub(crate) outer: &'cluster Namespace,
    /// Where the parts lie, and the `PATH` that finds them.
    pub(crate) parts: &'cluster Path,
    pub(crate) path: &'cluster str,
}

impl Node {
    /// Makes a node's namespaces and its configuration. Nothing runs in them yet.
    pub(crate) fn create(around: &Surroundings, name: &str, place: Place) -> Result<Self, Error> {
        let state = around.state;
        let data = state.node(name);
        for folder in ["root", "var", "etc"] {
            state::make_dir(&data.join(folder))?;
        }
        write_configuration(state, name, place)?;
        cgroups::create(&cgroups::name(state.dir()), name)?;
        let setup = Setup {
            name,
            script: include_str!("node.sh"),
            environment: vec![
                ("NAME", name.to_owned()),
                ("DATA", data.display().to_string()),
                ("PARTS", around.parts.display().to_string()),
                ("CABLE", place.cable()),
                ("ADDRESS", place.address().to_string()),
                ("PODS", place.pods()),
                ("GATEWAY", CONTROL_PLANE.to_string()),
            ],
            with_owner: false,
        };
        let (namespace, _) = Namespace::create(state, Some(around.outer), setup)?;
        let node = Self {
            state: state.clone(),
            namespace,
            path: around.path.to_owned(),
        };
        node.containerd().define(&node.program("containerd", &[]))?;
        node.kubelet().define(&node.program(
            "kubelet",
            &[
                "--config=/etc/kubernetes/kubelet.json".to_owned(),
                "--kubeconfig=/etc/kubernetes/kubeconfig".to_owned(),
                format!("--hostname-override={name}"),
                format!("--node-ip={}", place.address()),
            ],
        ))?;
        Ok(node)
    }

    /// A node that was made before.
    pub(crate) fn find(state: &State, path: &str, name: &str) -> Option<Self> {
        Some(Self {
            state: state.clone(),
            namespace: Namespace::find(state, name)?,
            path: path.to_owned(),
        })
    }

    fn program(&self, program: &str, arguments: &[String]) -> Program {
        Program {
            path: program.to_owned(),
            arguments: arguments.to_vec(),
            environment: vec![("PATH".to_owned(), self.path.clone())],
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    /// Its kubelet.
    #[must_use]
    pub fn kubelet(&self) -> Service {
        self.service("kubelet")
    }

    /// Its containerd. The containers go on while it is away.
    #[must_use]
    pub fn containerd(&self) -> Service {
        self.service("containerd")
    }

    fn service(&self, name: &str) -> Service {
        let name = format!("{}-{name}", self.name());
        Service::new(&self.state, &self.namespace, &name)
    }

    /// A program to be run on the node: in its namespaces and its root folder, as root.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.namespace.enter(program);
        command
            .env("PATH", &self.path)
            .env("CONTAINERD_NAMESPACE", "k8s.io");
        command
    }

    /// A folder or file of the node, as this process reaches it.
    #[must_use]
    pub fn host_path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let root = format!("/proc/{}/root", self.namespace.first());
        Path::new(&root).join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Gives the node an image, from an archive as `docker save` writes it.
    ///
    /// # Errors
    /// When the archive cannot be read, or containerd refuses it.
    pub fn import_image(&self, archive: &Path) -> Result<(), Error> {
        let file = fs::File::open(archive).map_err(|source| Error::Archive {
            path: archive.to_owned(),
            source,
        })?;
        let mut command = self.command("ctr");
        command
            .args(["images", "import", "--no-unpack", "-"])
            .stdin(Stdio::from(file));
        run::output_from(&mut command)
            .map(drop)
            .map_err(|source| Error::Import {
                node: self.name().to_owned(),
                path: archive.to_owned(),
                source,
            })
    }

    /// Waits until containerd answers.
    pub(crate) fn wait_for_containerd(&self) -> Result<(), Error> {
        let what = format!("the containerd of {}", self.name());
        self.containerd()
            .serves(&what, Duration::from_mins(1), || {
                run::output(self.command("ctr").args(["--timeout", "2s", "version"]))
            })?;
        Ok(())
    }
}

/// Writes what `node.sh` copies to the node's `/etc`.
fn write_configuration(state: &State, name: &str, place: Place) -> Result<(), Error> {
    let etc = state.node(name).join("etc");
    let kubernetes = etc.join("kubernetes");
    for (from, to) in [
        (state.pki("ca.crt"), "ca.crt"),
        (state.pki(&format!("{name}.crt")), "kubelet.crt"),
        (state.pki(&format!("{name}.key")), "kubelet.key"),
    ] {
        let text = fs::read_to_string(&from).map_err(state::error("read", &from))?;
        state.write(&kubernetes.join(to), &text)?;
    }
    let on_node = Path::new("/etc/kubernetes");
    let kubeconfig = kubeconfig(
        &on_node.join("ca.crt"),
        &on_node.join("kubelet.crt"),
        &on_node.join("kubelet.key"),
    );
    let cgroup = format!("/{}/{name}", cgroups::name(state.dir()));
    for (path, text) in [
        ("kubernetes/kubeconfig", kubeconfig),
        ("kubernetes/kubelet.json", kubelet_configuration(&cgroup)),
        ("containerd/config.toml", CONTAINERD.to_owned()),
        ("cni/net.d/10-pods.conflist", network_configuration(place)),
        (
            "hosts",
            format!("127.0.0.1 localhost\n{} {name}\n", place.address()),
        ),
        ("hostname", format!("{name}\n")),
        ("resolv.conf", format!("nameserver {CONTROL_PLANE}\n")),
    ] {
        state.write(&etc.join(path), &text)?;
    }
    Ok(())
}

fn kubelet_configuration(cgroup: &str) -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": "/etc/kubernetes/kubelet.crt",
        "tlsPrivateKeyFile": "/etc/kubernetes/kubelet.key",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": false,
        "failSwapOn": false,
        "resolvConf": "/etc/resolv.conf",
        // Nothing serves names there: a pod that asks hears so at once.
        "clusterDNS": [CONTROL_PLANE],
        "maxPods": 250,
        // Changes are to be seen in seconds: by the pods in their volumes, and by the cluster in the node's status.
        "syncFrequency": "2s",
        "nodeStatusUpdateFrequency": "1s",
        "nodeStatusReportFrequency": "10s",
        // The machine's disk and memory are not the nodes' own: nothing is to be evicted or deleted for their sake.
        "evictionHard": {"memory.available": "20Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    })
    .to_string()
}

fn network_configuration(place: Place) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "pods",
            "isDefaultGateway": true,
            "hairpinMode": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": place.pods()}]], "dataDir": "/run/cni"},
        }],
    })
    .to_string()
}

/// Without `restrict_oom_score_adj` no sandbox starts where `CAP_SYS_RESOURCE` is missing.
const CONTAINERD: &str = r"version = 3
root = '/var/lib/containerd'
state = '/run/containerd'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = 'migpool-test/pause:1'

[plugins.'io.containerd.cri.v1.runtime']
enable_cdi = true
cdi_spec_dirs = ['/etc/cdi', '/var/run/cdi']
restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni']
conf_dir = '/etc/cni/net.d'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
";
