//! `migpool sim node`: a node's simulated GPUs, in a mount namespace of their own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use axum::extract::Query;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::control_plane::{migpool, output, stdout};

const PATIENCE: Duration = Duration::from_mins(1);

/// Says loudly that a test needs more rights than this user has; in CI it fails.
fn may_mount(test: &str) -> bool {
    let may = Command::new("unshare")
        .args(["--mount", "true"])
        .output()
        .is_ok_and(|done| done.status.success());
    if !may {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "{test} needs root and unshare"
        );
        eprintln!("SKIPPED {test}: needs root and unshare");
    }
    may
}

/// A node: its folders, and a mount namespace that lives as long as this.
struct Node {
    folder: tempfile::TempDir,
    namespace: Child,
}

/// A running `migpool sim node`, and what it logs.
struct Running {
    child: Child,
    log: mpsc::Receiver<String>,
    said: Vec<String>,
}

impl Node {
    fn new() -> Node {
        let folder = tempfile::tempdir().unwrap();
        let mut namespace = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("echo; exec sleep 1000")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = namespace.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        Node { folder, namespace }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("lib/nvml-sim")
    }

    fn mount(&self) -> PathBuf {
        self.folder.path().join("run/nvidia/driver")
    }

    /// A path of the node, as this process reaches it.
    fn seen(&self, path: &Path) -> PathBuf {
        Path::new("/proc")
            .join(self.namespace.id().to_string())
            .join("root")
            .join(path.strip_prefix("/").unwrap())
    }

    fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &self.namespace.id().to_string(),
                "--mount",
                "--",
            ])
            .arg(program)
            .env("NO_COLOR", "1")
            .env_remove("NVIDIA_DRIVER_ROOT")
            .stdin(Stdio::null());
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.inside(Path::new(env!("CARGO_BIN_EXE_migpool")));
        command.args(["sim", "node", "--mount"]).arg(self.mount());
        if !arguments.contains(&"--root") {
            command.arg("--root").arg(self.root());
        }
        command.args(arguments);
        command
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self
            .command(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = mpsc::channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Running {
            child,
            log,
            said: Vec::new(),
        }
    }

    /// What nvidia-smi lists on the node, through the mount.
    fn listing(&self) -> String {
        let program = self.mount().join("usr/bin/nvidia-smi");
        let mut command = self.inside(&program);
        stdout(command.arg("-L").env("NVIDIA_DRIVER_ROOT", self.mount()))
    }

    fn partition(&self) {
        let mut command = self.inside(Path::new(env!("CARGO_BIN_EXE_migpool")));
        command
            .args(["partition", "apply", "MIG3g", "--partition-state-dir"])
            .arg(self.folder.path().join("partition"))
            .env("NVIDIA_DRIVER_ROOT", self.mount());
        stdout(&mut command);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.namespace.kill();
        let _ = self.namespace.wait();
    }
}

impl Running {
    /// Waits until a line says this.
    fn says(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let Ok(line) = self.log.recv_timeout(left) else {
                break;
            };
            self.said.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("it never said {text:?}, but:\n{}", self.said.join("\n"));
    }

