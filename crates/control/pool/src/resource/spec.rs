//! How a node pool's spec is read where it is kept.

use std::collections::BTreeMap;

use mig::{GpuInstanceProfile, MigStrategy, NodeLayout};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{AutoScaling, Machines, NodePoolSpec, PoolMode};
use crate::node::Taint;
use crate::power::PowerState;
use crate::rollout::{Drain, MaxUnavailable};

/// A spec with the machines' fields beside the others. Read as a flattened enum, they would cost a copy of all fields first.
#[derive(Deserialize)]
#[serde(rename = "NodePoolSpec")]
pub(super) struct Kept {
    vm_size: Option<String>,
    node_selector: Option<BTreeMap<String, String>>,
    count: u32,
    #[serde(default)]
    gpu_instance_profile: Option<GpuInstanceProfile>,
    mig_strategy: MigStrategy,
    #[serde(default)]
    layouts: Option<NodeLayout>,
    #[serde(default)]
    max_unavailable: MaxUnavailable,
    #[serde(default)]
    drain: Drain,
    mode: PoolMode,
    #[serde(default)]
    power: PowerState,
    #[serde(default)]
    auto_scaling: Option<AutoScaling>,
    #[serde(default)]
    mig_profiles: Vec<GpuInstanceProfile>,
    #[serde(default)]
    node_labels: BTreeMap<String, String>,
    #[serde(default)]
    node_taints: Vec<Taint>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    extra: Map<String, Value>,
}

/// What is kept is no spec.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeptError {
    /// It chooses no machines.
    #[error("neither vm_size nor node_selector is there")]
    NoMachines,
    /// It chooses machines in two ways.
    #[error("vm_size and node_selector are both there")]
    TwoKindsOfMachines,
}

impl TryFrom<Kept> for NodePoolSpec {
    type Error = KeptError;

    fn try_from(kept: Kept) -> Result<Self, KeptError> {
        let machines = match (kept.vm_size, kept.node_selector) {
            (Some(name), None) => Machines::VmSize(name),
            (None, Some(labels)) => Machines::NodeSelector(labels),
            (None, None) => return Err(KeptError::NoMachines),
            (Some(_), Some(_)) => return Err(KeptError::TwoKindsOfMachines),
        };
        Ok(Self {
            machines,
            count: kept.count,
            gpu_instance_profile: kept.gpu_instance_profile,
            mig_strategy: kept.mig_strategy,
            layouts: kept.layouts,
            max_unavailable: kept.max_unavailable,
            drain: kept.drain,
            mode: kept.mode,
            power: kept.power,
            auto_scaling: kept.auto_scaling,
            mig_profiles: kept.mig_profiles,
            node_labels: kept.node_labels,
            node_taints: kept.node_taints,
            tags: kept.tags,
            extra: kept.extra,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kept: Value) -> Result<NodePoolSpec, String> {
        serde_json::from_value(kept).map_err(|error| error.to_string())
    }

    #[test]
    fn a_spec_reads_as_it_was_written() {
        let all = json!({
            "count": 3, "vm_size": "Standard_ND96asr_v4", "gpu_instance_profile": "MIG1g", "mig_strategy": "mixed",
            "layouts": null, "max_unavailable": "10%", "drain": "evict", "mode": "User", "power": "Stopped",
            "auto_scaling": {"min_count": 1, "max_count": 5}, "mig_profiles": ["MIG1g"], "node_labels": {"a": "b"},
            "node_taints": ["sku=gpu:NoSchedule"], "tags": {"c": "d"}, "extra": {"osType": "Linux"},
        });
        let spec = read(all.clone()).unwrap();
        assert_eq!(
            spec.machines,
            Machines::VmSize("Standard_ND96asr_v4".to_owned())
        );
        assert_eq!(serde_json::to_value(&spec).unwrap(), all);

        let by_label = json!({
            "count": 3, "node_selector": {"rack": "7"}, "mig_strategy": "single", "mode": "System", "of_later": 1,
        });
        let spec = read(by_label).unwrap();
        let written = serde_json::to_value(&spec).unwrap();
        assert_eq!(written["node_selector"], json!({"rack": "7"}));
        assert_eq!(read(written).unwrap(), spec);
    }

    #[test]
    fn a_spec_chooses_its_machines_in_one_way() {
        let kept = |more: Value| {
            let mut kept = json!({"count": 1, "mig_strategy": "single", "mode": "User"});
            if let (Value::Object(kept), Value::Object(more)) = (&mut kept, more) {
                kept.extend(more);
            }
            read(kept).unwrap_err()
        };
        assert_eq!(kept(json!({})), KeptError::NoMachines.to_string());
        let both = kept(json!({"vm_size": "", "node_selector": {}}));
        assert_eq!(both, KeptError::TwoKindsOfMachines.to_string());
    }
}
