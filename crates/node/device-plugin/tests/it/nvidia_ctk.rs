//! Our CDI specification and NVIDIA's own tool: it reads ours, and what it makes of the same driver is the same but for what
//! `docs/cdi.md` explains.
//!
//! Where the tool can't be built or a driver root with device nodes can't be made, a test says so on standard error and is
//! skipped. With `CI=true` it fails instead.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use mig::MigStrategy;
use migpool_device_plugin::{Config, DeviceListStrategy};
use nvml_sim::Options;
use serde_json::Value;

use crate::elf;
use crate::kubelet::Kubelet;
use crate::node::Node;

const GPU: &str = "nvidia.com/gpu";

/// Where the node's driver has its libraries.
const FOLDER: &str = "usr/lib/x86_64-linux-gnu";

/// Where containers get them by their names.
const LOADER_FOLDERS: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64"];

/// The names of the node's libraries, and their files.
const NAMES: [(&str, &str); 15] = [
    ("gbm/nvidia-drm_gbm.so", "libnvidia-allocator.so.580.159.04"),
    ("libGLX_indirect.so.0", "libGLX_nvidia.so.580.159.04"),
    ("libGLX_nvidia.so.0", "libGLX_nvidia.so.580.159.04"),
    ("libcuda.so", "libcuda.so.580.159.04"),
    ("libcuda.so.1", "libcuda.so.580.159.04"),
    ("libnvcuvid.so", "libnvcuvid.so.580.159.04"),
    ("libnvcuvid.so.1", "libnvcuvid.so.580.159.04"),
    (
        "libnvidia-allocator.so.1",
        "libnvidia-allocator.so.580.159.04",
    ),
    ("libnvidia-egl-gbm.so.1", "libnvidia-egl-gbm.so.1.1.2"),
    ("libnvidia-ml.so", "libnvidia-ml.so.580.159.04"),
    ("libnvidia-ml.so.1", "libnvidia-ml.so.580.159.04"),
    ("libnvidia-nvvm70.so.4", "libnvidia-nvvm70.so.4"),
    ("libnvidia-opencl.so.1", "libnvidia-opencl.so.580.159.04"),
    (
        "libnvidia-rtcore.so.580.159.04",
        "libnvidia-rtcore.so.580.159.04",
    ),
    (
        "vdpau/libvdpau_nvidia.so.1",
        "vdpau/libvdpau_nvidia.so.580.159.04",
    ),
];

/// What only ours says, whichever way libraries take, and the words that explain it.
const OURS: &[(&str, &str)] = &[
    ("every node has permissions rw", "`rw`"),
    ("every node has type c", "type `c`"),
];

/// What only ours says besides where NVIDIA's hooks have to run.
const OURS_BY_HOOKS: &[(&str, &str)] = &[(
    "hook create-symlinks --link libnvidia-egl-gbm.so.1.1.2::/usr/lib/x86_64-linux-gnu/libnvidia-egl-gbm.so.1",
    "`libnvidia-egl-*`",
)];

/// What only theirs says, whichever way libraries take.
const THEIRS: &[(&str, &str)] = &[
    ("device all", "device `all`"),
    (
        "env NVIDIA_CTK_LIBCUDA_DIR=/usr/lib/x86_64-linux-gnu",
        "`NVIDIA_CTK_LIBCUDA_DIR`",
    ),
    ("every node has permissions rwm", "`rwm`"),
    ("every node has type null", "no type"),
    (
        "file /usr/bin/nvidia-xconfig is ROOT/usr/bin/nvidia-xconfig, ro,nosuid,nodev,rbind,rprivate",
        "`nvidia-xconfig`",
    ),
    (
        "file /usr/share/X11/xorg.conf.d/10-nvidia.conf is ROOT/usr/share/X11/xorg.conf.d/10-nvidia.conf, ro,nosuid,nodev,rbind,rprivate",
        "`X11/xorg.conf.d`",
    ),
];

/// What only theirs says besides where NVIDIA's hooks have to run.
const THEIRS_BY_HOOKS: &[(&str, &str)] = &[
    (
        "file /usr/lib/xorg/modules/drivers/nvidia_drv.so is ROOT/usr/lib/xorg/modules/drivers/nvidia_drv.so, ro,nosuid,nodev,rbind,rprivate",
        "`nvidia_drv.so`",
    ),
    (
        "hook disable-device-node-modification by /usr/bin/nvidia-cdi-hook",
        "`disable-device-node-modification`",
    ),
    (
        "hook enable-cuda-compat --host-driver-version=580.159.04",
        "`enable-cuda-compat`",
    ),
    (
        "hook enable-cuda-compat by /usr/bin/nvidia-cdi-hook",
        "`enable-cuda-compat`",
    ),
    (
        "hook update-application-profile by /usr/bin/nvidia-cdi-hook",
        "`update-application-profile`",
    ),
];