    fn stop(mut self) -> Vec<String> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        self.said.extend(self.log.iter());
        assert!(status.success(), "{status}: {}", self.said.join("\n"));
        std::mem::take(&mut self.said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn count(listing: &str, text: &str) -> usize {
    listing.lines().filter(|line| line.contains(text)).count()
}

#[test]
fn a_node_has_its_boards_where_a_driver_container_would_and_keeps_them_over_a_restart() {
    if !may_mount("a node has its boards") {
        return;
    }
    let node = Node::new();
    let boards = [
        "--board",
        "A100-SXM4-40GB",
        "--count",
        "2",
        "--board",
        "H200-141GB",
        "--count",
        "1",
    ];
    let mut first = node.start(&boards);
    first.says("SIMULATED");
    first.says("2 x NVIDIA A100-SXM4-40GB, 1 x NVIDIA H200");
    assert_eq!(node.listing().lines().count(), 3);
    let device = fs::metadata(node.seen(&node.mount().join("dev/nvidia0"))).unwrap();
    assert!(device.file_type().is_char_device());
    let smi = fs::symlink_metadata(node.seen(&node.mount().join("usr/bin/nvidia-smi"))).unwrap();
    assert!(smi.is_file(), "a link would lead nowhere in a container");
    node.partition();
    assert_eq!(count(&node.listing(), "MIG 3g."), 6);
    first.stop();
    // What pods use stays, and is found again.
    assert_eq!(count(&node.listing(), "MIG 3g."), 6);
    let mut second = node.start(&boards);
    second.says("ready");
    assert_eq!(count(&node.listing(), "MIG 3g."), 6);
    let said = second.stop();
    assert_eq!(
        said.iter().filter(|line| line.contains("mounted")).count(),
        0,
        "{said:?}"
    );
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", node.namespace.id())).unwrap();
    assert_eq!(count(&mounts, "run/nvidia/driver"), 1, "{mounts}");
}

#[test]
fn slices_are_gone_when_the_machine_has_booted() {
    if !may_mount("slices are gone when the machine has booted") {
        return;
    }
    let node = Node::new();
    let boards = ["--board", "A100-SXM4-40GB"];
    let mut first = node.start(&boards);
    first.says("ready");
    node.partition();
    first.stop();
    fs::write(node.root().join("sim/boot-id"), "the boot before").unwrap();
    let mut second = node.start(&boards);
    second.says("has booted");
    second.says("ready");
    assert_eq!(node.listing().lines().count(), 1, "{}", node.listing());
    second.stop();
}

#[test]
fn other_boards_are_refused_in_words_until_the_replacement_is_asked_for() {
    if !may_mount("other boards are refused in words") {
        return;
    }
    let node = Node::new();
    let mut first = node.start(&["--board", "A100-SXM4-40GB"]);
    first.says("ready");
    first.stop();
    let mut refused = node.start(&["--board", "A30", "--count", "2"]);
    let said = refused.says("--replace");
    assert!(
        said.contains("1 x A100-40GB") && said.contains("2 x A30"),
        "{said}"
    );
    assert!(
        refused.child.try_wait().unwrap().is_none(),
        "it waits to be put right"
    );
    assert_eq!(count(&node.listing(), "A100"), 1);
    refused.stop();
    let mut refused = node.start(&["--board", "A30", "--count", "2", "--remove-at-end"]);
    refused.says("--replace");
    refused.stop();
    assert_eq!(count(&node.listing(), "A100"), 1, "it was never its own");
    let mut replaced = node.start(&["--board", "A30", "--count", "2", "--replace"]);
    replaced.says("ready");
    assert_eq!(count(&node.listing(), "A30"), 2, "{}", node.listing());
    replaced.stop();
}

#[test]
fn two_simulations_of_one_node_do_not_undo_each_other() {
    if !may_mount("two simulations of one node") {
        return;
    }
    let node = Node::new();
    let mut first = node.start(&["--board", "A100-SXM4-40GB"]);
    first.says("ready");
    let mut same_root = node.start(&["--board", "A30", "--replace", "--remove-at-end"]);
    same_root.says("another migpool sim node has");
    let other = node.folder.path().join("other").display().to_string();
    let mut same_mount = node.start(&["--board", "A30", "--root", &other]);
    same_mount.says("of another migpool sim node, which runs");
    assert_eq!(count(&node.listing(), "A100"), 1, "{}", node.listing());
    same_root.stop();
    first.stop();
    // Nobody sees to the first one's any more.
    same_mount.says("ready");
    assert_eq!(count(&node.listing(), "A30"), 1, "{}", node.listing());
    same_mount.stop();
}

#[test]
fn at_the_end_nothing_is_left_where_that_is_asked_for() {
    if !may_mount("at the end nothing is left") {
        return;
    }
    let node = Node::new();
    let mut running = node.start(&["--board", "A30", "--remove-at-end"]);
    running.says("ready");
    running.stop();
    for (folder, expected) in [("lib", 0), ("run/nvidia", 0)] {
        let path = node.seen(&node.folder.path().join(folder));
        assert_eq!(fs::read_dir(path).unwrap().count(), expected, "{folder}");
    }
}

#[test]
fn a_real_driver_is_left_alone_and_ready_comes_when_it_is_gone() {
    if !may_mount("a real driver is left alone") {
        return;
    }
    let node = Node::new();
    let real = node.mount().join("usr/lib/x86_64-linux-gnu");
    fs::create_dir_all(&real).unwrap();
    fs::write(real.join("libnvidia-ml.so.1"), "a real one").unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let address = port.to_string();
    let mut running = node.start(&["--board", "A30", "--listen", &address]);
    let said = running.says("left alone");
    assert!(said.contains(&node.mount().display().to_string()), "{said}");
    let (code, text) = get_text(&address, "/readyz");
    assert_eq!(code, "503");
    assert!(text.contains("left alone"), "{text}");
    assert_eq!(get_text(&address, "/healthz").0, "200");
    assert!(real.join("libnvidia-ml.so.1").is_file());
    fs::remove_dir_all(node.mount().join("usr")).unwrap();
    running.says("ready");
    let (code, text) = get_text(&address, "/readyz");
    assert_eq!(code, "200");
    assert!(text.contains("simulated"), "{text}");
    running.stop();
}

/// An API server with one node and its labels, by who set them; it serves until the tests end.
struct ApiServer {
    labels: Arc<Mutex<BTreeMap<String, Value>>>,
}

impl ApiServer {
    fn start(address: SocketAddr) -> ApiServer {
        ApiServer::start_with(address, None)
    }

    /// One where somebody else has set a label to something else.
    fn start_with(address: SocketAddr, others: Option<&'static str>) -> ApiServer {
        let labels: Arc<Mutex<BTreeMap<String, Value>>> = Arc::default();
        let node = json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"name": "mignode", "uid": "u-1", "resourceVersion": "1"},
        });
        let (kept, answer) = (Arc::clone(&labels), node.clone());
        let apply = async move |Query(query): Query<BTreeMap<String, String>>, body: String| {
            let applied: Value = serde_json::from_str(&body).unwrap();
            let set = applied["metadata"]["labels"].clone();
            if let Some(label) = others.filter(|label| set.get(label).is_some()) {
                let cause = json!({
                    "reason": "FieldManagerConflict", "field": format!(".metadata.labels.{label}"),
                    "message": "conflict with \"admin\" using v1",
                });
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict",
                    "code": 409, "message": "conflict", "details": {"causes": [cause]},
                });
                return (StatusCode::CONFLICT, Json(status));
            }
            kept.lock()
                .unwrap()
                .insert(query["fieldManager"].clone(), set);
            (StatusCode::OK, Json(answer))
        };
        let router = Router::new().route(
            "/api/v1/nodes/mignode",
            get(async move || Json(node)).patch(apply),
        );
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        ApiServer { labels }
    }

    fn set_by(&self, manager: &str) -> Value {
        let labels = self.labels.lock().unwrap();
        labels.get(manager).cloned().unwrap_or_default()
    }
}

