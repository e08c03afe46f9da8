//! Where the commands that a person types find the driver, on a machine or in one of the charts' pods.

use std::path::{Path, PathBuf};

use agent::DriverSearch;

/// The folder that `NVIDIA_DRIVER_ROOT` (or a flag) means, as this process sees it: `auto` is the first of the usual
/// folders that has a driver that works, and where the node's `/` is mounted (`MIGPOOL_HOST_ROOT`), a folder of the node
/// is looked for there. So `kubectl exec POD -- migpool smi -L` needs nothing to be said.
pub(crate) fn seen_from_here(driver_root: &Path) -> PathBuf {
    let host_root = std::env::var_os("MIGPOOL_HOST_ROOT").filter(|root| !root.is_empty());
    let host_root = host_root.map_or_else(|| PathBuf::from("/"), PathBuf::from);
    below(&host_root, driver_root)
}

fn below(host_root: &Path, driver_root: &Path) -> PathBuf {
    if driver_root.is_relative() && driver_root != Path::new("auto") {
        return driver_root.to_owned();
    }
    // Somebody who looked around in the pod names the folder as it is there.
    if host_root != Path::new("/") && driver_root.starts_with(host_root) {
        return driver_root.to_owned();
    }
    let Ok(root) = driver_root.to_string_lossy().parse();
    let search = DriverSearch {
        host_root: host_root.to_owned(),
        root,
        mounted_at: None,
    };
    let folders = search.folders();
    let loaded = (folders.len() > 1).then(|| search.load().ok()).flatten();
    match loaded {
        Some(nvml) => nvml.driver_root().to_owned(),
        None => folders.into_iter().next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_node_is_below_where_its_root_is_mounted() {
        let seen = |host: &str, root: &str| below(Path::new(host), Path::new(root));
        assert_eq!(seen("/", "/"), Path::new("/"));
        assert_eq!(seen("/", "/opt/nvidia"), Path::new("/opt/nvidia"));
        assert_eq!(seen("/host", "/"), Path::new("/host"));
        assert_eq!(seen("/host", "/opt/nvidia"), Path::new("/host/opt/nvidia"));
    }

    #[test]
    fn a_folder_that_is_named_as_it_is_here_is_left_so() {
        let seen = |root: &str| below(Path::new("/host"), Path::new(root));
        assert_eq!(seen("/host/opt/nvidia"), Path::new("/host/opt/nvidia"));
        assert_eq!(seen("./root"), Path::new("./root"));
    }

    #[test]
    fn auto_is_the_folder_that_has_a_driver() {
        let host = tempfile::tempdir().unwrap();
        let root = host.path().join("run/nvidia/driver");
        std::fs::create_dir_all(root.parent().unwrap()).unwrap();
        let board = mig::board("A100-40GB").unwrap();
        nvml_sim::DriverRoot::create(&root, &[(board, 1)]).unwrap();
        assert_eq!(below(host.path(), Path::new("auto")), root);
    }
}
