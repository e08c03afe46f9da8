//! MIG mode.
//!
//! Ampere changes it with a reset. On bare metal the driver resets an idle GPU by itself, so that the new mode is current at
//! once; a guest cannot (`pass_through`), so the new mode stays pending until the node boots. From Hopper on no reset is
//! needed and the mode is lost with the driver's unload.
#![allow(
    clippy::missing_errors_doc,
    reason = "the codes are NVML's; see the module `driver` and each text"
)]

use crate::code::Return;
use crate::driver::{Device, events, processes};
use crate::state::State;

/// Current and pending mode. `NOT_SUPPORTED` for a MIG device and for a board without MIG.
pub fn get(state: &State, device: Device) -> Result<(bool, bool), Return> {
    let gpu = state.gpu(device.physical()?)?;
    if state.board(gpu)?.profiles.is_empty() {
        return Err(Return::NOT_SUPPORTED);
    }
    Ok((gpu.mig_current, gpu.mig_pending))
}

/// Sets the mode. The `Ok` value is the activation status: `SUCCESS` when it is current, `RESET_REQUIRED` or `IN_USE` when it is
/// pending. `IN_USE` as an error when instances stand in the way of disabling; `NOT_SUPPORTED` as [`get`].
pub fn set(state: &mut State, device: Device, enable: bool) -> Result<Return, Return> {
    let (current, _) = get(state, device)?;
    let minor = device.gpu();
    let gpu = state.gpu(minor)?;
    let needs_reset = state.board(gpu)?.mode_change_needs_reset;
    if current && !enable && !gpu.instances.is_empty() {
        return Err(Return::IN_USE);
    }
    let activation = if current == enable {
        Return::SUCCESS
    } else if processes::alive(state).any(|process| process.gpu == minor) {
        Return::IN_USE
    } else if needs_reset && gpu.pass_through {
        Return::RESET_REQUIRED
    } else {
        Return::SUCCESS
    };
    let gpu = state.gpu_mut(minor)?;
    gpu.mig_pending = enable;
    if activation == Return::SUCCESS && current != enable {
        gpu.mig_current = enable;
        gpu.instances.clear();
        state.push_event(minor, events::MIG_CONFIG_CHANGE, 0, None, None);
    }
    Ok(activation)
}

/// Resets one GPU as `nvidia-smi --gpu-reset` does: instances and errors are gone, the pending mode is current.
/// `IN_USE` while a process uses it, `NOT_SUPPORTED` where the machine is a guest that can't.
pub fn reset(state: &mut State, gpu: u32) -> Result<(), Return> {
    if state
        .gpus
        .get(gpu as usize)
        .ok_or(Return::INVALID_ARGUMENT)?
        .pass_through
    {
        return Err(Return::NOT_SUPPORTED);
    }
    if processes::alive(state).any(|process| process.gpu == gpu) {
        return Err(Return::IN_USE);
    }
    let found = state
        .gpus
        .get_mut(gpu as usize)
        .ok_or(Return::INVALID_ARGUMENT)?;
    found.mig_current = found.mig_pending;
    found.instances.clear();
    found.lost = false;
    found.ecc_volatile = crate::state::EccCounts::default();
    state.push_event(gpu, events::MIG_CONFIG_CHANGE, 0, None, None);
    Ok(())
}

/// Boots the node: no instance and no process is left, lost GPUs are back, Ampere's pending mode is current, later
/// boards' mode is off. Faults that wait for calls keep waiting.
pub fn reboot(state: &mut State) {
    state.boots += 1;
    state.processes.clear();
    for index in 0..state.gpus.len() {
        let Some(gpu) = state.gpus.get_mut(index) else {
            continue;
        };
        let keeps = state
            .boards
            .get(gpu.board as usize)
            .is_some_and(|board| board.mode_change_needs_reset);
        gpu.mig_pending = keeps && gpu.mig_pending;
        gpu.mig_current = gpu.mig_pending;
        gpu.instances.clear();
        gpu.lost = false;
        gpu.ecc_volatile = crate::state::EccCounts::default();
        let minor = gpu.minor;
        state.push_event(minor, events::MIG_CONFIG_CHANGE, 0, None, None);
    }
}
