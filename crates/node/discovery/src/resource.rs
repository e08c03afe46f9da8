//! The labels of each resource: `gpu`, and `mig-<profile>` where slices are resources of their own.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use mig::MigProfile;
use nvml::{Gpu, Inventory, MigDevice, MigDeviceEntry};

use crate::labels::Labels;
use crate::value::{sanitise, with_suffix};

/// What every label begins with.
pub(crate) const PREFIX: &str = "nvidia.com/";

/// The resource of whole GPUs, and of slices under the single strategy.
const GPU: &str = "gpu";

/// The labels `gpu.*` of whole GPUs. They count all GPUs of the labelled model, whether cut up or
/// not; `replicas` is 0 where all of them are in MIG mode, for then none is handed out whole.
pub(crate) fn gpu(inventory: &Inventory, labels: &mut Labels) {
    let Some((gpu, count, whole)) = labelled(inventory) else {
        return;
    };
    let mut set = |name: &str, value: String| insert(labels, GPU, name, value);
    let (major, minor) = gpu.compute_capability;
    set("product", sanitise(&gpu.name));
    set("count", count.to_string());
    set("replicas", usize::from(whole).to_string());
    set("sharing-strategy", "none".to_owned());
    set("memory", gpu.memory_mib.to_string());
    set("family", family(gpu.compute_capability).to_owned());
    set("compute.major", major.to_string());
    set("compute.minor", minor.to_string());
}

/// The single strategy's labels over those of whole GPUs: slices are `gpu`.
pub(crate) fn single(inventory: &Inventory, labels: &mut Labels) {
    match Single::of(inventory) {
        Single::NoMig => {}
        Single::Slices { entry, count } => slices(GPU, entry, count, labels),
        Single::Invalid { gpu, .. } => {
            insert(
                labels,
                GPU,
                "product",
                with_suffix(&gpu.name, "MIG-INVALID"),
            );
            for name in ["count", "replicas", "memory"] {
                insert(labels, GPU, name, "0".to_owned());
            }
        }
    }
}

/// The mixed strategy's labels beside those of whole GPUs: each profile is `mig-<profile>`.
pub(crate) fn mixed(inventory: &Inventory, labels: &mut Labels) {
    let mut profiles: BTreeMap<MigProfile, (MigDeviceEntry<'_>, usize)> = BTreeMap::new();
    for entry in inventory.mig_devices() {
        profiles.entry(entry.device.profile).or_insert((entry, 0)).1 += 1;
    }
    for (profile, (entry, count)) in profiles {
        let name = profile.resource_name();
        slices(
            name.as_str().trim_start_matches(PREFIX),
            entry,
            count,
            labels,
        );
    }
}

/// What the single strategy makes of a node.
#[derive(Debug)]
pub(crate) enum Single<'a> {
    /// No GPU is in MIG mode: whole GPUs, as without a strategy.
    NoMig,
    /// All GPUs are cut into slices of one profile.
    Slices {
        /// One of them.
        entry: MigDeviceEntry<'a>,
        /// How many there are.
        count: usize,
    },
    /// Slices can't all be one resource.
    Invalid {
        /// The GPU that gives the product its name.
        gpu: &'a Gpu,
        /// Why not.
        reason: String,
    },
}

impl<'a> Single<'a> {
    /// Looks at a node's GPUs.
    pub(crate) fn of(inventory: &'a Inventory) -> Self {
        let mut enabled = inventory.gpus.iter().filter(|gpu| gpu.mig_enabled());
        let Some(first) = enabled.clone().next() else {
            return Self::NoMig;
        };
        let invalid = |reason: String| Self::Invalid { gpu: first, reason };
        if let Some(empty) = enabled.find(|gpu| gpu.mig_devices().next().is_none()) {
            return invalid(format!(
                "GPU {} is in MIG mode and has no MIG device",
                empty.index
            ));
        }
        if let Some(whole) = inventory.gpus.iter().find(|gpu| !gpu.mig_enabled()) {
            return invalid(format!(
                "GPU {} is in MIG mode and GPU {} is not",
                first.index, whole.index
            ));
        }
        let mut devices = inventory.mig_devices();
        let Some(entry) = devices.next() else {
            return Self::NoMig;
        };
        let profile = entry.device.profile;
        let mut count = 1;
        for other in devices {
            if other.device.profile != profile {
                let other = other.device.profile;
                return invalid(format!("there are MIG devices of {profile} and of {other}"));
            }
            count += 1;
        }
        Self::Slices { entry, count }
    }
}

/// The names of the GPU models, the labelled one first.
pub(crate) fn models(inventory: &Inventory) -> Vec<String> {
    let Some((labelled, ..)) = labelled(inventory) else {
        return Vec::new();
    };
    let mut names = vec![labelled.name.clone()];
    for gpu in &inventory.gpus {
        if !names.contains(&gpu.name) {
            names.push(gpu.name.clone());
        }
    }
    names
}

/// The GPU that the labels `gpu.*` speak of, how many there are of its model, and whether any of
/// those is whole. A node has one value for each label, so of several models one with whole GPUs goes
/// first, then the most numerous, then the one with the lowest index.
fn labelled(inventory: &Inventory) -> Option<(&Gpu, usize, bool)> {
    let ranked = inventory.gpus.iter().map(|gpu| {
        let same = || inventory.gpus.iter().filter(|other| other.name == gpu.name);
        (
            gpu,
            same().count(),
            same().any(|other| !other.mig_enabled()),
        )
    });
    ranked.min_by_key(|(gpu, count, whole)| (!whole, Reverse(*count), gpu.index))
}

/// The labels of slices as a resource.
fn slices(resource: &str, entry: MigDeviceEntry<'_>, count: usize, labels: &mut Labels) {
    let mut set = |name: &str, value: String| insert(labels, resource, name, value);
    let MigDevice {
        profile,
        memory_mib,
        multiprocessors,
        copy_engines,
        decoders,
        encoders,
        jpeg,
        ofa,
        gpu_instance_slices,
        compute_instance_slices,
        index: _,
        uuid: _,
    } = entry.device;
    set(
        "product",
        with_suffix(&entry.gpu.name, &format!("MIG-{profile}")),
    );
    set("count", count.to_string());
    set("replicas", "1".to_owned());
    set("sharing-strategy", "none".to_owned());
    set("memory", memory_mib.to_string());
    set("multiprocessors", multiprocessors.to_string());
    set("slices.gi", gpu_instance_slices.to_string());
    set("slices.ci", compute_instance_slices.to_string());
    set("engines.copy", copy_engines.to_string());
    set("engines.decoder", decoders.to_string());
    set("engines.encoder", encoders.to_string());
    set("engines.jpeg", jpeg.to_string());
    set("engines.ofa", ofa.to_string());
}

fn insert(labels: &mut Labels, resource: &str, name: &str, value: String) {
    labels.insert(format!("{PREFIX}{resource}.{name}"), value);
}

/// The name of the architecture of a CUDA compute capability, for the label `gpu.family`.
fn family(capability: (u8, u8)) -> &'static str {
    match capability {
        (7, 0..=4) => "volta",
        (7, _) => "turing",
        (8, 9) => "ada-lovelace",
        (8, _) => "ampere",
        (9, _) => "hopper",
        (10 | 12, _) => "blackwell",
        (13, _) => "rubin",
        _ => "undefined",
    }
}
