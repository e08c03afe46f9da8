//! The node's simulated machine: its root and where it is mounted, brought about from whatever is there.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mig::Board;
use nvml_sim::store::StoreError;
use nvml_sim::{DriverRoot, Machine, Options, RootError};
use rustix::fs::FlockOperation;

use super::mount::{self, MountError};
use crate::command::sim::program::{self, Placed};
use crate::failure::Failure;

/// Tells one boot of the machine from another.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What should be there.
#[derive(Debug)]
pub(super) struct NodeMachine {
    pub(super) root: PathBuf,
    pub(super) mount: Option<PathBuf>,
    pub(super) wanted: Machine,
    pub(super) boards: Vec<(&'static Board, u32)>,
    pub(super) options: Options,
    pub(super) replace: bool,
    /// The root's library and program have been made this program's own, which takes reading all of both.
    pub(super) refreshed: Cell<bool>,
    /// What is there was refused: it is somebody else's, whatever it is.
    pub(super) foreign: Cell<bool>,
    /// The root's folder, locked as long as this process has it.
    pub(super) held: RefCell<Option<File>>,
}

/// The GPUs that are there: how many of which product, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gpus(Vec<(usize, String)>);

/// Why the machine is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum MachineError {
    /// There is another machine.
    #[error(
        "{} holds a simulated driver with {there}, and {wanted} is asked for; ask for what is there, or give --replace: \
         its slices are gone then, so first drain the node (the simulation cannot know who uses them)",
        root.display()
    )]
    OtherMachine {
        /// The root.
        root: PathBuf,
        /// What it is.
        there: Machine,
        /// What it should be.
        wanted: Machine,
    },
    /// What is there can't be read by this program.
    #[error("{source} (--replace does that)")]
    Unreadable {
        /// Why.
        source: StoreError,
    },
    /// Another process does the same.
    #[error("another migpool sim node has {}; one is enough for a node: end one of the two", root.display())]
    Taken {
        /// The root.
        root: PathBuf,
    },
    /// The root can't be made or changed.
    #[error(transparent)]
    Root(#[from] RootError),
    /// It can't be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A file can't be read or made.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The nvidia-smi can't be placed.
    #[error("{0}")]
    Program(Failure),
}

impl NodeMachine {
    /// Refuses what can never be.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let Some(mount) = &self.mount else {
            return Ok(());
        };
        if mount.starts_with(&self.root) || self.root.starts_with(mount) {
            return Err(Failure::usage(format!(
                "the root {} and the mount {} lie in one another; name two folders",
                self.root.display(),
                mount.display()
            )));
        }
        Ok(())
    }

    /// Brings the machine about. Where it is so already, nothing changes.
    pub(super) fn converge(&self) -> Result<Gpus, MachineError> {
        let outcome = self.bring_about();
        let refused = matches!(
            outcome,
            Err(MachineError::OtherMachine { .. } | MachineError::Taken { .. })
        );
        self.foreign.set(refused);
        outcome
    }

    fn bring_about(&self) -> Result<Gpus, MachineError> {
        self.hold()?;
        let root = self.ensure_root()?;
        let boot_id = fs::read_to_string(BOOT_ID).map_err(io_error("read", Path::new(BOOT_ID)))?;
        if root.boot_with_machine(boot_id.trim())? {
            tracing::info!(
                "the machine has booted, and the simulated GPUs with it: no slices are left"
            );
        }
        if let Some(target) = &self.mount
            && mount::ensure(&self.root, target)?
        {
            tracing::info!(root = %self.root.display(), at = %target.display(), "mounted");
        }
        Ok(Gpus::of(&root.describe()?))
    }

    /// Unmounts and removes all that there is.
    pub(super) fn remove(&self) -> Result<(), MachineError> {
        self.hold()?;
        if let Some(target) = &self.mount {
            mount::remove(&self.root, target)?;
        }
        Ok(DriverRoot::remove(&self.root)?)
    }

    fn ensure_root(&self) -> Result<DriverRoot, MachineError> {
        let refusal = match DriverRoot::open(&self.root) {
            Ok(root) => {
                let there = root.machine()?;
                if there == self.wanted {
                    self.refresh(&root)?;
                    return Ok(root);
                }
                MachineError::OtherMachine {
                    root: self.root.clone(),
                    there,
                    wanted: self.wanted.clone(),
                }
            }
            Err(RootError::Store(StoreError::Io { source, .. }))
                if source.kind() == io::ErrorKind::NotFound =>
            {
                return self.create();
            }
            Err(RootError::Store(
                source @ (StoreError::Version { .. }
                | StoreError::Damaged { .. }
                | StoreError::NotAState { .. }),
            )) => MachineError::Unreadable { source },
            Err(other) => return Err(other.into()),
        };
        if !self.replace {
            return Err(refusal);
        }
        tracing::warn!(
            "making {} anew, its slices are gone: {refusal}",
            self.root.display()
        );
        DriverRoot::remove(&self.root)?;
        self.hold()?;
        self.create()
    }

    fn create(&self) -> Result<DriverRoot, MachineError> {
        let root = DriverRoot::create_with(&self.root, &self.boards, &self.options)?;
        self.refreshed.set(false);
        self.refresh(&root)?;
        tracing::info!("made the simulated driver root {}", self.root.display());
        Ok(root)
    }

    /// Makes the root's library and nvidia-smi those of this build, the first time.
    fn refresh(&self, root: &DriverRoot) -> Result<(), MachineError> {
        if !self.refreshed.get() {
            root.refresh_library()?;
            program::install(&self.root, Placed::Copy).map_err(MachineError::Program)?;
            self.refreshed.set(true);
        }
        Ok(())
    }

    /// Makes the root's folder and keeps others from it, for as long as this process runs.
    fn hold(&self) -> Result<(), MachineError> {
        let path = &self.root;
        fs::create_dir_all(path).map_err(io_error("make", path))?;
        let folder = File::open(path).map_err(io_error("open", path))?;
        let mut held = self.held.borrow_mut();
        let is_same = |held: &File| mount::is_same_file(held, &folder);
        if held
            .as_ref()
            .is_some_and(|held| is_same(held).unwrap_or(false))
        {
            return Ok(());
        }
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                *held = Some(folder);
                Ok(())
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(MachineError::Taken {
                root: self.root.clone(),
            }),
            Err(errno) => Err(io_error("lock", path)(errno.into())),
        }
    }
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Failure {
        Failure::of(error)
    }
}

