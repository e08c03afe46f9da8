//! What the tests share.
#![allow(dead_code, clippy::expect_used)]

pub(crate) mod model;

use std::path::{Path, PathBuf};
use std::time::Duration;

use migpool_local::backend::LocalBackend;
use migpool_local::{Running, UpConfig};
use pool::{Action, NodeProvider, Pod, PodPhase, Workloads};
use tokio_util::sync::CancellationToken;

/// A wait ends when something holds or the test has failed; no test depends on how long it takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// The helper program, which `cargo test` builds with the examples.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let profile = test.parent().and_then(Path::parent).expect("target folder");
    let program = profile.join("examples").join("local_program");
    assert!(
        program.exists(),
        "build it first: cargo build -p migpool-local --examples"
    );
    program
}

/// A control plane in this process.
pub(crate) struct Plane {
    pub(crate) backend: LocalBackend,
    pub(crate) cancel: CancellationToken,
    running: Running,
}

impl Plane {
    pub(crate) async fn start(state_dir: &Path) -> Self {
        let config = UpConfig {
            state_dir: state_dir.to_owned(),
            real_gpus: false,
            agent_program: program(),
            ready: None,
        };
        let cancel = CancellationToken::new();
        let running = Running::start(&config, cancel.clone())
            .await
            .expect("starts");
        Self {
            backend: running.backend(),
            cancel,
            running,
        }
    }

    pub(crate) async fn with_node(state_dir: &Path) -> Self {
        let plane = Self::start(state_dir).await;
        plane
            .backend
            .apply(Action::CreateNode(model::node()))
            .await
            .expect("created");
        plane.wait_for_devices(model::DEVICES as u64).await;
        plane
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        self.running.ended().await;
    }

    pub(crate) async fn run(&self, name: &str) -> Pod {
        self.run_manifest(name, &model::sleeper(name)).await
    }

    pub(crate) async fn run_manifest(&self, name: &str, manifest: &str) -> Pod {
        let name = name.parse().expect("name");
        self.backend
            .run_pod(&model::cluster(), &name, manifest)
            .await
            .expect("taken")
    }

    pub(crate) async fn pod(&self, name: &str) -> Option<Pod> {
        let name = name.parse().expect("name");
        self.backend.pod(&model::cluster(), &name).await.ok()
    }

    pub(crate) async fn delete(&self, name: &str) {
        let parsed = name.parse().expect("name");
        self.backend
            .delete_pod(&model::cluster(), &parsed)
            .await
            .expect("being deleted");
        until(&format!("{name} is gone"), async || {
            self.pod(name).await.is_none().then_some(())
        })
        .await;
    }

    pub(crate) async fn log(&self, name: &str) -> String {
        let name = name.parse().expect("name");
        let log = self
            .backend
            .pod_logs(&model::cluster(), &name, None)
            .await
            .expect("log");
        String::from_utf8(log).expect("text")
    }

    pub(crate) async fn wait_for_phase(&self, name: &str, phase: PodPhase) -> Pod {
        until(&format!("{name} is {phase:?}"), async || {
            self.pod(name).await.filter(|pod| pod.phase == phase)
        })
        .await
    }

    pub(crate) async fn wait_for_devices(&self, count: u64) {
        until("the devices are advertised", async || {
            let nodes = self.backend.observe().await.expect("nodes");
            let found = nodes.first()?.allocatable.get("nvidia.com/gpu").copied();
            (nodes.first()?.ready && found == Some(count)).then_some(())
        })
        .await;
    }
}

/// The devices of a pod's containers.
pub(crate) fn devices(pod: &Pod) -> Vec<String> {
    pod.containers
        .iter()
        .flat_map(|c| c.devices.values().flatten().cloned())
        .collect()
}

/// Waits until `look` finds what it looks for.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not so in time: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
