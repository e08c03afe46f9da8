//! A node with a simulated driver and a state folder of its own.

use std::path::PathBuf;

use mig::NodeLayout;
use nvml::{Gpu, Inventory, Nvml};
use nvml_sim::DriverRoot;
use partition::{Error, Holder, Options, Outcome, Partitioner, Report, assert};

pub(crate) const REPLACE: Options = Options {
    replace_all: true,
    wait: false,
};

/// The calls that change something, as `nvml.h` names them.
pub(crate) const LIFECYCLE: [&str; 6] = [
    "nvmlDeviceSetMigMode",
    "nvmlDeviceCreateGpuInstanceWithPlacement",
    "nvmlDeviceCreateGpuInstance",
    "nvmlGpuInstanceCreateComputeInstance",
    "nvmlComputeInstanceDestroy",
    "nvmlGpuInstanceDestroy",
];

pub(crate) struct Node {
    _dir: tempfile::TempDir,
    state: tempfile::TempDir,
    pub(crate) root: DriverRoot,
}

pub(crate) fn layout(text: &str) -> NodeLayout {
    text.parse().unwrap()
}

impl Node {
    pub(crate) fn new(boards: &[(&str, u32)]) -> Self {
        Self::with(boards, &nvml_sim::Options::default())
    }

    /// A guest that can't reset its GPUs.
    pub(crate) fn guest(boards: &[(&str, u32)]) -> Self {
        let options = nvml_sim::Options {
            pass_through: true,
            ..nvml_sim::Options::default()
        };
        Self::with(boards, &options)
    }

    fn with(boards: &[(&str, u32)], options: &nvml_sim::Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let boards: Vec<_> = boards
            .iter()
            .map(|(name, count)| (mig::board(name).unwrap(), *count))
            .collect();
        let root = DriverRoot::create_with(dir.path().join("root"), &boards, options).unwrap();
        // What is tested is kills, not power cuts: where there is a disk in memory, the record's many
        // fsyncs need not wait for a real one.
        let memory = std::path::Path::new("/dev/shm");
        let state = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        Self {
            _dir: dir,
            state: state.unwrap(),
            root,
        }
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.state.path().join("state")
    }

    pub(crate) fn nvml(&self) -> Nvml {
        Nvml::load(self.root.path()).unwrap()
    }

    pub(crate) fn partitioner(&self) -> Partitioner {
        Partitioner::new(self.nvml(), self.state_dir())
    }

    pub(crate) fn inventory(&self) -> Inventory {
        self.nvml().inventory().unwrap()
    }

    pub(crate) fn gpu(&self, index: u32) -> Gpu {
        self.inventory().gpu_at(index).unwrap().clone()
    }

    pub(crate) fn apply(&self, wanted: &str) -> Result<Report, Error> {
        self.partitioner()
            .apply(&layout(wanted), Options::default(), &[])
    }

    pub(crate) fn apply_held(&self, wanted: &str, holders: &[Holder]) -> Result<Report, Error> {
        self.partitioner()
            .apply(&layout(wanted), Options::default(), holders)
    }

    /// Applies, and checks that everything is as wanted.
    pub(crate) fn reach(&self, wanted: &str) -> Report {
        let report = self.apply(wanted).unwrap();
        assert_eq!(report.outcome, Outcome::Done, "{wanted}: {report}");
        assert_eq!(assert(&self.inventory(), &layout(wanted)), []);
        report
    }

    /// A node without instances, faults or memory; Ampere keeps its MIG mode.
    pub(crate) fn start_over(&self) {
        self.root.clear_faults().unwrap();
        self.root.reboot().unwrap();
        if self.state_dir().exists() {
            std::fs::remove_dir_all(self.state_dir()).unwrap();
        }
    }

    /// Creates GPU instances as another tool would, each with a compute instance of its size.
    pub(crate) fn create_foreign(&self, gpu: u32, instances: &[(&str, u8)]) {
        let nvml = self.nvml();
        let gpu = nvml.inventory().unwrap().gpu_at(gpu).unwrap().clone();
        for (profile, start) in instances {
            let known = gpu.board.profile(profile.parse().unwrap()).unwrap();
            let placement = mig::Placement::new(known, *start).unwrap();
            let id = nvml
                .create_gpu_instance(&gpu.uuid, known.id, placement)
                .unwrap();
            let whole = mig::compute_instance_profiles(known.slices)
                .last()
                .unwrap()
                .id;
            nvml.create_compute_instance(&gpu.uuid, id, whole).unwrap();
        }
    }
}
