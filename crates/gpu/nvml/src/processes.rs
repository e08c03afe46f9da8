//! Who uses a GPU.

use serde::{Deserialize, Serialize};

use crate::calls::RunningProcess;
use crate::events::instance;
use crate::{Error, GpuUuid, Nvml};

/// A process on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// Its id, in the process namespace of the driver.
    pub pid: u32,
    /// What it does there.
    pub kind: ProcessKind,
    /// Its program's name or path, where the driver may tell.
    pub name: Option<String>,
    /// The GPU instance that it runs on.
    pub gpu_instance: Option<u32>,
    /// The compute instance that it runs on.
    pub compute_instance: Option<u32>,
    /// Memory that it uses in MiB, where the driver may tell.
    pub memory_mib: Option<u64>,
}

/// What a process does on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProcessKind {
    /// It computes.
    Compute,
    /// It draws.
    Graphics,
    /// It does both.
    Both,
}

impl Nvml {
    /// The processes on a GPU, by process id. A process on several slices is there once for each.
    ///
    /// # Errors
    /// [`Error::Call`], notably `NO_PERMISSION` and `GPU_IS_LOST`.
    pub fn processes(&self, gpu: &GpuUuid) -> Result<Vec<GpuProcess>, Error> {
        let session = &self.session;
        let device = session.device(gpu)?;
        let compute = session
            .calls
            .compute_processes(device)
            .map_err(|failure| session.error_on(failure, gpu))?;
        let graphics = match session.calls.graphics_processes(device) {
            Ok(list) => list,
            // A board for computing alone, or MIG mode.
            Err(failure) if failure.is_unavailable() => Vec::new(),
            Err(failure) => return Err(session.error_on(failure, gpu)),
        };
        let mut processes: Vec<GpuProcess> = Vec::with_capacity(compute.len());
        for raw in compute {
            processes.push(self.process(raw, ProcessKind::Compute));
        }
        for raw in graphics {
            let same = |known: &&mut GpuProcess| {
                known.pid == raw.pid && known.gpu_instance == instance(raw.gpu_instance)
            };
            match processes.iter_mut().find(same) {
                Some(known) => known.kind = ProcessKind::Both,
                None => processes.push(self.process(raw, ProcessKind::Graphics)),
            }
        }
        processes
            .sort_by_key(|process| (process.pid, process.gpu_instance, process.compute_instance));
        Ok(processes)
    }

    fn process(&self, raw: RunningProcess, kind: ProcessKind) -> GpuProcess {
        GpuProcess {
            pid: raw.pid,
            kind,
            name: self
                .session
                .calls
                .process_name(raw.pid)
                .ok()
                .filter(|name| !name.is_empty()),
            gpu_instance: instance(raw.gpu_instance),
            compute_instance: instance(raw.compute_instance),
            // All ones is NVML's "not available".
            memory_mib: (raw.memory != u64::MAX).then_some(raw.memory >> 20),
        }
    }
}
