//! Driver roots: making them, opening them, and doing to them what happens to a machine.
//!
//! ```text
//! ROOT/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1   the library, which finds ROOT from its own path
//! ROOT/usr/bin/                                     for an nvidia-smi
//! ROOT/dev/nvidia0.. nvidiactl nvidia-uvm           device files, opened as the real ones are: regular files, or
//! ROOT/dev/nvidia-caps/nvidia-cap<minor>            character devices with the numbers of /dev/null, where containers
//!                                                   are to get them; one capability for each instance that exists
//! ROOT/proc/driver/...                              capabilities, mig-minors, version
//! ROOT/sim/state                                    the state that all processes share
//! ROOT/sim/boot-id                                  on a node: the kernel's boot that the simulated node has booted with
//! ROOT/lib/firmware/nvidia/580.159.04/gsp_simulated.bin   the same file, as containers get it
//! ```

mod boot;
mod create;
mod describe;
mod machine;
mod pod_view;
mod remove;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::capability::{MAX_GPUS, View};
use crate::code::Return;
use crate::driver::{CALLS_FILE, Device, Driver, device, faults, mode, processes};
use crate::state::{Fault, SimProcess, State};
use crate::store::{StoreError, UpdateError};

pub use create::DRIVER_VERSION;
pub use describe::{ComputeInstance, Description, Gpu, GpuInstance, WaitingFault};
pub use machine::Machine;

/// What is true of a root's machine besides its boards.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The machine is a guest that can't reset its GPUs, as an Azure VM: a new MIG mode of an Ampere board is pending
    /// until the node boots.
    pub pass_through: bool,
    /// The device files are character devices with the numbers of `/dev/null`, so that containers can be given them. Takes
    /// the right to make device nodes, now and for whoever creates instances later.
    pub device_nodes: bool,
    /// The root's identity, from which every UUID follows; random when not given.
    pub root_id: Option<Uuid>,
}

/// A simulated driver root.
#[derive(Debug)]
pub struct DriverRoot {
    path: PathBuf,
    driver: Driver,
}

/// Why a driver root can't be made, opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A file can't be made.
    #[error("cannot make {} in the driver root: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The device files can't be device nodes.
    #[error(
        "cannot make the device node {} in the driver root: {source}; device nodes take the capability MKNOD, and a file \
         system that is mounted without 'nodev'. Programs outside of containers need none: leave device nodes out",
        path.display()
    )]
    DeviceNode {
        /// The device node.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder is not to be removed.
    #[error("{} is not removed: it holds {what}", path.display())]
    NotRemoved {
        /// The folder.
        path: PathBuf,
        /// What speaks against it.
        what: String,
    },
    /// There is a simulated driver root already.
    #[error("{} holds a simulated driver already; choose another folder or remove this one", path.display())]
    Exists {
        /// The root.
        path: PathBuf,
    },
    /// The machine would have no GPU, or more than the driver can number.
    #[error("a driver root has 1 to {MAX_GPUS} GPUs, {wanted} were asked for")]
    GpuCount {
        /// GPUs asked for.
        wanted: u64,
    },
    /// The driver has no such device file.
    #[error("the driver root {} has no device file {}; its GPUs or slices may have changed", root.display(), file.display())]
    NoDeviceFile {
        /// The root.
        root: PathBuf,
        /// The file, as seen by the pod.
        file: PathBuf,
    },
    /// The shared state can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The simulated driver refused, with NVML's code.
    #[error("the simulated driver in {} cannot {what}: {code}", root.display())]
    Refused {
        /// The root.
        root: PathBuf,
        /// What was asked for.
        what: &'static str,
        /// NVML's answer.
        code: Return,
    },
}