/// What is missing for a test to run.
#[derive(Clone)]
struct Missing(String);

/// Skips the test loudly, or fails it in CI.
fn skip(test: &str, Missing(what): Missing) {
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{test} cannot run: {what}"
    );
    eprintln!("SKIPPED {test}: {what}");
}

/// Runs something that may be impossible here.
fn possible(what: &str, command: &mut Command) -> Result<Output, Missing> {
    match command.output() {
        Err(error) => Err(Missing(format!(
            "{what}: {}: {error}",
            command.get_program().display()
        ))),
        Ok(output) if output.status.success() => Ok(output),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(Missing(format!("{what} failed: {text}")))
        }
    }
}

/// What a program printed that has to succeed.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// `nvidia-ctk` of the version that the test cluster has pinned, built once for all tests.
fn nvidia_ctk() -> Result<PathBuf, Missing> {
    static PROGRAM: OnceLock<Result<PathBuf, Missing>> = OnceLock::new();
    PROGRAM.get_or_init(build_nvidia_ctk).clone()
}

fn build_nvidia_ctk() -> Result<PathBuf, Missing> {
    const PACKAGE: &str = "github.com/NVIDIA/nvidia-container-toolkit/cmd/nvidia-ctk";
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nvidia-ctk");
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/cluster/parts/nvidia");
    let mut download = Command::new("go");
    download.args(["mod", "download"]).current_dir(&module);
    possible(
        "fetching nvidia-container-toolkit from the Go module proxy",
        &mut download,
    )?;
    let mut build = Command::new("go");
    build
        .args(["build", "-trimpath", "-o"])
        .arg(&program)
        .arg(PACKAGE);
    // With its modules there, a build that fails is a fault of ours and not something missing.
    printed(build.current_dir(&module).env("CGO_ENABLED", "1"));
    Ok(program)
}

/// A node of two A100s in slices, whose driver has one of each kind of file that a driver can have.
fn node() -> Result<Node, Missing> {
    let options = Options {
        device_nodes: true,
        ..Options::default()
    };
    let node = Node::with(2, "3g.20gb", &options).map_err(|error| Missing(error.to_string()))?;
    let library = |name: &str, soname: &str| {
        node.write(
            &format!("{FOLDER}/{name}"),
            &elf::library(elf::X86_64, soname),
        );
        if soname != name {
            symlink(name, node.root().join(FOLDER).join(soname)).unwrap();
        }
    };
    library("libcuda.so.580.159.04", "libcuda.so.1");
    library(
        "libnvidia-rtcore.so.580.159.04",
        "libnvidia-rtcore.so.580.159.04",
    );
    library(
        "libnvidia-allocator.so.580.159.04",
        "libnvidia-allocator.so.1",
    );
    library("libGLX_nvidia.so.580.159.04", "libGLX_nvidia.so.0");
    library("libnvidia-egl-gbm.so.1.1.2", "libnvidia-egl-gbm.so.1");
    library("libnvidia-opencl.so.580.159.04", "libnvidia-opencl.so.1");
    library("libnvidia-nvvm70.so.4", "libnvidia-nvvm70.so.4");
    library("libnvcuvid.so.580.159.04", "libnvcuvid.so.1");
    symlink(
        "libnvcuvid.so.1",
        node.root().join(FOLDER).join("libnvcuvid.so"),
    )
    .unwrap();
    fs::create_dir(node.root().join(FOLDER).join("vdpau")).unwrap();
    node.write(
        &format!("{FOLDER}/vdpau/libvdpau_nvidia.so.580.159.04"),
        &elf::library(elf::X86_64, "libvdpau_nvidia.so.1"),
    );
    symlink(
        "libvdpau_nvidia.so.580.159.04",
        node.root().join(FOLDER).join("vdpau/libvdpau_nvidia.so.1"),
    )
    .unwrap();
    node.write(
        &format!("{FOLDER}/libcuda.so.570.1"),
        &elf::library(elf::X86_64, "libcuda.so.1"),
    );
    for program in ["nvidia-cuda-mps-control", "nvidia-xconfig"] {
        let path = format!("usr/bin/{program}");
        node.write(&path, b"#!/bin/sh\n");
        let path = node.root().join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    node.write("etc/OpenCL/vendors/nvidia.icd", b"libnvidia-opencl.so.1\n");
    node.write("usr/share/vulkan/icd.d/nvidia_icd.json", b"{}");
    node.write("usr/lib/xorg/modules/drivers/nvidia_drv.so", b"");
    node.write("usr/share/X11/xorg.conf.d/10-nvidia.conf", b"");
    Ok(node)
}

/// Lets a plugin write its specification of this node.
async fn ours(node: &mut Node, hook: Option<&str>) -> Value {
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(Config {
        device_list_strategies: vec![DeviceListStrategy::CdiCri],
        cdi_hook: hook.map(PathBuf::from),
        ..node.config(MigStrategy::Single)
    });
    kubelet.until_counts(GPU, 4, 4).await;
    node.specification()
}

/// What `nvidia-ctk` makes of this node. It reads the capabilities' minors from this machine's `/proc`, so it gets a mount
/// namespace of its own, where those are the simulated ones.
fn theirs(node: &Node, nvidia_ctk: &Path) -> Result<Value, Missing> {
    const SCRIPT: &str = r#"mount -t tmpfs tmpfs /proc/driver && cp -r "$ROOT/proc/driver/." /proc/driver && exec "$@""#;
    let unshare = |command: &[&OsStr]| {
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "sh", "-c", SCRIPT, "sh"])
            .args(command);
        unshare.env("ROOT", node.root());
        unshare
    };
    possible("a mount namespace", &mut unshare(&["true".as_ref()]))?;
    let mut generate = unshare(&[nvidia_ctk.as_os_str()]);
    generate.args(["cdi", "generate", "--format=json", "--mode=nvml"]);
    generate.args([
        "--device-name-strategy=uuid",
        "--nvidia-cdi-hook-path=/usr/bin/nvidia-cdi-hook",
    ]);
    for flag in ["--driver-root", "--dev-root"] {
        generate.arg(flag).arg(node.root());
    }
    Ok(serde_json::from_str(&printed(&mut generate)).unwrap())
}