fn kubeconfig(folder: &Path, server: SocketAddr) -> PathBuf {
    let file = folder.join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": format!("http://{server}")}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    fs::write(&file, text.to_string()).unwrap();
    file
}

#[test]
fn labels_say_that_the_gpus_are_simulated_once_the_server_answers_and_go_at_the_end() {
    if !may_mount("labels say that the GPUs are simulated") {
        return;
    }
    let node = Node::new();
    // An address where nobody answers yet.
    let server = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = kubeconfig(node.folder.path(), server);
    let probes = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let probes = probes.to_string();
    let mut running = node.start(&[
        "--board",
        "A100-SXM4-40GB",
        "--count",
        "2",
        "--label-node",
        "--node-name",
        "mignode",
        "--remove-at-end",
        "--listen",
        &probes,
        "--kubeconfig",
        config.to_str().unwrap(),
    ]);
    running.says("does not answer");
    let (code, text) = get_text(&probes, "/readyz");
    assert_eq!(code, "503");
    assert!(text.contains("does not answer"), "{text}");
    let server = ApiServer::start(server);
    running.says("labelled the node mignode");
    assert_eq!(get_text(&probes, "/readyz").0, "200");
    assert_eq!(
        server.set_by("migpool-nvml-sim"),
        json!({
            "migpool.dev/simulated-driver": "true",
            "migpool.dev/simulated-gpus": "2-A100-SXM4-40GB",
            "nvidia.com/gpu.present": "true",
        })
    );
    running.stop();
    assert_eq!(server.set_by("migpool-nvml-sim"), Value::Null);
    assert_eq!(
        server.labels.lock().unwrap().len(),
        1,
        "nobody else's labels are touched"
    );
}

#[test]
fn a_label_that_somebody_else_holds_is_left_and_named() {
    if !may_mount("a label that somebody else holds") {
        return;
    }
    let node = Node::new();
    let server = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = kubeconfig(node.folder.path(), server);
    let server = ApiServer::start_with(server, Some("nvidia.com/gpu.present"));
    let mut running = node.start(&[
        "--board",
        "A30",
        "--label-node",
        "--node-name",
        "mignode",
        "--kubeconfig",
        &config.display().to_string(),
    ]);
    let said = running.says("nvidia.com/gpu.present=true is left as it is");
    assert!(said.contains("admin"), "{said}");
    let said = running.says("labelled the node mignode");
    assert!(!said.contains("gpu.present"), "{said}");
    assert_eq!(
        server.set_by("migpool-nvml-sim"),
        json!({"migpool.dev/simulated-driver": "true", "migpool.dev/simulated-gpus": "1-A30"})
    );
    running.stop();
}

#[test]
fn a_node_that_is_to_be_labelled_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let refused = output(
        migpool()
            .args(["sim", "node", "--board", "A30", "--label-node", "--root"])
            .arg(folder.path().join("root"))
            .arg("--mount")
            .arg(folder.path().join("mount"))
            .env_remove("NODE_NAME"),
    );
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("NODE_NAME"), "{said}");
    assert!(!folder.path().join("root").exists());
}

fn get_text(address: &str, path: &str) -> (String, String) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: node\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split(' ').nth(1).unwrap().to_owned();
    (code, answer)
}
