//! Processes that use a GPU. Nothing computes on a simulated GPU, so whoever starts work there says so.

use crate::code::Return;
use crate::driver::{ComputeInstanceRef, Device};
use crate::state::{SimProcess, State};

/// Start time of a process in clock ticks since boot; `None` when there is no such process.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may hold anything; the start time is the 20th field after it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let ended = fields
        .next()
        .is_some_and(|state| matches!(state, "Z" | "X"));
    if ended {
        None
    } else {
        fields.nth(18)?.parse().ok()
    }
}

/// The processes that are still there.
pub fn alive(state: &State) -> impl Iterator<Item = &SimProcess> {
    state
        .processes
        .iter()
        .filter(|process| start_time(process.pid) == Some(process.started))
}

/// Whether the process uses this compute instance.
#[must_use]
pub fn is_on(process: &SimProcess, instance: ComputeInstanceRef) -> bool {
    process.gpu == instance.gpu_instance.gpu
        && process.gpu_instance == Some(instance.gpu_instance.id)
        && process.compute_instance == Some(instance.id)
}

/// The processes on a GPU (its MIG devices' too) or on a MIG device.
///
/// # Errors
/// [`Return::GPU_IS_LOST`]; [`Return::NOT_FOUND`] for a MIG device that is gone.
pub fn on(state: &State, device: Device) -> Result<Vec<SimProcess>, Return> {
    super::device::resolve(state, device)?;
    let matches = |process: &&SimProcess| match device {
        Device::Gpu(gpu) => process.gpu == gpu,
        Device::Mig(instance) => is_on(process, instance),
    };
    Ok(alive(state).filter(matches).cloned().collect())
}

/// The name of a process.
///
/// # Errors
/// [`Return::NOT_FOUND`] when none with this pid is there.
pub fn name(state: &State, pid: u32) -> Result<String, Return> {
    if let Some(process) = alive(state).find(|process| process.pid == pid) {
        return Ok(process.name.clone());
    }
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).map_err(|_| Return::NOT_FOUND)?;
    let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(program).into_owned())
}

/// Puts a process on a GPU or MIG device, and forgets those that have ended.
///
/// # Errors
/// [`Return::NOT_FOUND`] when the process, the GPU instance or the compute instance does not exist;
/// [`Return::INVALID_ARGUMENT`] when the GPU does not.
pub fn register(state: &mut State, process: SimProcess) -> Result<(), Return> {
    let gpu = state.gpu(process.gpu)?;
    if let Some(gi) = process.gpu_instance {
        let gi = gpu.instance(gi)?;
        if let Some(ci) = process.compute_instance {
            gi.compute(ci)?;
        }
    }
    if start_time(process.pid) != Some(process.started) {
        return Err(Return::NOT_FOUND);
    }
    let kept = alive(state).cloned().collect();
    state.processes = kept;
    state.processes.push(process);
    Ok(())
}

/// Takes a process off every GPU, and forgets those that have ended.
pub fn unregister(state: &mut State, pid: u32) {
    let kept = alive(state)
        .filter(|process| process.pid != pid)
        .cloned()
        .collect();
    state.processes = kept;
}
