//! The agent's figures in Prometheus' text format.

use std::collections::BTreeMap;

use device_plugin::Fault;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::Status;

type Labels = Vec<(&'static str, String)>;

/// The `Content-Type` of [`text`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The figures that a status has in it. Built for each request: it is small, and so never out of date.
pub(crate) fn text(status: &Status) -> Result<String, std::fmt::Error> {
    let mut figures = Figures(Registry::with_prefix("migpool"));
    let agent = figures.add("agent_ready", "1 when the node is what it was asked to be");
    set(
        &agent,
        &vec![("phase", status.phase.as_str().to_owned())],
        usize::from(status.ready),
    );
    figures.gpus(status);
    figures.devices(status);
    figures.partition(status);
    let mut text = String::new();
    encode(&mut text, &figures.0)?;
    Ok(text)
}

struct Figures(Registry);

impl Figures {
    fn add(&mut self, name: &str, help: &str) -> Family<Labels, Gauge> {
        let family = Family::default();
        self.0.register(name, help, family.clone());
        family
    }

    /// What there is, and what is wrong with it.
    fn gpus(&mut self, status: &Status) {
        let gpus = self.add("gpus", "GPUs that answer and that do not");
        let mig = self.add("mig_devices", "MIG devices by GPU and profile");
        if let Some(inventory) = &status.inventory {
            let state = |state: &str| vec![("state", state.to_owned())];
            set(&gpus, &state("answering"), inventory.gpus.len());
            set(&gpus, &state("failed"), inventory.failed.len());
            for entry in inventory.mig_devices() {
                let labels = vec![
                    ("gpu", entry.gpu.uuid.to_string()),
                    ("profile", entry.device.profile.to_string()),
                ];
                mig.get_or_create(&labels).inc();
            }
        }
        let slices = self.add(
            "slices",
            "MIG devices by profile and by what can be had of them",
        );
        for ((profile, state), count) in slices_by_state(status) {
            let labels = vec![("profile", profile), ("state", state.to_owned())];
            set(&slices, &labels, count);
        }
        let faults = self.add("faults", "Faults that are not over, by GPU");
        for fault in &status.faults {
            let labels = vec![("gpu", fault.gpu.clone()), ("fault", fault.fault.clone())];
            faults.get_or_create(&labels).inc();
        }
    }

    /// What the kubelet is told.
    fn devices(&mut self, status: &Status) {
        let devices = self.add(
            "devices",
            "Devices advertised to the kubelet by resource and health",
        );
        let registered = self.add(
            "resource_registered",
            "1 when the kubelet has taken the resource",
        );
        let Some(plugin) = &status.plugin else { return };
        for (resource, status) in &plugin.resources {
            let labels = |health: &str| {
                vec![
                    ("resource", resource.to_string()),
                    ("health", health.to_owned()),
                ]
            };
            set(&devices, &labels("healthy"), status.healthy());
            set(&devices, &labels("unhealthy"), status.unhealthy.len());
            let is = status.registration == device_plugin::Registration::Registered;
            set(
                &registered,
                &vec![("resource", resource.to_string())],
                usize::from(is),
            );
        }
    }

    /// The layout, and what it takes to get there.
    fn partition(&mut self, status: &Status) {
        let done = self.add(
            "partition_done",
            "1 when the GPUs were brought to the wanted layout",
        );
        let drains = self.add(
            "drains",
            "How often a layout had to wait for those who used what had to go, since the agent started",
        );
        let blockers = self.add("drain_blockers", "Who uses what has to go, by kind");
        let evictions = self.add(
            "evictions",
            "Pods that are being evicted, by how that stands",
        );
        let Some(partition) = &status.partition else {
            return;
        };
        if !partition.layout.is_empty() {
            let labels = vec![("layout", partition.layout.clone())];
            set(&done, &labels, usize::from(partition.done));
        }
        let count = usize::try_from(partition.drains).unwrap_or(usize::MAX);
        set(&drains, &Vec::new(), count);
        let pods = partition
            .blockers
            .iter()
            .filter(|it| it.pod.is_some())
            .count();
        let kind = |kind: &str| vec![("kind", kind.to_owned())];
        set(&blockers, &kind("pod"), pods);
        set(&blockers, &kind("process"), partition.blockers.len() - pods);
        for eviction in &status.evictions {
            let labels = vec![("state", eviction.state.as_str().to_owned())];
            evictions.get_or_create(&labels).inc();
        }
    }
}

/// How many slices of each profile can be given away, are held back, or cannot be used.
fn slices_by_state(status: &Status) -> BTreeMap<(String, &'static str), usize> {
    let mut slices = BTreeMap::new();
    let Some(inventory) = &status.inventory else {
        return slices;
    };
    let unhealthy: BTreeMap<&str, &str> = status
        .plugin
        .iter()
        .flat_map(|plugin| plugin.resources.values())
        .flat_map(|resource| &resource.unhealthy)
        .map(|device| (device.id.as_str(), device.reason.as_str()))
        .collect();
    let held = Fault::HeldBack.to_string();
    for entry in inventory.mig_devices() {
        let state = match unhealthy.get(entry.device.uuid.as_str()) {
            None => "healthy",
            Some(reason) if *reason == held => "held-back",
            Some(_) => "unhealthy",
        };
        let of = (entry.device.profile.to_string(), state);
        *slices.entry(of).or_default() += 1;
    }
    slices
}

fn set(family: &Family<Labels, Gauge>, labels: &Labels, value: usize) {
    family
        .get_or_create(labels)
        .set(i64::try_from(value).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FaultStatus, Phase};
    use device_plugin::{PluginStatus, Registration, Resource, ResourceStatus, UnhealthyDevice};

    #[test]
    fn devices_faults_and_readiness_are_counted() {
        let resource: Resource = "gpu".parse().unwrap();
        let unhealthy = UnhealthyDevice {
            id: "MIG-1".to_owned(),
            reason: "XID 48".to_owned(),
        };
        let devices = ResourceStatus {
            devices: 56,
            unhealthy: vec![unhealthy],
            registration: Registration::Registered,
        };
        let status = Status {
            phase: Phase::Degraded,
            ready: true,
            plugin: Some(PluginStatus {
                resources: [(resource, devices)].into(),
                ..PluginStatus::default()
            }),
            faults: vec![FaultStatus {
                gpu: "GPU-1".to_owned(),
                gpu_instance: Some(7),
                compute_instance: Some(0),
                fault: "XID 48".to_owned(),
                meaning: None,
            }],
            ..Status::default()
        };
        let text = text(&status).unwrap();
        for line in [
            r#"migpool_agent_ready{phase="degraded"} 1"#,
            r#"migpool_devices{resource="nvidia.com/gpu",health="healthy"} 55"#,
            r#"migpool_devices{resource="nvidia.com/gpu",health="unhealthy"} 1"#,
            r#"migpool_resource_registered{resource="nvidia.com/gpu"} 1"#,
            r#"migpool_faults{gpu="GPU-1",fault="XID 48"} 1"#,
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