impl DriverRoot {
    /// Opens a driver root, and repairs its capability files where a process was killed while it made them.
    ///
    /// # Errors
    /// [`RootError::Store`].
    pub fn open(path: impl AsRef<Path>) -> Result<DriverRoot, RootError> {
        let path = path.as_ref();
        Ok(DriverRoot {
            path: path.to_owned(),
            driver: Driver::open_unchecked(path)?,
        })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The simulated `libnvidia-ml.so.1`.
    #[must_use]
    pub fn library_path(&self) -> PathBuf {
        create::library_path(&self.path)
    }

    /// The simulated driver, without the C ABI.
    #[must_use]
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The state as it is now.
    ///
    /// # Errors
    /// [`RootError::Store`].
    pub fn state(&self) -> Result<Arc<State>, RootError> {
        Ok(self.driver.store().read()?)
    }

    /// What `migpool sim show` prints: the GPUs, their instances and the faults, and that all of it is simulated.
    ///
    /// # Errors
    /// [`RootError::Store`].
    pub fn describe(&self) -> Result<Description, RootError> {
        Description::of(&self.path, &*self.state()?)
            .map_err(|code| self.refused("be described", code))
    }

    /// Which machine this is.
    ///
    /// # Errors
    /// [`RootError::Store`].
    pub fn machine(&self) -> Result<Machine, RootError> {
        Ok(Machine::read(&self.path, &*self.state()?))
    }

    /// Boots the node: instances and processes are gone, pending modes of Ampere boards are current, MIG mode of later
    /// boards is off.
    ///
    /// # Errors
    /// [`RootError::Store`].
    pub fn reboot(&self) -> Result<(), RootError> {
        self.change("boot the node", |state| {
            mode::reboot(state);
            Ok(())
        })
    }

    /// Resets one GPU, as `nvidia-smi --gpu-reset` does through a private call.
    ///
    /// # Errors
    /// [`RootError::Refused`] when a process uses it or the machine is a guest; [`RootError::Store`].
    pub fn reset_gpu(&self, gpu: u32) -> Result<(), RootError> {
        self.change("reset the GPU", |state| mode::reset(state, gpu))
    }

    /// Injects a fault. Returns its number.
    ///
    /// # Errors
    /// [`RootError::Refused`] when it names a GPU that does not exist; [`RootError::Store`].
    pub fn inject(&self, fault: Fault) -> Result<u64, RootError> {
        self.change("inject the fault", |state| faults::inject(state, fault))
    }

    /// Takes back every fault: lost GPUs are back, volatile ECC counts are zero, no fault waits for a call.
    ///
    /// # Errors
    /// [`RootError::Store`].
    pub fn clear_faults(&self) -> Result<(), RootError> {
        self.change("clear the faults", |state| {
            faults::clear(state);
            Ok(())
        })
    }

    /// Starts or stops the record of NVML calls, from empty.
    ///
    /// # Errors
    /// [`RootError::Io`] or [`RootError::Store`].
    pub fn record_calls(&self, on: bool) -> Result<(), RootError> {
        let file = self.path.join(CALLS_FILE);
        fs::write(&file, "").map_err(io_error(&file))?;
        self.change("record calls", |state| {
            state.record_calls = on;
            Ok(())
        })
    }

    /// The recorded calls' names, oldest first, of all processes.
    ///
    /// # Errors
    /// [`RootError::Io`].
    pub fn calls(&self) -> Result<Vec<String>, RootError> {
        let file = self.path.join(CALLS_FILE);
        match fs::read_to_string(&file) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(io_error(&file)(error)),
        }
    }

    /// How often each call was recorded.
    ///
    /// # Errors
    /// [`RootError::Io`].
    pub fn call_counts(&self) -> Result<BTreeMap<String, u64>, RootError> {
        let mut counts = BTreeMap::new();
        for call in self.calls()? {
            *counts.entry(call).or_default() += 1;
        }
        Ok(counts)
    }

    /// The GPU or MIG device with this UUID, seen as the whole machine.
    ///
    /// # Errors
    /// [`RootError::Refused`] when there is none; [`RootError::Store`].
    pub fn device(&self, uuid: &str) -> Result<Device, RootError> {
        device::by_uuid(&*self.state()?, &View::everything(), uuid)
            .map_err(|code| self.refused("find the device", code))
    }

    /// Says that a process of this machine uses a GPU or MIG device, with so much memory (in MiB) and so busy (in percent). It
    /// counts for as long as the process lives.
    ///
    /// # Errors
    /// [`RootError::Refused`] when there is no such process or device; [`RootError::Store`].
    pub fn register_process(
        &self,
        pid: u32,
        device: Device,
        memory_mib: u64,
        utilization: u32,
    ) -> Result<(), RootError> {
        let what = "register the process";
        let started =
            processes::start_time(pid).ok_or_else(|| self.refused(what, Return::NOT_FOUND))?;
        self.change(what, |state| {
            let (gpu_instance, compute_instance) = match device {
                Device::Gpu(_) => (None, None),
                Device::Mig(instance) => (Some(instance.gpu_instance.id), Some(instance.id)),
            };
            let process = SimProcess {
                pid,
                started,
                name: processes::name(state, pid)?,
                gpu: device.gpu(),
                gpu_instance,
                compute_instance,
                memory_mib,
                utilization,
            };
            processes::register(state, process)
        })
    }

    /// Says that a process uses no GPU any more.
    ///
    /// # Errors
    /// [`RootError::Store`].
    pub fn unregister_process(&self, pid: u32) -> Result<(), RootError> {
        self.change("unregister the process", |state| {
            processes::unregister(state, pid);
            Ok(())
        })
    }

    fn change<T>(
        &self,
        what: &'static str,
        change: impl FnOnce(&mut State) -> Result<T, Return>,
    ) -> Result<T, RootError> {
        self.driver.administer(change).map_err(|error| match error {
            UpdateError::Refused(code) => self.refused(what, code),
            UpdateError::Store(error) => error.into(),
        })
    }

    fn refused(&self, what: &'static str, code: Return) -> RootError {
        RootError::Refused {
            root: self.path.clone(),
            what,
            code,
        }
    }
}

fn make_folder(path: &Path) -> Result<(), RootError> {
    fs::create_dir_all(path).map_err(io_error(path))
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> RootError + use<> {
    let path = path.to_owned();
    move |source| RootError::Io {
        path: path.clone(),
        source,
    }
}
