//! From what is on the node to what is advertised, under NVIDIA's three MIG strategies.

use std::collections::{BTreeMap, BTreeSet};

use kubelet_api::device_plugin::v1beta1::MAX_DEVICE_ID;
use mig::{MigStrategy, ResourceName};
use nvml::MigDeviceEntry;

use crate::device::{AdvertisedDevice, DeviceHealth, Slice};
use crate::fleet::{Fleet, KnownGpu};
use crate::{Config, Health, Renaming, Resource};

/// What to advertise, and what the administrator should know about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertisement {
    /// The devices of each resource, GPU by GPU in the order of their index.
    pub resources: BTreeMap<Resource, Vec<AdvertisedDevice>>,
    /// What is odd about the node and yet no error, one sentence each.
    pub warnings: Vec<String>,
}

/// Why a node cannot be advertised under strategy `single`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrategyError {
    /// Some GPUs are in MIG mode and some are not.
    #[error(
        "MIG strategy single needs all GPUs in the same MIG mode, but it is on for GPU {} and off for GPU {}; \
         use strategy mixed, or set all alike",
        list(mig),
        list(whole)
    )]
    MigAndWholeGpus {
        /// Indices of the GPUs in MIG mode.
        mig: Vec<u32>,
        /// Indices of the others.
        whole: Vec<u32>,
    },
    /// A GPU is in MIG mode and has no MIG device.
    #[error(
        "MIG strategy single needs MIG devices on every GPU in MIG mode, but GPU {} has none; create some, \
         or turn its MIG mode off",
        list(gpus)
    )]
    EmptyMigGpu {
        /// Indices of the empty GPUs.
        gpus: Vec<u32>,
    },
    /// There are MIG devices of several profiles.
    #[error(
        "MIG strategy single needs MIG devices of one profile, but there are {}; use strategy mixed, or one \
         profile for all GPUs", profiles.join(", ")
    )]
    SeveralProfiles {
        /// The profiles that there are.
        profiles: Vec<String>,
    },
}

