//! Making a root: its first state, its files, and the library that is carried within this crate.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mig::Board;
use uuid::Uuid;

use super::{DriverRoot, Options, RootError, io_error, make_folder};
use crate::board::simulated;
use crate::capability::{self, MAX_GPUS};
use crate::device_file::{self, DeviceFiles};
use crate::firmware;
use crate::library::LIBRARY;
use crate::state::{PciAddress, SimGpu, State};
use crate::store::{STATE_FILE, Store, StoreError};

/// The driver's version: that of the real one whose answers were read.
pub const DRIVER_VERSION: &str = "580.159.04";
const NVML_VERSION: &str = "13.580.159.04";
const CUDA_VERSION: i32 = 13_000;

const LIBRARY_DIR: &str = "usr/lib/x86_64-linux-gnu";
const LIBRARY_NAME: &str = "libnvidia-ml.so.1";
/// What a container runtime gives to every container with a GPU.
pub(super) const CONTROL_FILES: [&str; 3] = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"];
/// PCI buses of a machine with eight GPUs, as on a DGX.
const BUSES: [u32; 8] = [0x07, 0x0F, 0x47, 0x4E, 0x87, 0x90, 0xB7, 0xBD];

impl DriverRoot {
    /// Makes a driver root with so many GPUs of each board, in MIG mode off, on bare metal. `path` may exist, but hold no
    /// simulated driver.
    ///
    /// # Errors
    /// [`RootError::GpuCount`], [`RootError::Exists`], [`RootError::DeviceNode`], [`RootError::Io`], [`RootError::Store`].
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
        let kind = if options.device_nodes {
            DeviceFiles::Nodes
        } else {
            DeviceFiles::Regular
        };
        make_folder(&path.join("sim"))?;
        make_folder(&path.join("dev"))?;
        for name in CONTROL_FILES {
            make_device(path, kind, name)?;
        }
        for gpu in &state.gpus {
            make_device(path, kind, &format!("nvidia{}", gpu.minor))?;
        }
        let gpus = u32::try_from(state.gpus.len()).unwrap_or(MAX_GPUS);
        capability::create(path, gpus, kind).map_err(io_error(&path.join("proc")))?;
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
            Ok(_) => {
                let link = firmware::path(path, DRIVER_VERSION);
                firmware::link(path, DRIVER_VERSION).map_err(io_error(&link))?;
                DriverRoot::open(path)
            }
        }
    }

    /// Brings the library of a root that another build of migpool made to this build's. Programs that run keep the one
    /// that they have loaded.
    ///
    /// # Errors
    /// [`RootError::Io`].
    pub fn refresh_library(&self) -> Result<(), RootError> {
        match fs::read(self.library_path()) {
            Ok(there) if there == LIBRARY => Ok(()),
            _ => write_library(&self.path),
        }
    }
}

/// The library below a root, by the name that programs load.
pub(super) fn library_path(root: &Path) -> PathBuf {
    root.join(LIBRARY_DIR).join(LIBRARY_NAME)
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

fn make_device(root: &Path, kind: DeviceFiles, name: &str) -> Result<(), RootError> {
    let path = root.join("dev").join(name);
    let error = |source| match kind {
        DeviceFiles::Regular => io_error(&path)(source),
        DeviceFiles::Nodes => RootError::DeviceNode {
            path: path.clone(),
            source,
        },
    };
    kind.make(&path, 0o666).map_err(error)?;
    if device_file::opens(&path) {
        return Ok(());
    }
    // A file system without devices takes them and lets nobody open them.
    Err(error(io::ErrorKind::PermissionDenied.into()))
}

/// Makes a symbolic link, or makes it anew where it leads elsewhere. There is no moment in which a link that was there is
/// gone: somebody may just be looking for the library by it.
pub(super) fn link(target: &Path, path: &Path) -> Result<(), RootError> {
    if fs::read_link(path).is_ok_and(|there| there == target) {
        return Ok(());
    }
    let new = path.with_file_name(format!(".link-{}", std::process::id()));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => symlink(target, &new).and_then(|()| fs::rename(&new, path)),
    }
    .map_err(io_error(path))
}

/// Each root has its own copy: the dynamic linker would take two links to one file for one library, and the library finds its
/// root by the path that it was loaded from.
pub(super) fn write_library(root: &Path) -> Result<(), RootError> {
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
