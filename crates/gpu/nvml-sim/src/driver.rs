//! What NVML's calls do: the [`Driver`] that a process opens, and one function per behaviour in the modules below.
//!
//! The functions are pure over [`State`]: they take what a C call takes, in Rust's types, and answer what it would, or
//! NVML's code. [`Driver::read`] and [`Driver::write`] run them: that is where calls are recorded, faults strike and
//! permission is checked.
//!
//! Every function answers [`Return::GPU_IS_LOST`] for a GPU that has fallen off the bus, and [`Return::NOT_FOUND`] for a GPU
//! instance, compute instance or MIG device that does not exist any more.

pub mod compute_instance;
pub mod device;
pub mod events;
pub mod faults;
pub mod gpu_instance;
pub mod mig_device;
pub mod mode;
pub mod placement;
pub mod processes;
pub mod status;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::capability::{self, View};
use crate::code::Return;
use crate::firmware;
use crate::state::State;
use crate::store::{STATE_FILE, Store, StoreError, UpdateError};

/// Where recorded calls go below a driver root.
pub const CALLS_FILE: &str = "sim/calls";

/// What an `nvmlDevice_t` stands for. GPUs are addressed by minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// A GPU.
    Gpu(u32),
    /// A MIG device: one compute instance.
    Mig(ComputeInstanceRef),
}

/// What an `nvmlGpuInstance_t` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuInstanceRef {
    /// GPU, by minor number.
    pub gpu: u32,
    /// GPU instance ID.
    pub id: u32,
}

/// What an `nvmlComputeInstance_t` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComputeInstanceRef {
    /// Its GPU instance.
    pub gpu_instance: GpuInstanceRef,
    /// Compute instance ID.
    pub id: u32,
}

impl Device {
    /// The GPU itself, or the one that the MIG device is a part of, by minor number.
    #[must_use]
    pub fn gpu(self) -> u32 {
        match self {
            Device::Gpu(gpu) => gpu,
            Device::Mig(instance) => instance.gpu_instance.gpu,
        }
    }

    /// The GPU, for calls that take no MIG device.
    ///
    /// # Errors
    /// [`Return::NOT_SUPPORTED`] for a MIG device.
    pub fn physical(self) -> Result<u32, Return> {
        match self {
            Device::Gpu(gpu) => Ok(gpu),
            Device::Mig(_) => Err(Return::NOT_SUPPORTED),
        }
    }
}

/// A driver root opened by one process: what lives from `nvmlInit` to `nvmlShutdown`.
#[derive(Debug)]
pub struct Driver {
    root: PathBuf,
    node_root: PathBuf,
    store: Store,
    view: View,
    // How much of a fault a process without write access has used up, by the fault's number.
    used: Mutex<BTreeMap<u64, u32>>,
}

impl Driver {
    /// Opens the driver root. Repairs the capability files where a process was killed while it made them, and the state's
    /// name for containers where it is missing.
    ///
    /// # Errors
    /// [`Return::DRIVER_NOT_LOADED`] when `root` has no state or no `dev/nvidiactl` that this process can open;
    /// [`Return::LIB_RM_VERSION_MISMATCH`] for a state of another version; [`Return::UNKNOWN`] for a damaged one.
    pub fn open(root: &Path) -> Result<Driver, Return> {
        let view = View::of(root);
        if !view.control() {
            return Err(Return::DRIVER_NOT_LOADED);
        }
        let driver = Driver::open_unchecked(root)?;
        driver.store.read()?;
        Ok(driver)
    }

