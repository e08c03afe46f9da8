//! What a cluster is to be like, and the addresses that follow from it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroups;

/// The control plane's address on the nodes' network; also every node's way out.
pub(crate) const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
/// The `kubernetes` service: an address of the control plane itself, so nobody needs to translate it.
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Where services' addresses are from.
pub(crate) const SERVICES: &str = "10.96.0.0/16";

/// How long a cluster lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// Until [`Cluster::stop`](crate::Cluster::stop), from whatever process.
    UntilStopped,
    /// No longer than the process that started it: when that is killed, the cluster ends, and the next start sweeps
    /// up its folder.
    WithOwner,
}

/// A cluster to be started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// Where it keeps everything, its logs among it. Made by the start, deleted by the stop. On a file system that
    /// carries overlay mounts (ext4, xfs, btrfs, not another overlay).
    pub state_dir: PathBuf,
    /// The nodes' names.
    pub nodes: Vec<String>,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// Image archives that every node has from the start. One of them has to be `migpool-test/pause:1`.
    pub images: Vec<PathBuf>,
    /// Write down every request of a pod's service account, for [`Cluster::audit_log`](crate::Cluster::audit_log).
    #[serde(default)]
    pub audit: bool,
}

impl Config {
    /// The three nodes `mignode`, `cpunode` and `h100node`, with all images of the folder `target/images`, in a state
    /// folder of that name in the target folder.
    #[must_use]
    pub fn new(name: &str, lifetime: Lifetime) -> Self {
        let target = target_dir();
        Self {
            state_dir: target.join(name),
            nodes: ["mignode", "cpunode", "h100node"].map(str::to_owned).into(),
            lifetime,
            images: archives(&target.join("images")),
            audit: false,
        }
    }
}

impl Config {
    /// The name of its corner in every cgroup hierarchy.
    #[must_use]
    pub fn cgroup(&self) -> String {
        let dir = self.state_dir.canonicalize();
        cgroups::name(dir.as_deref().unwrap_or(&self.state_dir))
    }
}

/// The folder that cargo builds into.
fn target_dir() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().unwrap_or(root);
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// The image archives of a folder, by name.
#[must_use]
pub fn archives(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut archives: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tar"))
        .collect();
    archives.sort();
    archives
}

/// A node's place in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u8);

impl Place {
    /// The places of a cluster's nodes, in their order. There are more than two hundred.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (1..=200).map(Self)
    }

    /// The node's address.
    pub(crate) fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 89, 0, 10 + self.0)
    }

    /// Where its pods' addresses are from.
    pub(crate) fn pods(self) -> String {
        format!("10.244.{}.0/24", self.0)
    }

    /// The control plane's end of the cable to it.
    pub(crate) fn cable(self) -> String {
        format!("node{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_node_has_addresses_of_its_own() {
        let places: Vec<_> = Place::all().collect();
        let addresses: BTreeSet<_> = places.iter().map(|place| place.address()).collect();
        let pods: BTreeSet<_> = places.iter().map(|place| place.pods()).collect();
        assert_eq!((addresses.len(), pods.len()), (places.len(), places.len()));
        assert!(!addresses.contains(&CONTROL_PLANE));
    }

    #[test]
    fn only_archives_are_taken_for_images() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.tar", "a.tar", "a.tar.part", "notes"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(
            archives(folder.path()),
            ["a.tar", "b.tar"].map(|name| folder.path().join(name))
        );
    }
}
