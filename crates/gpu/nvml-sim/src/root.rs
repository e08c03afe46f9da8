//! Driver roots: making them, opening them, and doing to them what happens to a machine.
//!
//! ```text
//! ROOT/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1   the library, which finds ROOT from its own path
//! ROOT/usr/bin/                                     for an nvidia-smi
//! ROOT/dev/nvidia0.. nvidiactl nvidia-uvm           device files: regular files here, opened as the real ones are
//! ROOT/dev/nvidia-caps/nvidia-cap<minor>            one for each instance that exists
//! ROOT/proc/driver/...                              capabilities, mig-minors, version
//! ROOT/sim/state                                    the state that all processes share
//! ```

mod describe;
mod pod_view;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mig::Board;
use uuid::Uuid;

use crate::board::simulated;
use crate::capability::{self, MAX_GPUS, View};
use crate::code::Return;
use crate::driver::{CALLS_FILE, Device, Driver, device, faults, mode, processes};
use crate::library::LIBRARY;
use crate::state::{Fault, PciAddress, SimGpu, SimProcess, State};
use crate::store::{STATE_FILE, Store, StoreError, UpdateError};

/// The driver's version: that of the real one whose answers were read.
pub const DRIVER_VERSION: &str = "580.159.04";
const NVML_VERSION: &str = "13.580.159.04";
const CUDA_VERSION: i32 = 13_000;

const LIBRARY_DIR: &str = "usr/lib/x86_64-linux-gnu";
const LIBRARY_NAME: &str = "libnvidia-ml.so.1";
/// What a container runtime gives to every container with a GPU.
const CONTROL_FILES: [&str; 3] = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"];
/// PCI buses of a machine with eight GPUs, as on a DGX.
const BUSES: [u32; 8] = [0x07, 0x0F, 0x47, 0x4E, 0x87, 0x90, 0xB7, 0xBD];

