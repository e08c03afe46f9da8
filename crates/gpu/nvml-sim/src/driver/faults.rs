//! Faults on demand: what they do at once, and what they do to the calls that follow.

use std::collections::BTreeMap;

use crate::code::Return;
use crate::driver::events;
use crate::state::{ArmedFault, EccCounts, Fault, Moment, SimGpu, State};

/// What the faults do to one call.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Blow {
    /// How long it takes longer, in milliseconds.
    pub delay_ms: u32,
    /// What it answers instead of doing its work.
    pub code: Option<Return>,
    /// The process dies before the call's effect.
    pub abort_before: bool,
    /// The process dies after the call's effect.
    pub abort_after: bool,
}

/// Injects a fault: it happens at once, or waits for its calls. Returns its number.
///
/// # Errors
/// [`Return::INVALID_ARGUMENT`] when it names a GPU that does not exist.
pub fn inject(state: &mut State, fault: Fault) -> Result<u64, Return> {
    let id = state.next_fault;
    match fault {
        Fault::Xid {
            gpu,
            xid,
            gpu_instance,
            compute_instance,
        } => {
            any_gpu(state, gpu)?;
            state.push_event(
                gpu,
                events::XID_CRITICAL,
                xid,
                gpu_instance,
                compute_instance,
            );
        }
        Fault::GpuLost { gpu } => {
            any_gpu(state, gpu)?.lost = true;
            state.push_event(gpu, events::XID_CRITICAL, 79, None, None);
        }
        Fault::Ecc {
            gpu,
            double,
            count,
            gpu_instance,
            compute_instance,
        } => {
            let found = any_gpu(state, gpu)?;
            for counts in [&mut found.ecc_volatile, &mut found.ecc_aggregate] {
                let counter = if double {
                    &mut counts.double
                } else {
                    &mut counts.single
                };
                *counter = counter.saturating_add(count);
            }
            let kind = if double {
                events::DOUBLE_BIT_ECC
            } else {
                events::SINGLE_BIT_ECC
            };
            state.push_event(gpu, kind, 0, gpu_instance, compute_instance);
        }
        fault @ (Fault::CallFails { .. } | Fault::Delay { .. } | Fault::Abort { .. }) => {
            state.faults.push(ArmedFault { id, fault });
        }
    }
    state.next_fault += 1;
    Ok(id)
}

/// Takes back every fault: nothing waits any more, lost GPUs are back, volatile ECC counts are zero.
pub fn clear(state: &mut State) {
    state.faults.clear();
    for gpu in &mut state.gpus {
        gpu.lost = false;
        gpu.ecc_volatile = EccCounts::default();
    }
}

/// Whether the fault waits for this call.
#[must_use]
pub fn waits_for(fault: &Fault, call: &str) -> bool {
    fault.call().is_some_and(|name| name == "*" || name == call)
}

/// What the waiting faults do to this call; counts them down and forgets those that are used up.
pub fn strike(state: &mut State, call: &str) -> Blow {
    let mut blow = Blow::default();
    state.faults.retain_mut(|armed| {
        if !waits_for(&armed.fault, call) {
            return true;
        }
        match &mut armed.fault {
            Fault::CallFails { times, code, .. } => {
                if *times == 0 || blow.code.is_some() {
                    return *times > 0;
                }
                blow.code = Some(*code);
                *times -= 1;
                *times > 0
            }
            Fault::Delay { milliseconds, .. } => {
                blow.delay_ms = blow.delay_ms.saturating_add(*milliseconds);
                true
            }
            Fault::Abort { nth, moment, .. } => {
                *nth = nth.saturating_sub(1);
                if *nth == 0 {
                    match moment {
                        Moment::Before => blow.abort_before = true,
                        Moment::After => blow.abort_after = true,
                    }
                }
                *nth > 0
            }
            Fault::Xid { .. } | Fault::GpuLost { .. } | Fault::Ecc { .. } => true,
        }
    });
    blow
}

/// As [`strike`], for a process that cannot write the state: it counts for itself in `used`, by the fault's number.
pub fn strike_locally(state: &State, used: &mut BTreeMap<u64, u32>, call: &str) -> Blow {
    let mut blow = Blow::default();
    for armed in state
        .faults
        .iter()
        .filter(|armed| waits_for(&armed.fault, call))
    {
        let used = used.entry(armed.id).or_default();
        *used = used.saturating_add(1);
        match &armed.fault {
            Fault::CallFails { times, code, .. } if *used <= *times => {
                blow.code = blow.code.or(Some(*code));
            }
            Fault::Delay { milliseconds, .. } => {
                blow.delay_ms = blow.delay_ms.saturating_add(*milliseconds);
            }
            Fault::Abort { nth, moment, .. } if *used == (*nth).max(1) => match moment {
                Moment::Before => blow.abort_before = true,
                Moment::After => blow.abort_after = true,
            },
            _ => {}
        }
    }
    blow
}

fn any_gpu(state: &mut State, gpu: u32) -> Result<&mut SimGpu, Return> {
    state
        .gpus
        .get_mut(gpu as usize)
        .ok_or(Return::INVALID_ARGUMENT)
}
