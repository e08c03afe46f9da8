//! The CDI specification that a running plugin keeps, read by whoever reads such.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use container_device_interface::cache::{new_cache, with_auto_refresh};
use container_device_interface::spec::read_spec;
use container_device_interface::spec_dirs::with_spec_dirs;
use mig::MigStrategy;
use migpool_device_plugin::{Config, DeviceListStrategy, PluginStatus};
use serde_json::{Value, json};

use crate::elf;
use crate::kubelet::Kubelet;
use crate::node::{Node, eventually, partition};

const GPU: &str = "nvidia.com/gpu";

/// The plugin's configuration, with CDI names by the kubelet's field.
fn by_cdi(node: &Node, mig_strategy: MigStrategy) -> Config {
    Config {
        device_list_strategies: vec![DeviceListStrategy::CdiCri],
        ..node.config(mig_strategy)
    }
}

/// Replaces every device file by one that leads to a device, as only device nodes can be given to a container.
fn make_devices(node: &Node) {
    for folder in ["dev", "dev/nvidia-caps"] {
        for entry in fs::read_dir(node.root().join(folder)).unwrap().flatten() {
            if entry.file_type().unwrap().is_file() {
                fs::remove_file(entry.path()).unwrap();
                symlink("/dev/null", entry.path()).unwrap();
            }
        }
    }
}

/// The paths below `key` of some edits.
fn paths<'a>(edits: &'a Value, list: &str, key: &str) -> Vec<&'a str> {
    let list = edits[list].as_array().unwrap();
    list.iter().map(|one| one[key].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_cdi_name_that_is_allocated_is_in_the_specification() {
    let mut node = Node::new(2, "3g.20gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let config = Config {
        device_list_strategies: vec![DeviceListStrategy::CdiCri],
        ..node.config(MigStrategy::Single)
    };
    node.start(config);
    let resource = kubelet.until_counts(GPU, 4, 4).await;
    let id = resource.devices.keys().next().unwrap();
    let response = kubelet.allocate(GPU, &[id]).await.unwrap();
    let name = response.cdi_devices[0].name.clone();

    let spec = node.specification();
    let kind = spec["kind"].as_str().unwrap();
    let devices = spec["devices"].as_array().unwrap();
    let device = devices
        .iter()
        .find(|device| format!("{kind}={}", device["name"].as_str().unwrap()) == name)
        .unwrap();
    for node in device["containerEdits"]["deviceNodes"].as_array().unwrap() {
        assert!(
            Path::new(node["hostPath"].as_str().unwrap()).exists(),
            "{node}"
        );
    }
    assert_eq!(devices.len(), 4);
}

#[tokio::test]
async fn a_cdi_specification_that_was_deleted_or_became_old_is_written_again() {
    let mut node = Node::new(1, "3g.20gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(Config {
        device_list_strategies: vec![DeviceListStrategy::CdiCri],
        ..node.config(MigStrategy::Single)
    });
    kubelet.until_counts(GPU, 2, 2).await;
    let file = node.cdi_file();
    fs::remove_file(&file).unwrap();
    // A control node that appears when it is first used belongs into the specification, too.
    let late = "/dev/nvidia-modeset";
    assert!(!node.root().join(&late[1..]).exists());
    fs::write(node.root().join(&late[1..]), "").unwrap();
    eventually(|| fs::read_to_string(&file).is_ok_and(|text| text.contains(late))).await;
}