/// What is true of a root's machine besides its boards.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The machine is a guest that can't reset its GPUs, as an Azure VM: a new MIG mode of an Ampere board is pending
    /// until the node boots.
    pub pass_through: bool,
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
    /// Makes a driver root with so many GPUs of each board, in MIG mode off, on bare metal. `path` may exist, but hold no
    /// simulated driver.
    ///
    /// # Errors
    /// [`RootError::GpuCount`], [`RootError::Exists`], [`RootError::Io`], [`RootError::Store`].
    pub fn create(
        path: impl AsRef<Path>,
        boards: &[(&Board, u32)],
    ) -> Result<DriverRoot, RootError> {
        DriverRoot::create_with(path, boards, &Options::default())
    }

    /// As [`DriverRoot::create`], for a machine that is special.
    ///
    /// # Errors
    /// As [`DriverRoot::create`].
    pub fn create_with(
        path: impl AsRef<Path>,
        boards: &[(&Board, u32)],
        options: &Options,
    ) -> Result<DriverRoot, RootError> {
        let path = path.as_ref();
        let wanted = boards.iter().map(|(_, count)| u64::from(*count)).sum();
        if !(1..=u64::from(MAX_GPUS)).contains(&wanted) {
            return Err(RootError::GpuCount { wanted });
        }
        if path.join(STATE_FILE).symlink_metadata().is_ok() {
            return Err(RootError::Exists {
                path: path.to_owned(),
            });
        }
        let state = first_state(boards, options);
        make_folder(&path.join("sim"))?;
        make_folder(&path.join("dev"))?;
        for gpu in &state.gpus {
            make_device(path, &format!("nvidia{}", gpu.minor))?;
        }
        for name in CONTROL_FILES {
            make_device(path, name)?;
        }
        let gpus = u32::try_from(state.gpus.len()).unwrap_or(MAX_GPUS);
        capability::create(path, gpus).map_err(io_error(&path.join("proc")))?;
        let version = path.join("proc/driver/nvidia/version");
        let text = format!(
            "NVRM version: migpool simulated driver  {DRIVER_VERSION}\nThis machine's GPUs are simulated.\n"
        );
        fs::write(&version, text).map_err(io_error(&version))?;
        write_library(path)?;
        // The state comes last: a root without it is not one, and can be made again.
        match Store::create(path, &state) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Err(RootError::Exists {
                    path: path.to_owned(),
                })
            }
            Err(error) => Err(error.into()),
            Ok(_) => DriverRoot::open(path),
        }
    }

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
        self.path.join(LIBRARY_DIR).join(LIBRARY_NAME)
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
    pub fn describe(&self) -> Result<String, RootError> {
        Ok(describe::describe(&self.path, &*self.state()?))
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

fn first_state(boards: &[(&Board, u32)], options: &Options) -> State {
    let root_id = options.root_id.unwrap_or_else(Uuid::new_v4);
    let mut state = State {
        root_id,
        boots: 1,
        driver_version: DRIVER_VERSION.to_owned(),
        nvml_version: NVML_VERSION.to_owned(),
        cuda_version: CUDA_VERSION,
        boards: Vec::new(),
        gpus: Vec::new(),
        processes: Vec::new(),
        faults: Vec::new(),
        next_fault: 1,
        events: std::collections::VecDeque::new(),
        next_event: 1,
        record_calls: false,
    };
    let mut minor = 0_u32;
    for (board, count) in boards {
        let simulated = simulated(board);
        let known = state.boards.iter().position(|found| *found == simulated);
        let index = known.unwrap_or_else(|| {
            state.boards.push(simulated);
            state.boards.len() - 1
        });
        for _ in 0..*count {
            state
                .gpus
                .push(first_gpu(root_id, index, minor, options.pass_through));
            minor += 1;
        }
    }
    state
}

fn first_gpu(root_id: Uuid, board: usize, minor: u32, pass_through: bool) -> SimGpu {
    let bus = BUSES.get(minor as usize).copied();
    let short_id = root_id
        .simple()
        .to_string()
        .chars()
        .take(8)
        .collect::<String>();
    SimGpu {
        board: u32::try_from(board).unwrap_or_default(),
        minor,
        uuid: Uuid::new_v5(&root_id, format!("gpu{minor}").as_bytes()),
        serial: format!("SIMULATED-{short_id}-{minor:02}"),
        pci: PciAddress {
            domain: u32::from(bus.is_none()),
            bus: bus.unwrap_or(minor),
            device: 0,
        },
        mig_current: false,
        mig_pending: false,
        pass_through,
        lost: false,
        ecc_volatile: crate::state::EccCounts::default(),
        ecc_aggregate: crate::state::EccCounts::default(),
        instances: Vec::new(),
    }
}

fn make_folder(path: &Path) -> Result<(), RootError> {
    fs::create_dir_all(path).map_err(io_error(path))
}

fn make_device(root: &Path, name: &str) -> Result<(), RootError> {
    let path = root.join("dev").join(name);
    capability::write_device(&path, 0o666).map_err(io_error(&path))
}

fn link(target: &Path, path: &Path) -> Result<(), RootError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => symlink(target, path).map_err(io_error(path)),
    }
}

/// Each root has its own copy: the dynamic linker would take two links to one file for one library, and the library finds its
/// root by the path that it was loaded from.
fn write_library(root: &Path) -> Result<(), RootError> {
    make_folder(&root.join("usr/bin"))?;
    let folder = root.join(LIBRARY_DIR);
    make_folder(&folder)?;
    let file = folder.join(format!("libnvidia-ml.so.{DRIVER_VERSION}"));
    let temporary = folder.join(format!(".new-{}", std::process::id()));
    write_program(&temporary).map_err(io_error(&temporary))?;
    fs::rename(&temporary, &file).map_err(io_error(&file))?;
    link(
        Path::new(&format!("libnvidia-ml.so.{DRIVER_VERSION}")),
        &folder.join(LIBRARY_NAME),
    )?;
    link(Path::new(LIBRARY_NAME), &folder.join("libnvidia-ml.so"))
}

fn write_program(path: &Path) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o755)
        .open(path)?;
    file.write_all(LIBRARY)
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> RootError + use<> {
    let path = path.to_owned();
    move |source| RootError::Io {
        path: path.clone(),
        source,
    }
}