    /// As [`Driver::open`], without the check of `dev/nvidiactl` and with the store's own error.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_unchecked(root: &Path) -> Result<Driver, StoreError> {
        let store = Store::open(root)?;
        // In a pod's root the state is a link into its node's root, where the instances' files are. A container has no
        // more than the state's other name.
        let node_root = Some(store.path())
            .filter(|path| path.ends_with(STATE_FILE))
            .and_then(|path| std::fs::canonicalize(path).ok())
            .and_then(|state| Some(state.parent()?.parent()?.to_owned()))
            .unwrap_or_else(|| root.to_owned());
        let driver = Driver {
            root: root.to_owned(),
            node_root,
            store,
            view: View::of(root),
            used: Mutex::default(),
        };
        if driver.may_configure() {
            // Best effort: a root that can't be repaired now is repaired by the next write.
            let _ = driver.update_with_files(|_| Ok(()), true);
            if let Ok(state) = driver.store.read() {
                let _ = firmware::link(&driver.node_root, &state.driver_version);
            }
        }
        Ok(driver)
    }

    /// The folder that it was opened from.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The shared state.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What this process can see.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Whether this process may change MIG devices: it can open the capability `mig/config` and write the state.
    #[must_use]
    pub fn may_configure(&self) -> bool {
        self.store.writable() && self.view.config()
    }

    /// Runs a call that reads. `call` is its name in `nvml.h`.
    ///
    /// # Errors
    /// What `body` answers, what a fault makes it answer, or [`Return::UNKNOWN`] when the state can't be read.
    pub fn read<T>(
        &self,
        call: &str,
        body: impl FnOnce(&State, &View) -> Result<T, Return>,
    ) -> Result<T, Return> {
        let mut state = self.store.read()?;
        let armed = !state.faults.is_empty() || state.record_calls;
        let struck = if armed {
            self.strike(call, &state)?
        } else {
            Struck::default()
        };
        if armed {
            state = self.store.read()?;
        }
        let answer = body(&state, &self.view);
        struck.finish();
        answer
    }

    /// Runs a call that changes the state. When `body` fails nothing is changed.
    ///
    /// # Errors
    /// What `body` answers, what a fault makes it answer; [`Return::NO_PERMISSION`] unless [`Driver::may_configure`];
    /// [`Return::MEMORY`] when the disk is full.
    pub fn write<T>(
        &self,
        call: &str,
        body: impl FnOnce(&mut State, &View) -> Result<T, Return>,
    ) -> Result<T, Return> {
        let state = self.store.read()?;
        let armed = !state.faults.is_empty() || state.record_calls;
        let struck = if armed {
            self.strike(call, &state)?
        } else {
            Struck::default()
        };
        if !self.may_configure() {
            return Err(Return::NO_PERMISSION);
        }
        let answer = self.update_with_files(|state| body(state, &self.view), false);
        struck.finish();
        Ok(answer?)
    }

    /// Changes the state from outside, as a reboot or a fault does: no call, no fault, no capability needed.
    ///
    /// # Errors
    /// As [`Store::update`].
    pub fn administer<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, Return>,
    ) -> Result<T, UpdateError> {
        self.update_with_files(change, false)
    }

    /// Updates the state, and keeps the capability files in step when instances changed or `always`.
    fn update_with_files<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, Return>,
        always: bool,
    ) -> Result<T, UpdateError> {
        let concerns_files = std::cell::Cell::new(always);
        self.store.update_around(
            change,
            |old, new| {
                concerns_files.set(always || !same_instances(old, new));
                if concerns_files.get() {
                    capability::create_missing(&self.node_root, new).map_err(|error| {
                        // What was made before the one that can't be made belongs to nothing.
                        let _ = capability::remove_stale(&self.node_root, old);
                        code_of(&error)
                    })?;
                }
                Ok(())
            },
            |state| {
                if concerns_files.get() {
                    // The state is what counts: what can't be removed now is removed by the next write or open.
                    let _ = capability::remove_stale(&self.node_root, state);
                }
            },
        )
    }

    /// Records the call and lets the faults act that wait for it.
    fn strike(&self, call: &str, state: &Arc<State>) -> Result<Struck, Return> {
        if state.record_calls {
            self.record(call);
        }
        let waiting = state
            .faults
            .iter()
            .any(|armed| faults::waits_for(&armed.fault, call));
        if !waiting {
            return Ok(Struck::default());
        }
        let blow = if self.store.writable() {
            self.store.update(|state| Ok(faults::strike(state, call)))?
        } else {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            faults::strike_locally(state, &mut used, call)
        };
        if blow.delay_ms > 0 {
            std::thread::sleep(Duration::from_millis(u64::from(blow.delay_ms)));
        }
        if blow.abort_before {
            die();
        }
        match blow.code {
            Some(code) => code.ok().map(|()| Struck {
                abort: blow.abort_after,
            }),
            None => Ok(Struck {
                abort: blow.abort_after,
            }),
        }
    }

    fn record(&self, call: &str) {
        // One small append is one piece, whoever else appends; a process that may not write is not recorded.
        let file = OpenOptions::new()
            .append(true)
            .open(self.node_root.join(CALLS_FILE));
        if let Ok(mut file) = file {
            let _ = file.write_all(format!("{call}\n").as_bytes());
        }
    }
}

/// What is left to do of a fault when its call is done.
#[derive(Default)]
struct Struck {
    abort: bool,
}

impl Struck {
    fn finish(self) {
        if self.abort {
            die();
        }
    }
}

/// Ends this process as `kill -9` does.
fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}

fn same_instances(old: &State, new: &State) -> bool {
    old.gpus
        .iter()
        .map(|gpu| &gpu.instances)
        .eq(new.gpus.iter().map(|gpu| &gpu.instances))
}

fn code_of(error: &io::Error) -> Return {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Return::MEMORY,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Return::NO_PERMISSION
        }
        _ => Return::UNKNOWN,
    }
}
