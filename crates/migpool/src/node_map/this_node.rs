//! This machine's GPUs from its driver, and who holds them from its kubelet, put together. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kubelet_api::holdings::{Devices, Holding};
use nvml::{Gpu, GpuInstance, Inventory};
use pool::{Holder, NodeGpu, NodeSlice};
use serde::Serialize;

use super::{Words, draw_gpus};

/// What is seen of this node from itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ThisNode {
    /// Its name.
    pub(crate) node: String,
    /// The driver's version.
    pub(crate) driver_version: String,
    /// Its GPUs, and who holds them.
    pub(crate) gpus: Vec<NodeGpu>,
    /// What containers hold that has no place among the GPUs.
    pub(crate) astray: Vec<Astray>,
    /// Why it is not known who holds what; empty where it is known.
    pub(crate) kubelet_failure: String,
}

/// A device that a container holds, and that has no place of its own in the map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Astray {
    /// What the kubelet calls it.
    device: String,
    /// The resource that it was asked for as.
    resource: String,
    /// Who holds it.
    holder: Holder,
    /// What is odd about it.
    reason: Oddity,
}

/// Why a device has no place of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Oddity {
    /// The driver has no such device.
    Missing,
    /// Another container holds it, too.
    Shared,
}

/// What is held, by the device's UUID; what was found a place for is marked.
struct Held<'a> {
    devices: &'a Devices,
    by_uuid: BTreeMap<&'a str, (Vec<&'a Holding>, bool)>,
}

impl<'a> Held<'a> {
    fn of(devices: &'a Devices) -> Self {
        let mut by_uuid: BTreeMap<&str, (Vec<&Holding>, bool)> = BTreeMap::new();
        for holding in &devices.holdings {
            if let Some(uuid) = uuid_of(&holding.device) {
                by_uuid.entry(uuid).or_default().0.push(holding);
            }
        }
        Self { devices, by_uuid }
    }

    fn holder(&mut self, uuid: &str) -> Option<Holder> {
        let (holdings, placed) = self.by_uuid.get_mut(uuid)?;
        *placed = true;
        holdings.first().map(|holding| holder(holding))
    }

    /// Whether the kubelet can give it to a pod, or has; where it does not say, it can.
    fn is_offered(&self, uuid: &str) -> bool {
        let allocatable = self.devices.allocatable.as_ref();
        allocatable.is_none_or(|allocatable| {
            allocatable
                .iter()
                .any(|device| uuid_of(device) == Some(uuid))
        })
    }

    fn astray(&self) -> Vec<Astray> {
        let mut astray = Vec::new();
        for (holdings, placed) in self.by_uuid.values() {
            let (skipped, reason) = if *placed {
                (1, Oddity::Shared)
            } else {
                (0, Oddity::Missing)
            };
            astray.extend(holdings.iter().skip(skipped).map(|holding| Astray {
                device: holding.device.clone(),
                resource: holding.resource.clone(),
                holder: holder(holding),
                reason,
            }));
        }
        astray
    }
}

/// The UUID in a device's id, if it is a GPU's or a MIG device's. A replica's id is `<uuid>::<n>`.
fn uuid_of(device: &str) -> Option<&str> {
    let uuid = device.split("::").next().unwrap_or(device);
    (uuid.starts_with("GPU-") || uuid.starts_with("MIG-")).then_some(uuid)
}

fn holder(holding: &Holding) -> Holder {
    Holder {
        namespace: holding.namespace.clone(),
        pod: holding.pod.clone(),
        container: holding.container.clone(),
    }
}

fn node_gpu(gpu: &Gpu, held: &mut Held<'_>) -> NodeGpu {
    let uuid = gpu.uuid.to_string();
    let mut slices: Vec<NodeSlice> = Vec::new();
    for instance in &gpu.instances {
        slices.extend(node_slices(instance, held));
    }
    slices.sort_by_key(|slice| (slice.start, slice.compute_instance));
    let has_mig = gpu.mig.is_some();
    let mig_enabled = gpu.mig_enabled();
    NodeGpu {
        index: gpu.index,
        name: gpu.name.clone(),
        memory_mib: gpu.memory_mib,
        memory_units: if has_mig { gpu.board.memory_units } else { 0 },
        compute_slices: if has_mig { gpu.board.compute_slices } else { 0 },
        mig_enabled,
        // A GPU in MIG mode is not offered itself.
        healthy: mig_enabled || held.is_offered(&uuid),
        failure: String::new(),
        holder: held.holder(&uuid),
        uuid,
        slices,
    }
}

fn node_slices(instance: &GpuInstance, held: &mut Held<'_>) -> Vec<NodeSlice> {
    let slices = instance.compute_instances.iter().filter_map(|compute| {
        let device = compute.device.as_ref()?;
        let uuid = device.uuid.to_string();
        Some(NodeSlice {
            profile: device.profile.to_string(),
            gpu_instance: instance.id,
            compute_instance: compute.id,
            start: instance.placement.start(),
            size: instance.placement.size(),
            memory_mib: device.memory_mib,
            healthy: held.is_offered(&uuid),
            holder: held.holder(&uuid),
            uuid,
        })
    });
    slices.collect()
}