impl Gpus {
    fn of(root: &nvml_sim::root::Description) -> Gpus {
        let groups = root
            .gpus
            .chunk_by(|one, other| one.product == other.product);
        let group = |gpus: &[nvml_sim::root::Gpu]| {
            let product = gpus.first().map(|gpu| gpu.product.clone());
            (gpus.len(), product.unwrap_or_default())
        };
        Gpus(groups.map(group).collect())
    }

    /// `8 x NVIDIA A100-SXM4-40GB`.
    pub(super) fn text(&self) -> String {
        self.join(", ", |count, product| format!("{count} x {product}"))
    }

    /// A label's value: `8-A100-SXM4-40GB`, `4-A100-SXM4-40GB_2-H200`; cut where a label can't be that long.
    pub(super) fn label(&self) -> String {
        const LONGEST: usize = 63;
        let text = self.join("_", |count, product| {
            let name = product.strip_prefix("NVIDIA ").unwrap_or(product);
            format!("{count}-{name}")
        });
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let text: String = text
            .chars()
            .map(|c| if valid(c) { c } else { '-' })
            .take(LONGEST)
            .collect();
        text.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
            .to_owned()
    }

    fn join(&self, separator: &str, text: impl Fn(usize, &str) -> String) -> String {
        let parts: Vec<_> = self
            .0
            .iter()
            .map(|(count, product)| text(*count, product))
            .collect();
        parts.join(separator)
    }
}

fn io_error(what: &'static str, path: &Path) -> impl Fn(io::Error) -> MachineError + use<> {
    let path = path.to_owned();
    move |source| MachineError::Io {
        what,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_named_by_a_label_that_every_server_takes() {
        let gpus = |groups: &[(usize, &str)]| {
            Gpus(
                groups
                    .iter()
                    .map(|(n, name)| (*n, (*name).to_owned()))
                    .collect(),
            )
        };
        let a100 = (8, "NVIDIA A100-SXM4-40GB");
        assert_eq!(gpus(&[a100]).label(), "8-A100-SXM4-40GB");
        let mixed = gpus(&[a100, (2, "NVIDIA H200")]);
        assert_eq!(mixed.label(), "8-A100-SXM4-40GB_2-H200");
        let blank = gpus(&[(1, "NVIDIA RTX PRO 6000 Blackwell Server Edition")]);
        assert_eq!(blank.label(), "1-RTX-PRO-6000-Blackwell-Server-Edition");
        let long = gpus(&[a100; 8]).label();
        assert!(long.len() <= 63 && long.ends_with(|c: char| c.is_ascii_alphanumeric()));
    }
}