/// Everything that a specification says, a line for each thing, with `ROOT` for the driver root and `SLICE` for a name.
fn facts(spec: &Value, node: &Node) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for device in spec["devices"].as_array().unwrap() {
        let name = device["name"].as_str().unwrap();
        facts.insert(format!("device {name}"));
        if name != "all" {
            tell_edits(&device["containerEdits"], &format!("{name}: "), &mut facts);
        }
    }
    tell_edits(&spec["containerEdits"], "", &mut facts);
    let root = node.root().display().to_string();
    facts
        .into_iter()
        .map(|fact| fact.replace(&root, "ROOT"))
        .collect()
}

fn tell_edits(edits: &Value, whose: &str, facts: &mut BTreeSet<String>) {
    let list = |key: &str| edits[key].as_array().into_iter().flatten();
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let mut tell = |fact: String| facts.insert(format!("{whose}{fact}"));
    for variable in list("env") {
        tell(format!("env {}", text(variable)));
    }
    for node in list("deviceNodes") {
        let path = text(&node["path"]);
        let (host, major, minor) = (text(&node["hostPath"]), &node["major"], &node["minor"]);
        tell(format!(
            "node {path} is {host}, {major}:{minor}, mode {}",
            node["fileMode"]
        ));
        tell(format!(
            "every node has permissions {}",
            text(&node["permissions"])
        ));
        tell(format!("every node has type {}", text(&node["type"])));
    }
    for mount in list("mounts") {
        let options = mount["options"].as_array().unwrap();
        let options: Vec<String> = options.iter().map(&text).collect();
        let (from, at) = (text(&mount["hostPath"]), text(&mount["containerPath"]));
        tell(format!("file {at} is {from}, {}", options.join(",")));
    }
    for hook in list("hooks") {
        let args: Vec<String> = hook["args"].as_array().unwrap().iter().map(&text).collect();
        tell(format!("hook {} by {}", args[1], text(&hook["path"])));
        for pair in args[2..].chunks(2) {
            tell(format!("hook {} {}", args[1], pair.join(" ")));
        }
    }
}

/// What is in one of two and not in the other, first the one's and then the other's, with slices' names and repetitions left
/// out.
fn differences<'a>(
    one: &'a BTreeSet<String>,
    other: &'a BTreeSet<String>,
) -> (BTreeSet<&'a str>, BTreeSet<&'a str>) {
    fn without_name(fact: &str) -> &str {
        match fact.split_once(": ") {
            Some((name, fact)) if name.starts_with("MIG-") => fact,
            _ => fact,
        }
    }
    let only = |one: &'a BTreeSet<String>, other: &'a BTreeSet<String>| {
        one.difference(other)
            .map(|fact| without_name(fact))
            .collect()
    };
    (only(one, other), only(other, one))
}

