//! A pod's folder: what its containers see of the machine.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kubelet_api::device_plugin::v1beta1::ContainerAllocateResponse;

use super::{Driver, PodTask};
use crate::pod::container::{ContainerFolder, ContainerSpec};
use crate::pod::manifest::Container;
use crate::pod::shim::CONTAINER_MARK;

impl<R> PodTask<R> {
    /// Makes the pod's folder. The containers' specs are its last files.
    pub(super) fn make(&self, responses: &[(usize, ContainerAllocateResponse)]) -> io::Result<()> {
        let logs = self.folder().join("logs");
        let work = self.folder().join("work");
        fs::create_dir_all(&logs)?;
        fs::create_dir_all(&work)?;
        for (index, container) in self.containers().iter().enumerate() {
            let own: Vec<&ContainerAllocateResponse> = responses
                .iter()
                .filter(|(at, _)| *at == index)
                .map(|(_, r)| r)
                .collect();
            let folder = self.container_folder(container);
            fs::create_dir_all(folder.path())?;
            let given = self.environment(&folder, container, &own, &work)?;
            let (command, environment) = container.expanded(&given);
            let working_dir = container
                .working_dir
                .as_ref()
                .map_or(work.clone(), PathBuf::from);
            folder.write_spec(&ContainerSpec {
                name: container.name.clone(),
                mark: self.mark(container),
                command,
                environment,
                working_dir,
                restart_policy: self.row.manifest.spec.restart_policy,
                grace_seconds: self.row.manifest.spec.termination_grace_period_seconds,
                log_file: logs.join(format!("{}.log", container.name)),
                status_file: self.status_file(container),
            })?;
        }
        Ok(())
    }

    /// What a container is given, before its own `env`.
    fn environment(
        &self,
        folder: &ContainerFolder,
        container: &Container,
        responses: &[&ContainerAllocateResponse],
        work: &Path,
    ) -> io::Result<BTreeMap<String, String>> {
        let mut given: BTreeMap<String, String> = BTreeMap::new();
        let path =
            std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
        let mut set = |name: &str, value: String| {
            given.entry(name.to_owned()).or_insert(value);
        };
        // The first of several answers wins, as with the kubelet.
        for (name, value) in responses.iter().flat_map(|response| &response.envs) {
            set(name, value.clone());
        }
        set("HOME", text(work)?);
        set("HOSTNAME", self.row.name.to_string());
        if self.driver == Driver::Machine {
            // No smaller root to show it: CUDA itself is told which devices are the pod's.
            let held = self
                .assignments
                .iter()
                .filter(|a| a.holder.container == container.name);
            let devices: Vec<String> = held.flat_map(|a| a.devices.clone()).collect();
            set("CUDA_VISIBLE_DEVICES", devices.join(","));
            set("PATH", path);
        } else {
            let root = folder.path().join("root");
            let files = responses.iter().flat_map(|response| &response.devices);
            let mut files: Vec<PathBuf> = files
                .map(|device| PathBuf::from(&device.container_path))
                .collect();
            files.sort();
            files.dedup();
            self.make_root(&root, &files)?;
            let library = root.join("usr/lib/x86_64-linux-gnu");
            set("NVIDIA_DRIVER_ROOT", text(&root)?);
            set("PATH", format!("{}:{path}", text(&root.join("usr/bin"))?));
            let library = match std::env::var("LD_LIBRARY_PATH") {
                Ok(others) if !others.is_empty() => format!("{}:{others}", text(&library)?),
                _ => text(&library)?,
            };
            set("LD_LIBRARY_PATH", library);
        }
        given.insert(CONTAINER_MARK.to_owned(), self.mark(container));
        Ok(given)
    }

    /// The driver as the container sees it: the node's, with no other devices than its own.
    fn make_root(&self, root: &Path, files: &[PathBuf]) -> io::Result<()> {
        fs::create_dir_all(root.join("usr/bin"))?;
        if let Driver::Simulated(node_root) = &self.driver {
            let node = nvml_sim::DriverRoot::open(node_root).map_err(io::Error::other)?;
            node.pod_view(root, files).map_err(io::Error::other)?;
        }
        let smi = root.join("usr/bin/nvidia-smi");
        match std::os::unix::fs::symlink(&self.settings.program, smi) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }
}

fn text(path: &Path) -> io::Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| io::Error::other(format!("path {} is not UTF-8", path.display())))
}