#[tokio::test]
async fn slices_without_a_cdi_specification_are_unhealthy_until_it_can_be_written() {
    let mut node = Node::new(1, "3g.20gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let folder = node.folder.path().join("cdi");
    fs::write(&folder, "in the way").unwrap();
    node.start(Config {
        device_list_strategies: vec![DeviceListStrategy::CdiCri],
        ..node.config(MigStrategy::Single)
    });
    let resource = kubelet.until_counts(GPU, 2, 0).await;
    let id = resource.devices.keys().next().unwrap();
    let error = kubelet.allocate(GPU, &[id]).await.unwrap_err();
    assert!(
        error.message().contains("CDI specification"),
        "{}",
        error.message()
    );
    let says = |status: &PluginStatus| status.error.as_ref().is_some_and(|e| e.contains("CDI"));
    node.until_status(says).await;

    fs::remove_file(&folder).unwrap();
    kubelet.until_counts(GPU, 2, 2).await;
    assert!(node.cdi_file().exists());
    node.until_status(PluginStatus::is_ready).await;
}

#[tokio::test]
async fn a_container_with_two_sizes_gets_the_nodes_of_both_and_no_others() {
    let mut node = Node::new(1, "3g.20gb,2g.10gb,1g.5gb*2");
    node.write(
        "usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04",
        &elf::library(elf::X86_64, "libcuda.so.1"),
    );
    make_devices(&node);
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(by_cdi(&node, MigStrategy::Mixed));
    let mut names = Vec::new();
    for (resource, count) in [("nvidia.com/mig-3g.20gb", 1), ("nvidia.com/mig-1g.5gb", 2)] {
        let devices = kubelet.until_counts(resource, count, count).await.devices;
        let id = devices.into_keys().next().unwrap();
        let answer = kubelet.allocate(resource, &[&id]).await.unwrap();
        assert!(answer.envs.is_empty(), "{answer:?}");
        names.extend(answer.cdi_devices.into_iter().map(|device| device.name));
    }

    let written = node.specification();
    // This version of the crate takes every type of device for a wrong one.
    let mut readable = written.clone();
    let devices = readable["devices"].as_array_mut().unwrap();
    let edits = devices
        .iter_mut()
        .map(|device| &mut device["containerEdits"]);
    let mut common = written["containerEdits"].clone();
    for edits in edits.chain([&mut common]) {
        for node in edits["deviceNodes"].as_array_mut().unwrap() {
            assert_eq!(
                node.as_object_mut().unwrap().remove("type"),
                Some(json!("c"))
            );
        }
    }
    readable["containerEdits"] = common;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(node.cdi_file().file_name().unwrap());
    fs::write(&file, readable.to_string()).unwrap();
    let read = read_spec(&file, 0).unwrap();
    assert_eq!(read.get_devices().len(), 4);
    let cache = new_cache(vec![
        with_spec_dirs(&[folder.path().to_str().unwrap()]),
        with_auto_refresh(false),
    ]);
    #[expect(
        clippy::default_trait_access,
        reason = "its type is of a crate that is not named here"
    )]
    let mut container = Default::default();
    cache
        .lock()
        .unwrap()
        .inject_devices(Some(&mut container), names.clone())
        .unwrap();

    let container = serde_json::to_value(&container).unwrap();
    let given: BTreeSet<_> = paths(&container["linux"], "devices", "path")
        .into_iter()
        .collect();
    let wanted = written["devices"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|device| {
            names
                .iter()
                .any(|name| name.ends_with(device["name"].as_str().unwrap()))
        });
    let wanted: BTreeSet<_> = wanted
        .flat_map(|device| paths(&device["containerEdits"], "deviceNodes", "path"))
        .chain(["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"])
        .collect();
    assert_eq!(given, wanted);
    let capabilities = given
        .iter()
        .filter(|path| path.contains("nvidia-cap"))
        .count();
    assert_eq!(capabilities, 4);
    let variables = container["process"]["env"].as_array().unwrap().iter();
    let of_nvidia = variables.filter(|variable| variable.as_str().unwrap().contains("NVIDIA"));
    assert_eq!(
        of_nvidia.collect::<Vec<_>>(),
        ["NVIDIA_VISIBLE_DEVICES=void"]
    );
    let mounted = paths(&container, "mounts", "destination");
    for library in ["libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1"] {
        for folder in ["/usr/lib/x86_64-linux-gnu", "/usr/lib64"] {
            let path = format!("{folder}/{library}");
            let times = mounted.iter().filter(|mounted| **mounted == path).count();
            assert_eq!(times, 1, "{path}");
        }
    }
}

#[tokio::test]
async fn annotations_name_what_the_specification_describes() {
    let mut node = Node::new(1, "3g.20gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(Config {
        device_list_strategies: vec![DeviceListStrategy::CdiAnnotations],
        ..node.config(MigStrategy::Single)
    });
    let devices = kubelet.until_counts(GPU, 2, 2).await.devices;
    let ids: Vec<&str> = devices.keys().map(String::as_str).collect();
    let mut keys = BTreeSet::new();
    for id in &ids {
        let answer = kubelet.allocate(GPU, &[id]).await.unwrap();
        let (key, value) = answer.annotations.into_iter().next().unwrap();
        assert_eq!(value, format!("k8s.device-plugin.nvidia.com/gpu={id}"));
        keys.insert(key);
    }
    assert_eq!(
        keys.len(),
        2,
        "the annotations of two containers would be one"
    );
    let spec = node.specification();
    let described: BTreeSet<_> = paths(&spec, "devices", "name").into_iter().collect();
    assert_eq!(described, ids.into_iter().collect());
}