impl ThisNode {
    /// Puts together what the driver and the kubelet say.
    pub(crate) fn of(node: String, inventory: &Inventory, told: Result<Devices, String>) -> Self {
        let (devices, kubelet_failure) = match told {
            Ok(devices) => (devices, String::new()),
            Err(reason) => (Devices::default(), reason),
        };
        let mut held = Held::of(&devices);
        let mut gpus: Vec<NodeGpu> = inventory
            .gpus
            .iter()
            .map(|gpu| node_gpu(gpu, &mut held))
            .collect();
        gpus.extend(inventory.failed.iter().map(|failed| {
            let uuid = failed.uuid.as_ref().map(ToString::to_string);
            NodeGpu {
                index: failed.index,
                holder: uuid.as_ref().and_then(|uuid| held.holder(uuid)),
                uuid: uuid.unwrap_or_default(),
                name: String::new(),
                memory_mib: 0,
                memory_units: 0,
                compute_slices: 0,
                mig_enabled: false,
                healthy: false,
                failure: failed.reason.clone(),
                slices: Vec::new(),
            }
        }));
        gpus.sort_by_key(|gpu| gpu.index);
        Self {
            node,
            driver_version: inventory.driver_version.clone(),
            gpus,
            astray: held.astray(),
            kubelet_failure,
        }
    }

    /// The map, as a person reads it.
    pub(crate) fn draw(&self) -> String {
        let mut text = format!("{} (driver {})\n", self.node, self.driver_version);
        let words = if self.kubelet_failure.is_empty() {
            Words::OF_THE_KUBELET
        } else {
            Words::WITHOUT_KUBELET
        };
        draw_gpus(&mut text, &self.gpus, words);
        if !self.kubelet_failure.is_empty() {
            let _ = writeln!(
                text,
                "\nWho holds what is not known: {}",
                self.kubelet_failure
            );
        }
        if !self.astray.is_empty() {
            text.push('\n');
        }
        for astray in &self.astray {
            let Holder {
                namespace,
                pod,
                container,
            } = &astray.holder;
            let odd = match astray.reason {
                Oddity::Missing => "which the driver does not have (any more): delete the pod",
                Oddity::Shared => "which another container holds, too",
            };
            let _ = writeln!(
                text,
                "pod {namespace}/{pod}, container {container}: holds {} ({}), {odd}",
                astray.device, astray.resource
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nvml_sim::DriverRoot;

    use super::*;

    /// An A100 in MIG mode with two slices, and one without MIG.
    fn inventory() -> (tempfile::TempDir, Inventory) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let board = mig::board("A100-40GB").unwrap();
        DriverRoot::create(&root, &[(board, 2)]).unwrap();
        let layout = "0=3g.20gb*2;1=off".parse().unwrap();
        let nvml = nvml::Nvml::load(&root).unwrap();
        partition::Partitioner::new(nvml, folder.path().join("state"))
            .apply(&layout, partition::Options::default(), &[])
            .unwrap();
        let inventory = nvml::Nvml::load(&root).unwrap().inventory().unwrap();
        (folder, inventory)
    }

    fn holding(device: &str, pod: &str) -> Holding {
        Holding {
            resource: "nvidia.com/mig-3g.20gb".into(),
            device: device.into(),
            namespace: "ml".into(),
            pod: pod.into(),
            container: "main".into(),
        }
    }

    #[test]
    fn a_slice_names_its_pod_and_one_that_is_not_offered_is_not_free() {
        let (_folder, inventory) = inventory();
        let slices: Vec<_> = inventory
            .mig_devices()
            .map(|entry| entry.device.uuid.to_string())
            .collect();
        let devices = Devices {
            holdings: vec![holding(&slices[0], "train")],
            allocatable: Some(BTreeSet::from([
                slices[0].clone(),
                inventory.gpus[1].uuid.to_string(),
            ])),
        };
        let map = ThisNode::of("mignode".into(), &inventory, Ok(devices));
        let held: Vec<_> = map.gpus[0]
            .slices
            .iter()
            .map(|slice| (slice.healthy, slice.holder.as_ref().map(|h| h.pod.as_str())))
            .collect();
        assert!(
            held.contains(&(true, Some("train"))) && held.contains(&(false, None)),
            "{held:?}"
        );
        let text = map.draw();
        assert!(
            text.contains("ml/train") && text.contains("not offered"),
            "{text}"
        );
        assert!(text.contains("[whole GPU: free]"), "{text}");
        assert_eq!(map.astray, []);
    }

    #[test]
    fn what_the_kubelet_gave_and_the_driver_has_not_is_told_in_words() {
        let (_folder, inventory) = inventory();
        let slice = inventory
            .mig_devices()
            .next()
            .unwrap()
            .device
            .uuid
            .to_string();
        let devices = Devices {
            holdings: vec![
                holding("MIG-gone", "old"),
                holding(&format!("{slice}::0"), "first"),
                holding(&format!("{slice}::1"), "second"),
                holding("0000:41:00.0", "not-a-gpu"),
            ],
            allocatable: None,
        };
        let map = ThisNode::of("mignode".into(), &inventory, Ok(devices));
        let text = map.draw();
        assert!(
            text.contains("pod ml/old, container main: holds MIG-gone (nvidia.com/mig-3g.20gb), which the driver does not have"),
            "{text}"
        );
        assert!(
            text.contains("pod ml/second, container main: holds"),
            "{text}"
        );
        assert!(!text.contains("not-a-gpu"), "{text}");
        assert_eq!(map.astray.len(), 2);
    }

    #[test]
    fn without_the_kubelet_nothing_is_called_free() {
        let (_folder, inventory) = inventory();
        let map = ThisNode::of("mignode".into(), &inventory, Err("no socket".into()));
        let text = map.draw();
        assert!(!text.contains("free"), "{text}");
        assert!(
            text.contains("Who holds what is not known: no socket"),
            "{text}"
        );
        let value = serde_json::to_value(&map).unwrap();
        assert_eq!(value["kubeletFailure"], "no socket");
        assert_eq!(value["gpus"][0]["slices"].as_array().unwrap().len(), 2);
    }
}