fn list(indices: &[u32]) -> String {
    indices
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The devices of each resource under the configured strategy.
///
/// # Errors
/// Under strategy `single`, when the node's GPUs are not alike.
pub fn resources(
    fleet: &Fleet,
    health: &Health,
    config: &Config,
) -> Result<Advertisement, StrategyError> {
    if config.mig_strategy == MigStrategy::Single {
        check_single(&fleet.gpus())?;
    }
    Ok(unchecked(fleet, health, config))
}

/// The devices of each resource, whether or not the node keeps the strategy's rules.
pub(crate) fn unchecked(fleet: &Fleet, health: &Health, config: &Config) -> Advertisement {
    let mut advertisement = Advertisement::default();
    for known in fleet.gpus() {
        if config.mig_strategy == MigStrategy::None || !known.gpu.mig_enabled() {
            advertisement.add(gpu_resource(known, config), whole_gpu(known, health));
            continue;
        }
        if known.gpu.mig_devices().next().is_none() {
            advertisement.warnings.push(format!(
                "GPU {} ({}) is in MIG mode and has no MIG devices, so nothing of it is advertised",
                known.gpu.index, known.gpu.uuid
            ));
        }
        for entry in known.gpu.mig_devices() {
            let device = mig_device(known, entry, health, config);
            advertisement.add(mig_resource(entry, config), device);
        }
    }
    advertisement
}

impl Advertisement {
    fn add(&mut self, resource: Resource, device: AdvertisedDevice) {
        if device.id.len() > MAX_DEVICE_ID {
            self.warnings.push(format!(
                "{} is left out: the kubelet takes device ids of at most {MAX_DEVICE_ID} characters",
                device.id
            ));
            return;
        }
        self.resources.entry(resource).or_default().push(device);
    }
}

fn check_single(gpus: &[&KnownGpu]) -> Result<(), StrategyError> {
    let indices = |wanted: &dyn Fn(&KnownGpu) -> bool| -> Vec<u32> {
        gpus.iter()
            .filter(|known| wanted(known))
            .map(|known| known.gpu.index)
            .collect()
    };
    let mig = indices(&|known| known.gpu.mig_enabled());
    let whole = indices(&|known| !known.gpu.mig_enabled());
    if mig.is_empty() {
        return Ok(());
    }
    if !whole.is_empty() {
        return Err(StrategyError::MigAndWholeGpus { mig, whole });
    }
    let empty = indices(&|known| known.gpu.mig_devices().next().is_none());
    if !empty.is_empty() {
        return Err(StrategyError::EmptyMigGpu { gpus: empty });
    }
    let profiles: BTreeSet<_> = gpus
        .iter()
        .flat_map(|known| known.gpu.mig_devices())
        .map(|entry| entry.device.profile.to_string())
        .collect();
    if profiles.len() > 1 {
        return Err(StrategyError::SeveralProfiles {
            profiles: profiles.into_iter().collect(),
        });
    }
    Ok(())
}

fn gpu_resource(known: &KnownGpu, config: &Config) -> Resource {
    let renamed = Renaming::find(&config.gpu_names, &known.gpu.name);
    renamed
        .cloned()
        .unwrap_or_else(|| ResourceName::gpu().into())
}

fn mig_resource(entry: MigDeviceEntry<'_>, config: &Config) -> Resource {
    let profile = entry.device.profile;
    let renamed = Renaming::find(&config.mig_names, &profile.to_string());
    let own = || {
        config
            .mig_strategy
            .resource_name(profile)
            .unwrap_or_else(ResourceName::gpu)
    };
    renamed.cloned().unwrap_or_else(|| own().into())
}

fn whole_gpu(known: &KnownGpu, health: &Health) -> AdvertisedDevice {
    let gpu = &known.gpu;
    let device = AdvertisedDevice {
        id: gpu.uuid.to_string(),
        index: gpu.index.to_string(),
        gpu: gpu.uuid.clone(),
        gpu_index: gpu.index,
        minor: gpu.minor,
        slice: None,
        numa_node: known.numa_node,
        health: DeviceHealth::Healthy,
    };
    judged(device, known, health)
}

fn mig_device(
    known: &KnownGpu,
    entry: MigDeviceEntry<'_>,
    health: &Health,
    config: &Config,
) -> AdvertisedDevice {
    let slice = Slice {
        gpu_instance: entry.gpu_instance.id,
        compute_instance: entry.compute_instance.id,
        capability_minors: [
            entry.gpu_instance.capability_minor,
            entry.compute_instance.capability_minor,
        ],
    };
    let device = AdvertisedDevice {
        id: entry.device.uuid.to_string(),
        index: format!("{}:{}", known.gpu.index, entry.device.index),
        slice: Some(slice),
        ..whole_gpu(known, &Health::default())
    };
    let mut device = judged(device, known, health);
    // An Allocate that fails fails the pod for good, so what could not be allocated is not offered.
    if device.is_healthy() && config.needs_device_nodes() && device.device_nodes().is_none() {
        device.health = DeviceHealth::Unhealthy(
            "the driver does not list its capability device nodes in mig-minors".to_owned(),
        );
    }
    device
}

fn judged(device: AdvertisedDevice, known: &KnownGpu, health: &Health) -> AdvertisedDevice {
    let fault = || {
        health
            .fault(&device.location())
            .map(|fault| fault.to_string())
    };
    let health = match known.lost.clone().or_else(fault) {
        None => DeviceHealth::Healthy,
        Some(reason) => DeviceHealth::Unhealthy(reason),
    };
    AdvertisedDevice { health, ..device }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{a100, fleet, gpu, inventory};
    use crate::{Fault, Location};
    use nvml::{FailedGpu, Gpu};

    fn config(mig_strategy: MigStrategy) -> Config {
        Config {
            mig_strategy,
            ..Config::default()
        }
    }

    fn advertise(
        strategy: MigStrategy,
        gpus: Vec<Gpu>,
    ) -> Result<BTreeMap<String, usize>, StrategyError> {
        let advertised = resources(&fleet(gpus), &Health::default(), &config(strategy))?;
        Ok(counts(&advertised))
    }

    fn counts(advertised: &Advertisement) -> BTreeMap<String, usize> {
        let count = |(name, devices): (&Resource, &Vec<_>)| (name.to_string(), devices.len());
        advertised.resources.iter().map(count).collect()
    }

    fn expected<const N: usize>(counts: [(&str, usize); N]) -> BTreeMap<String, usize> {
        counts
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count))
            .collect()
    }

    #[test]
    fn strategy_none_shows_every_gpu_whole() {
        let advertised = advertise(MigStrategy::None, vec![a100(0, 7), a100(1, 0)]).unwrap();
        assert_eq!(advertised, expected([("nvidia.com/gpu", 2)]));
    }

    #[test]
    fn strategy_single_shows_slices_as_gpus() {
        let gpus = (0..8).map(|index| a100(index, 7)).collect();
        let advertised = advertise(MigStrategy::Single, gpus).unwrap();
        assert_eq!(advertised, expected([("nvidia.com/gpu", 56)]));
        let whole = advertise(MigStrategy::Single, vec![a100(0, 0), a100(1, 0)]).unwrap();
        assert_eq!(whole, expected([("nvidia.com/gpu", 2)]));
    }

    #[test]
    fn strategy_mixed_shows_slices_by_profile_and_whole_gpus_beside_them() {
        let gpus = vec![
            gpu(0, &["3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb+me"]),
            a100(1, 0),
        ];
        assert_eq!(
            advertise(MigStrategy::Mixed, gpus).unwrap(),
            expected([
                ("nvidia.com/gpu", 1),
                ("nvidia.com/mig-1g.5gb", 1),
                ("nvidia.com/mig-1g.5gb.me", 1),
                ("nvidia.com/mig-2g.10gb", 1),
                ("nvidia.com/mig-3g.20gb", 1),
            ])
        );
    }

    #[test]
    fn a_compute_instance_smaller_than_its_gpu_instance_is_a_resource_of_its_own() {
        let advertised = advertise(MigStrategy::Mixed, vec![gpu(0, &["1c.3g.20gb"])]).unwrap();
        assert_eq!(advertised, expected([("nvidia.com/mig-1c.3g.20gb", 1)]));
    }

    #[test]
    fn strategy_single_refuses_a_node_whose_gpus_are_not_alike() {
        let refused = |gpus| {
            advertise(MigStrategy::Single, gpus)
                .unwrap_err()
                .to_string()
        };
        let both = refused(vec![a100(0, 7), a100(1, 0)]);
        assert!(both.contains("on for GPU 0 and off for GPU 1"), "{both}");
        let empty = refused(vec![a100(0, 7), gpu(1, &[])]);
        assert!(empty.contains("GPU 1 has none"), "{empty}");
        let sizes = refused(vec![gpu(0, &["1g.5gb", "2g.10gb"])]);
        assert!(sizes.contains("1g.5gb, 2g.10gb"), "{sizes}");
        let attributes = refused(vec![gpu(0, &["1g.5gb", "1g.5gb+me"])]);
        assert!(attributes.contains("1g.5gb+me"), "{attributes}");
    }

    #[test]
    fn an_empty_mig_gpu_only_warns_under_strategy_mixed() {
        let fleet = fleet(vec![gpu(0, &[]), a100(1, 7)]);
        let advertised =
            resources(&fleet, &Health::default(), &config(MigStrategy::Mixed)).unwrap();
        assert_eq!(
            counts(&advertised),
            expected([("nvidia.com/mig-1g.5gb", 7)])
        );
        assert!(
            advertised.warnings[0].starts_with("GPU 0 (GPU-0)"),
            "{:?}",
            advertised.warnings
        );
    }

    #[test]
    fn a_lost_gpu_takes_its_own_slices_and_no_others() {
        let whole = inventory((0..8).map(|index| a100(index, 7)).collect());
        let mut broken = whole.clone();
        let lost = broken.gpus.remove(3);
        broken.failed.push(FailedGpu {
            index: 3,
            uuid: None,
            reason: "GPU is lost".to_owned(),
        });
        let mut fleet = Fleet::default();
        fleet.update(&whole, |_| None);
        fleet.update(&broken, |_| None);
        let advertised =
            resources(&fleet, &Health::default(), &config(MigStrategy::Single)).unwrap();
        let devices = advertised.resources.values().next().unwrap();
        assert_eq!(devices.len(), 56);
        assert_eq!(
            devices.iter().filter(|device| device.is_healthy()).count(),
            49
        );
        let unhealthy = devices.iter().filter(|device| !device.is_healthy());
        for device in unhealthy {
            assert_eq!(
                (&device.gpu, device.reason()),
                (&lost.uuid, Some("GPU is lost"))
            );
        }
    }

    #[test]
    fn a_fault_marks_the_slice_it_is_on() {
        let at = Location::slice("GPU-0".parse().unwrap(), 9, 0);
        let health = Health::from_iter([(at, Fault::Xid(48))]);
        let advertised = resources(
            &fleet(vec![a100(0, 7)]),
            &health,
            &config(MigStrategy::Single),
        )
        .unwrap();
        let unhealthy: Vec<_> = advertised
            .resources
            .values()
            .flatten()
            .filter_map(|device| Some((device.id.as_str(), device.reason()?)))
            .collect();
        assert_eq!(unhealthy, [("MIG-0-2", "XID 48")]);
    }

    #[test]
    fn a_slice_without_capability_nodes_is_offered_only_where_none_are_passed() {
        let mut a100 = a100(0, 1);
        a100.instances[0].capability_minor = None;
        for (pass_device_specs, healthy) in [(false, true), (true, false)] {
            let config = Config {
                pass_device_specs,
                ..config(MigStrategy::Mixed)
            };
            let advertised =
                resources(&fleet(vec![a100.clone()]), &Health::default(), &config).unwrap();
            assert_eq!(
                advertised.resources.values().next().unwrap()[0].is_healthy(),
                healthy
            );
        }
    }

    #[test]
    fn an_administrators_names_are_used() {
        let rule = |pattern: &str, name: &str| Renaming {
            pattern: pattern.to_owned(),
            name: name.parse().unwrap(),
        };
        let config = Config {
            gpu_names: vec![rule("*A100*", "a100")],
            mig_names: vec![rule("1g.*", "small")],
            ..config(MigStrategy::Mixed)
        };
        let fleet = fleet(vec![a100(0, 0), gpu(1, &["1g.5gb", "2g.10gb"])]);
        let advertised = resources(&fleet, &Health::default(), &config).unwrap();
        assert_eq!(
            counts(&advertised),
            expected([
                ("nvidia.com/a100", 1),
                ("nvidia.com/mig-2g.10gb", 1),
                ("nvidia.com/small", 1)
            ])
        );
    }
}