#[tokio::test]
async fn a_slice_that_goes_leaves_the_specification_and_the_file_goes_with_the_last_one() {
    let mut node = Node::new(2, "3g.20gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(by_cdi(&node, MigStrategy::Mixed));
    kubelet.until_counts("nvidia.com/mig-3g.20gb", 4, 4).await;
    let before = node.specification();
    partition(&node.nvml, node.folder.path(), "7g.40gb");
    node.look();
    kubelet.until_counts("nvidia.com/mig-7g.40gb", 2, 2).await;
    let after = node.specification();
    let names = paths(&after, "devices", "name");
    assert_eq!(names.len(), 2);
    for gone in paths(&before, "devices", "name") {
        assert!(!names.contains(&gone), "{gone}");
    }

    let mut nothing = node.nvml.inventory().unwrap();
    nothing.gpus.clear();
    node.inventory.send_replace(nothing.into());
    kubelet.until_counts("nvidia.com/mig-7g.40gb", 0, 0).await;
    assert!(!node.cdi_file().exists());
}

#[tokio::test]
async fn what_a_killed_plugin_left_is_replaced_and_a_clean_end_leaves_nothing() {
    let mut node = Node::new(1, "3g.20gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    fs::create_dir_all(node.cdi_file().parent().unwrap()).unwrap();
    fs::write(
        node.cdi_file(),
        r#"{"devices": [{"name": "MIG-of-yesterday"}]}"#,
    )
    .unwrap();
    node.start(by_cdi(&node, MigStrategy::Single));
    kubelet.until_counts(GPU, 2, 2).await;
    assert_eq!(paths(&node.specification(), "devices", "name").len(), 2);
    node.stop().await;
    assert!(!node.cdi_file().exists());
}

#[tokio::test]
async fn a_gpu_whose_node_is_missing_takes_its_slices_and_leaves_the_others() {
    let mut node = Node::new(2, "1g.5gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    let (device, away) = (
        node.root().join("dev/nvidia1"),
        node.root().join("dev/away"),
    );
    fs::rename(&device, &away).unwrap();
    node.start(by_cdi(&node, MigStrategy::Single));
    kubelet.until_counts(GPU, 14, 7).await;
    assert_eq!(paths(&node.specification(), "devices", "name").len(), 7);
    let status = node.until_status(PluginStatus::is_ready).await;
    let reason = &status.resources.values().next().unwrap().unhealthy[0].reason;
    assert!(reason.contains(&device.display().to_string()), "{reason}");

    fs::rename(&away, &device).unwrap();
    kubelet.until_counts(GPU, 14, 14).await;
}

#[tokio::test]
async fn a_library_that_cannot_be_read_is_a_warning_and_the_slices_are_there() {
    let mut node = Node::new(1, "1g.5gb");
    node.write("usr/lib64/libnvidia-broken.so.580.159.04", b"cut short");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(by_cdi(&node, MigStrategy::Single));
    kubelet.until_counts(GPU, 7, 7).await;
    let status = node.until_status(PluginStatus::is_ready).await;
    let warned = |text: &String| text.contains("libnvidia-broken.so.580.159.04");
    assert!(status.warnings.iter().any(warned), "{:?}", status.warnings);
    assert!(
        !fs::read_to_string(node.cdi_file())
            .unwrap()
            .contains("libnvidia-broken")
    );
}

#[tokio::test]
async fn in_a_container_the_specification_has_the_paths_of_the_node() {
    let mut node = Node::new(1, "3g.20gb");
    let kubelet = Kubelet::start(&node.kubelet_dir());
    node.start(Config {
        host_root: node.folder.path().to_owned(),
        ..by_cdi(&node, MigStrategy::Single)
    });
    kubelet.until_counts(GPU, 2, 2).await;
    let spec = node.specification();
    let devices = spec["devices"].as_array().unwrap().iter();
    let all = devices
        .map(|device| &device["containerEdits"])
        .chain([&spec["containerEdits"]]);
    for edits in all {
        let mounts = edits
            .get("mounts")
            .map(|_| paths(edits, "mounts", "hostPath"));
        for path in paths(edits, "deviceNodes", "hostPath")
            .into_iter()
            .chain(mounts.into_iter().flatten())
        {
            let rest = path.strip_prefix("/root/").expect(path);
            assert!(node.root().join(rest).exists(), "{path}");
        }
    }
}
