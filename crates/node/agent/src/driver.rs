//! Where the driver is looked for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nvml::Nvml;

/// Where drivers lie on nodes: the node's own, that of NVIDIA's driver containers, and that of Google's.
const WELL_KNOWN: [&str; 3] = ["/", "/run/nvidia/driver", "/home/kubernetes/bin/nvidia"];

/// The driver root, a folder of the node (`NVIDIA_DRIVER_ROOT`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverRoot {
    /// The first of the folders where drivers usually lie that has a driver.
    Auto,
    /// This folder.
    Folder(PathBuf),
}

impl FromStr for DriverRoot {
    type Err = std::convert::Infallible;

    /// `auto`, or a folder.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            folder => Self::Folder(folder.into()),
        })
    }
}

/// Where the driver is looked for, each time anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverSearch {
    /// Where this process sees the node's `/`.
    pub host_root: PathBuf,
    /// The driver root on the node.
    pub root: DriverRoot,
    /// Where this process sees the driver root, if that is mounted at a place of its own.
    pub mounted_at: Option<PathBuf>,
}

impl Default for DriverSearch {
    /// The system's own driver.
    fn default() -> Self {
        Self::at("/")
    }
}

/// Why there is no driver to work with.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// There is none.
    #[error(
        "no NVIDIA driver found: no libnvidia-ml.so.1 under {}; install the NVIDIA driver, or name its folder with \
         --nvidia-driver-root",
        either(searched)
    )]
    Missing {
        /// The folders that were searched.
        searched: Vec<PathBuf>,
    },
    /// There is one, and it does not work.
    #[error(transparent)]
    Driver(#[from] nvml::Error),
}

fn either(folders: &[PathBuf]) -> String {
    let mut names: Vec<_> = folders
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    match names.pop() {
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} or {last}", names.join(", ")),
        None => "any folder".to_owned(),
    }
}

impl DriverError {
    /// True when there is no driver at all: a node without GPUs looks like this.
    #[must_use]
    pub fn is_no_driver(&self) -> bool {
        match self {
            Self::Missing { .. } => true,
            Self::Driver(error) => error.is_no_driver(),
        }
    }
}

impl DriverSearch {
    /// In one folder, which this process sees where it is.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            host_root: PathBuf::from("/"),
            root: DriverRoot::Folder(folder.into()),
            mounted_at: None,
        }
    }

    /// The folders to search in this order, as this process sees them.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        if let Some(mounted_at) = &self.mounted_at {
            return vec![mounted_at.clone()];
        }
        match &self.root {
            DriverRoot::Folder(folder) => vec![self.seen_from_here(folder)],
            DriverRoot::Auto => WELL_KNOWN
                .iter()
                .map(|folder| self.seen_from_here(Path::new(folder)))
                .collect(),
        }
    }

    fn seen_from_here(&self, on_node: &Path) -> PathBuf {
        let below = on_node.strip_prefix("/").unwrap_or(on_node);
        if below.as_os_str().is_empty() {
            self.host_root.clone()
        } else {
            self.host_root.join(below)
        }
    }

    /// Loads the first driver that works. One that is there and does not work is passed over for one that does: a
    /// library may be left over on the node while the driver runs in a container.
    ///
    /// # Errors
    /// When none works; then the first that is there says why.
    pub fn load(&self) -> Result<Nvml, DriverError> {
        let searched = self.folders();
        let mut broken = None;
        for folder in &searched {
            match Nvml::load(folder) {
                Ok(nvml) => return Ok(nvml),
                Err(nvml::Error::LibraryNotFound { .. }) => {}
                Err(error) => {
                    tracing::debug!(folder = %folder.display(), %error, "a driver that does not work");
                    broken.get_or_insert(error);
                }
            }
        }
        Err(match broken {
            Some(error) => error.into(),
            None => DriverError::Missing { searched },
        })
    }
}

impl fmt::Display for DriverSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&either(&self.folders()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_looks_at_the_usual_folders_of_the_node() {
        let search = DriverSearch {
            host_root: "/host".into(),
            root: "auto".parse().unwrap(),
            mounted_at: None,
        };
        assert_eq!(
            search.to_string(),
            "/host, /host/run/nvidia/driver or /host/home/kubernetes/bin/nvidia"
        );
    }

    #[test]
    fn a_folder_is_one_of_the_node_unless_it_is_mounted_by_itself() {
        let mut search = DriverSearch {
            host_root: "/host".into(),
            root: "/opt/driver".parse().unwrap(),
            mounted_at: None,
        };
        assert_eq!(search.folders(), [Path::new("/host/opt/driver")]);
        search.mounted_at = Some("/driver-root".into());
        assert_eq!(search.folders(), [Path::new("/driver-root")]);
    }

    #[test]
    fn a_missing_driver_is_told_of_in_one_sentence() {
        let nowhere = tempfile::tempdir().unwrap();
        let error = DriverSearch::at(nowhere.path()).load().unwrap_err();
        assert!(error.is_no_driver());
        let expected = format!(
            "no NVIDIA driver found: no libnvidia-ml.so.1 under {}; install the NVIDIA driver, or name its folder with \
             --nvidia-driver-root",
            nowhere.path().display()
        );
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_driver_that_appears_in_a_later_folder_is_found() {
        let host = tempfile::tempdir().unwrap();
        let search = DriverSearch {
            host_root: host.path().to_owned(),
            root: DriverRoot::Auto,
            mounted_at: None,
        };
        assert!(search.load().is_err());
        let root = host.path().join("run/nvidia/driver");
        std::fs::create_dir_all(root.parent().unwrap()).unwrap();
        nvml_sim::DriverRoot::create(&root, &[(mig::board("A100-40GB").unwrap(), 1)]).unwrap();
        let inventory = search.load().unwrap().inventory().unwrap();
        assert_eq!(inventory.driver_root, root);
    }
}