#[tokio::test]
async fn nvidia_ctk_lists_our_devices() {
    let missing = match (nvidia_ctk(), node()) {
        (Ok(program), Ok(mut node)) => {
            let spec = ours(&mut node, None).await;
            let mut list = Command::new(program);
            list.args(["cdi", "list", "--spec-dir"]);
            list.arg(node.cdi_file().parent().unwrap());
            let listed: BTreeSet<String> = printed(&mut list).lines().map(str::to_owned).collect();
            let devices = spec["devices"].as_array().unwrap();
            let names = devices
                .iter()
                .map(|device| device["name"].as_str().unwrap());
            let wanted: BTreeSet<String> = names
                .map(|name| format!("k8s.device-plugin.nvidia.com/gpu={name}"))
                .collect();
            assert_eq!(wanted.len(), 4);
            assert_eq!(listed, wanted);
            return;
        }
        (Err(missing), _) | (_, Err(missing)) => missing,
    };
    skip("nvidia_ctk_lists_our_devices", missing);
}

#[tokio::test]
async fn what_differs_from_nvidia_ctk_is_what_is_explained() {
    const TEST: &str = "what_differs_from_nvidia_ctk_is_what_is_explained";
    let (program, mut node) = match (nvidia_ctk(), node()) {
        (Ok(program), Ok(node)) => (program, node),
        (Err(missing), _) | (_, Err(missing)) => return skip(TEST, missing),
    };
    let socket = node.root().join("run/nvidia-persistenced");
    fs::create_dir_all(&socket).unwrap();
    let _socket = UnixListener::bind(socket.join("socket")).unwrap();
    let theirs = match theirs(&node, &program) {
        Ok(theirs) => facts(&theirs, &node),
        Err(missing) => return skip(TEST, missing),
    };
    let by_hooks = facts(
        &ours(&mut node, Some("/usr/bin/nvidia-cdi-hook")).await,
        &node,
    );
    let (ours_only, theirs_only) = differences(&by_hooks, &theirs);
    explain(&ours_only, &[OURS, OURS_BY_HOOKS].concat());
    explain(&theirs_only, &[THEIRS, THEIRS_BY_HOOKS].concat());

    // By names, libraries are where theirs are only after the hooks have run.
    node.stop().await;
    let by_names = facts(&ours(&mut node, None).await, &node);
    let is_library = |fact: &&String| fact.starts_with("file /usr/lib") && fact.contains(".so");
    let is_rest = |fact: &&String| !is_library(fact) && !fact.starts_with("hook ");
    let rest = |facts: &BTreeSet<String>| facts.iter().filter(is_rest).cloned().collect();
    let (ours_rest, theirs_rest) = (rest(&by_names), rest(&theirs));
    let (ours_only, theirs_only) = differences(&ours_rest, &theirs_rest);
    explain(&ours_only, OURS);
    explain(&theirs_only, THEIRS);
    assert!(!by_names.iter().any(|fact| fact.starts_with("hook ")));
    let wanted = LOADER_FOLDERS.iter().flat_map(|folder| {
        NAMES.iter().map(move |(name, file)| {
            format!("file {folder}/{name} is ROOT/{FOLDER}/{file}, ro,nosuid,nodev,rbind,rprivate")
        })
    });
    let libraries: BTreeSet<String> = by_names.iter().filter(is_library).cloned().collect();
    assert_eq!(libraries, wanted.collect());
    for (name, file) in NAMES {
        let by_theirs = |fact: &String| {
            let link = fact.starts_with("hook create-symlinks");
            fact.starts_with(&format!("file /{FOLDER}/{name} is "))
                || (link && fact.ends_with(&format!("::/{FOLDER}/{name}")))
        };
        // Theirs leaves this one to ldconfig.
        let by_ldconfig = file.starts_with("libnvidia-egl-gbm");
        assert!(
            by_ldconfig || theirs.iter().any(by_theirs),
            "only ours has {name}"
        );
    }
}

/// Sees to it that the differences are these and no others, and that `docs/cdi.md` has the words of each.
fn explain(found: &BTreeSet<&str>, expected: &[(&str, &str)]) {
    let differences: BTreeSet<&str> = expected.iter().map(|(difference, _)| *difference).collect();
    assert_eq!(*found, differences);
    let documentation = include_str!("../../../../../docs/cdi.md");
    for (difference, words) in expected {
        assert!(
            documentation.contains(words),
            "`{difference}`: `{words}` is not in docs/cdi.md"
        );
    }
}
