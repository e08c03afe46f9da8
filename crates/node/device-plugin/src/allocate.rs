//! What a container needs in order to see the devices that it was given.

use kubelet_api::device_plugin::v1beta1::{
    CdiDevice, ContainerAllocateResponse, DeviceSpec, Mount,
};
use uuid::Uuid;

use crate::{AdvertisedDevice, Config, ControlNodes, DeviceListStrategy, Resource, cdi};

/// The variable by which NVIDIA's container runtime is told of devices.
const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";

/// The folder below which NVIDIA's container runtime looks for mounts that name devices.
const VOLUME_MOUNTS: &str = "/var/run/nvidia-container-devices";

/// Why devices cannot be given to a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// There is no such device, or no longer.
    #[error("{resource} has no device {id}: it was never there, or its GPU was partitioned anew")]
    Unknown {
        /// The resource asked for.
        resource: Resource,
        /// The device asked for.
        id: String,
    },
    /// The device is there, and must not be used.
    #[error("device {id} of {resource} is unhealthy: {reason}")]
    Unhealthy {
        /// The resource asked for.
        resource: Resource,
        /// The device asked for.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a container needs that was given these devices, by every configured way.
#[must_use]
pub fn allocate(
    devices: &[&AdvertisedDevice],
    config: &Config,
    control: &ControlNodes,
) -> ContainerAllocateResponse {
    let mut response = ContainerAllocateResponse::default();
    let ids: Vec<&str> = devices
        .iter()
        .map(|device| device.visible_id(config.device_id_strategy))
        .collect();

    if config.uses(DeviceListStrategy::Envvar) {
        response
            .envs
            .insert(VISIBLE_DEVICES.to_owned(), ids.join(","));
    }
    // After envvar: where both are wanted, the runtime has to look at the mounts.
    if config.uses(DeviceListStrategy::VolumeMounts) {
        response
            .envs
            .insert(VISIBLE_DEVICES.to_owned(), VOLUME_MOUNTS.to_owned());
        response.mounts.extend(ids.iter().map(|id| Mount {
            container_path: format!("{VOLUME_MOUNTS}/{id}"),
            host_path: "/dev/null".to_owned(),
            read_only: false,
        }));
    }
    let names = || ids.iter().map(|id| cdi::qualified_name(id));
    if config.uses(DeviceListStrategy::CdiAnnotations) {
        let key = annotation_key(&config.cdi_annotation_prefix, &ids);
        response
            .annotations
            .insert(key, names().collect::<Vec<_>>().join(","));
    }
    if config.uses(DeviceListStrategy::CdiCri) {
        response
            .cdi_devices
            .extend(names().map(|name| CdiDevice { name }));
    }
    if config.pass_device_specs {
        response.devices = device_specs(devices, control);
    }
    response
}

/// A key that no other container's devices have: it is made of the ids.
fn annotation_key(prefix: &str, ids: &[&str]) -> String {
    let unique = Uuid::new_v5(&Uuid::NAMESPACE_OID, ids.join(",").as_bytes());
    format!("{prefix}nvidia-device-plugin_{unique}")
}

fn device_specs(devices: &[&AdvertisedDevice], control: &ControlNodes) -> Vec<DeviceSpec> {
    let mut nodes: Vec<String> = control.paths().map(str::to_owned).collect();
    for node in devices
        .iter()
        .filter_map(|device| device.device_nodes())
        .flatten()
    {
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    nodes
        .into_iter()
        .map(|node| DeviceSpec {
            host_path: control.on_node(&node).to_string_lossy().into_owned(),
            container_path: node,
            permissions: "rw".to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{a100, fleet};
    use crate::{DeviceIdStrategy, Health, NodeFolder, Table, resources};
    use mig::MigStrategy;

    fn table(slices: u32) -> Table {
        let config = Config {
            mig_strategy: MigStrategy::Single,
            ..Config::default()
        };
        let fleet = fleet(vec![a100(0, slices), a100(1, slices)]);
        let advertised = resources(&fleet, &Health::default(), &config).unwrap();
        let (resource, devices) = advertised.resources.into_iter().next().unwrap();
        Table::new(resource, devices)
    }

    fn response(ids: &[&str], config: &Config) -> ContainerAllocateResponse {
        let table = table(7);
        let ids: Vec<_> = ids.iter().map(|&id| id.to_owned()).collect();
        allocate(
            &table.healthy(&ids).unwrap(),
            config,
            &ControlNodes::default(),
        )
    }

    fn by(strategies: &[DeviceListStrategy]) -> Config {
        Config {
            device_list_strategies: strategies.to_vec(),
            ..Config::default()
        }
    }

    #[test]
    fn envvar_names_the_devices_and_does_nothing_else() {
        let response = response(&["MIG-0-0", "MIG-1-3"], &Config::default());
        assert_eq!(response.envs["NVIDIA_VISIBLE_DEVICES"], "MIG-0-0,MIG-1-3");
        assert!(response.devices.is_empty() && response.mounts.is_empty());
        assert!(response.annotations.is_empty() && response.cdi_devices.is_empty());
    }

    #[test]
    fn by_index_a_slice_is_gpu_and_mig_device() {
        let config = Config {
            device_id_strategy: DeviceIdStrategy::Index,
            ..Config::default()
        };
        let response = response(&["MIG-1-3"], &config);
        assert_eq!(response.envs["NVIDIA_VISIBLE_DEVICES"], "1:3");
    }

    #[test]
    fn volume_mounts_name_the_devices_by_mounts_of_dev_null() {
        let response = response(&["MIG-0-0"], &by(&[DeviceListStrategy::VolumeMounts]));
        assert_eq!(
            response.envs["NVIDIA_VISIBLE_DEVICES"],
            "/var/run/nvidia-container-devices"
        );
        assert_eq!(response.mounts[0].host_path, "/dev/null");
        assert_eq!(
            response.mounts[0].container_path,
            "/var/run/nvidia-container-devices/MIG-0-0"
        );
    }

    #[test]
    fn cdi_names_are_given_by_annotation_or_by_the_kubelets_field() {
        let both = [
            DeviceListStrategy::CdiAnnotations,
            DeviceListStrategy::CdiCri,
        ];
        let response = response(&["MIG-0-0", "MIG-0-1"], &by(&both));
        assert!(response.envs.is_empty());
        let names: Vec<_> = response
            .cdi_devices
            .iter()
            .map(|cdi| cdi.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "k8s.device-plugin.nvidia.com/gpu=MIG-0-0",
                "k8s.device-plugin.nvidia.com/gpu=MIG-0-1"
            ]
        );
        let (key, value) = response.annotations.iter().next().unwrap();
        assert!(key.starts_with("cdi.k8s.io/nvidia-device-plugin_"), "{key}");
        let name = key.split_once('/').unwrap().1;
        assert!(
            name.len() <= 63,
            "an annotation's name has at most 63 characters: {name}"
        );
        assert_eq!(*value, names.join(","));
    }

    #[test]
    fn device_specs_are_the_gpus_node_and_both_capability_nodes_under_the_dev_root() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        for node in ["nvidiactl", "nvidia-uvm"] {
            std::fs::write(root.path().join("dev").join(node), "").unwrap();
        }
        let config = Config {
            pass_device_specs: true,
            ..Config::default()
        };
        let table = table(7);
        let devices = table
            .healthy(&["MIG-1-0".to_owned(), "MIG-1-1".to_owned()])
            .unwrap();
        let dev_root = NodeFolder {
            here: root.path().to_owned(),
            on_node: "/run/nvidia/driver".into(),
        };
        let response = allocate(&devices, &config, &ControlNodes::present(dev_root));
        let nodes: Vec<_> = response
            .devices
            .iter()
            .map(|d| d.container_path.as_str())
            .collect();
        assert_eq!(
            nodes,
            [
                "/dev/nvidiactl",
                "/dev/nvidia-uvm",
                "/dev/nvidia1",
                "/dev/nvidia-caps/nvidia-cap201",
                "/dev/nvidia-caps/nvidia-cap202",
                "/dev/nvidia-caps/nvidia-cap210",
                "/dev/nvidia-caps/nvidia-cap211",
            ]
        );
        for spec in &response.devices {
            assert_eq!(
                spec.host_path,
                format!("/run/nvidia/driver{}", spec.container_path)
            );
            assert_eq!(spec.permissions, "rw");
        }
    }

    #[test]
    fn a_whole_gpu_has_no_capability_nodes() {
        let config = Config {
            pass_device_specs: true,
            ..Config::default()
        };
        let table = table(0);
        let devices = table.healthy(&["GPU-1".to_owned()]).unwrap();
        let control = ControlNodes::present(NodeFolder {
            here: "/nowhere".into(),
            on_node: "/".into(),
        });
        let response = allocate(&devices, &config, &control);
        assert_eq!(response.devices.len(), 1);
        assert_eq!(response.devices[0].host_path, "/dev/nvidia1");
    }

    #[test]
    fn an_unknown_device_is_refused_by_name() {
        let error = table(7).healthy(&["MIG-9-9".to_owned()]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("nvidia.com/gpu has no device MIG-9-9"),
            "{error}"
        );
    }
}
