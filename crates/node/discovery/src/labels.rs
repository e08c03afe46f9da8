//! All labels of a node.

use std::collections::BTreeMap;

use mig::MigStrategy;
use nvml::Inventory;

use crate::mode::GpuMode;
use crate::resource::{self, Single};
use crate::value::sanitise;

/// Labels by their full names, `nvidia.com/gpu.count`. Every value is a valid label value.
pub type Labels = BTreeMap<String, String>;

/// What the labels depend on besides the GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How MIG devices are advertised on this node.
    pub mig_strategy: MigStrategy,
    /// The machine's type, from [`machine_type`](crate::machine_type).
    pub machine_type: String,
    /// The time for the label `gfd.timestamp`, in seconds since 1970; none leaves the label out.
    pub timestamp: Option<u64>,
    /// The GPUs' mode, from [`GpuMode::detect`].
    pub mode: GpuMode,
}

/// The labels of a node. One without a GPU that can be read has the timestamp alone.
#[must_use]
pub fn labels(inventory: &Inventory, options: &Options) -> Labels {
    let mut labels = Labels::new();
    let mut set = |name: &str, value: String| {
        labels.insert(format!("{}{name}", resource::PREFIX), value);
    };
    if let Some(timestamp) = options.timestamp {
        set("gfd.timestamp", timestamp.to_string());
    }
    if inventory.gpus.is_empty() {
        return labels;
    }
    set("gpu.machine", sanitise(&options.machine_type));
    set("gpu.mode", options.mode.to_string());
    let mig_capable = inventory.gpus.iter().any(|gpu| gpu.mig.is_some());
    set("mig.capable", mig_capable.to_string());
    set("mps.capable", false.to_string());
    for (name, value) in versions(inventory) {
        set(name, value);
    }
    if options.mig_strategy != MigStrategy::None {
        set("mig.strategy", options.mig_strategy.to_string());
    }

    resource::gpu(inventory, &mut labels);
    match options.mig_strategy {
        MigStrategy::None => {}
        MigStrategy::Single => resource::single(inventory, &mut labels),
        MigStrategy::Mixed => resource::mixed(inventory, &mut labels),
    }
    labels
}

/// What is odd about a node's GPUs, in sentences for a log: GPUs that can't be read, GPUs of several
/// models, a single strategy that can't hold.
#[must_use]
pub fn warnings(inventory: &Inventory, options: &Options) -> Vec<String> {
    let mut warnings: Vec<String> = inventory
        .failed
        .iter()
        .map(|failed| {
            format!(
                "GPU {} is not in the labels: {}",
                failed.index, failed.reason
            )
        })
        .collect();
    let models = resource::models(inventory);
    if let [labelled, others @ ..] = models.as_slice()
        && !others.is_empty()
    {
        warnings.push(format!(
            "this node has GPUs of several models, and its labels speak of {labelled} alone, not \
             of {}",
            others.join(", ")
        ));
    }
    if options.mig_strategy == MigStrategy::Single
        && let Single::Invalid { reason, .. } = Single::of(inventory)
    {
        warnings.push(format!("MIG strategy single is not possible: {reason}"));
    }
    warnings
}

/// The versions of the driver and of CUDA, under their names and their former names.
fn versions(inventory: &Inventory) -> Vec<(&'static str, String)> {
    let driver = &inventory.driver_version;
    let mut parts = driver.splitn(3, '.').map(sanitise);
    let (major, minor, revision) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let cuda = inventory.cuda_version;
    vec![
        ("cuda.driver-version.full", sanitise(driver)),
        ("cuda.driver-version.major", major.clone()),
        ("cuda.driver-version.minor", minor.clone()),
        ("cuda.driver-version.revision", revision.clone()),
        ("cuda.runtime-version.full", cuda.to_string()),
        ("cuda.runtime-version.major", cuda.major.to_string()),
        ("cuda.runtime-version.minor", cuda.minor.to_string()),
        ("cuda.driver.major", major),
        ("cuda.driver.minor", minor),
        ("cuda.driver.rev", revision),
        ("cuda.runtime.major", cuda.major.to_string()),
        ("cuda.runtime.minor", cuda.minor.to_string()),
    ]
}
