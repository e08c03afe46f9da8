//! How GPUs are connected to each other, to CPUs and memory. The driver spreads its GPUs over two
//! NUMA nodes, or one for a single GPU; this machine's CPUs are halved in the same way.

use std::ffi::{c_uint, c_ulong};
use std::ops::Range;

use nvml_sim::driver::status::{self, TopologyLevel};
use nvml_sim::driver::{Device, device};
use nvml_sim::{Return, State};
use nvml_wrapper_sys::bindings::nvmlDevice_t;

use crate::abi::{Out, length};
use crate::handle::DeviceHandle;

/// `NVML_P2P_STATUS_OK`.
const P2P_OK: c_uint = 0;
/// `NVML_P2P_STATUS_NOT_SUPPORTED`.
const P2P_NOT_SUPPORTED: c_uint = 5;
/// Capabilities from `NVML_P2P_CAPS_INDEX_READ` to `PROP`; the real driver answers OK for the rest.
const P2P_CAPABILITIES: c_uint = 5;

/// The NUMA node of a GPU, in step with the driver's topology: those with GPU 0 on one, the others
/// on the next.
fn numa_node(state: &State, gpu: u32) -> u32 {
    let level = status::topology(state, Device::Gpu(0), Device::Gpu(gpu));
    u32::from(level == Ok(TopologyLevel::System))
}

/// The CPUs near a GPU.
pub(crate) fn cpus(state: &State, gpu: u32) -> Range<c_uint> {
    let all = length(std::thread::available_parallelism().map_or(1, usize::from));
    if state.gpus.len() < 2 {
        return 0..all;
    }
    match numa_node(state, gpu) {
        0 => 0..all.div_ceil(2),
        _ => all / 2..all,
    }
}

/// Writes a set of bits in `words` words.
fn set_bits(out: Out<c_ulong>, words: c_uint, bits: Range<c_uint>) -> Result<(), Return> {
    if words == 0 {
        return Err(Return::INVALID_ARGUMENT);
    }
    let set: Vec<c_ulong> = (0..words)
        .map(|word| {
            let first = u64::from(word) * u64::from(c_ulong::BITS);
            (0..c_ulong::BITS)
                .filter(|bit| {
                    let number = first + u64::from(*bit);
                    (u64::from(bits.start)..u64::from(bits.end)).contains(&number)
                })
                .fold(0, |mask, bit| mask | (1 << bit))
        })
        .collect();
    out.set_all(&set)
}

nvml! {
    fn nvmlDeviceGetCpuAffinity(
        handle: DeviceHandle,
        words: c_uint,
        set: Out<c_ulong>,
    ) read |state, _| {
        set_bits(set, words, cpus(state, device::minor(state, handle.get()?)?))
    }

    fn nvmlDeviceGetCpuAffinityWithinScope(
        handle: DeviceHandle,
        words: c_uint,
        set: Out<c_ulong>,
        scope: c_uint,
    ) read |state, _| {
        if scope > 1 {
            return Err(Return::INVALID_ARGUMENT);
        }
        set_bits(set, words, cpus(state, device::minor(state, handle.get()?)?))
    }

    fn nvmlDeviceGetMemoryAffinity(
        handle: DeviceHandle,
        words: c_uint,
        set: Out<c_ulong>,
        scope: c_uint,
    ) read |state, _| {
        if scope > 1 {
            return Err(Return::INVALID_ARGUMENT);
        }
        let node = numa_node(state, device::minor(state, handle.get()?)?);
        set_bits(set, words, node..node + 1)
    }

    /// `NOT_SUPPORTED` for a GPU and itself, as the real driver.
    fn nvmlDeviceGetTopologyCommonAncestor(
        one: DeviceHandle,
        other: DeviceHandle,
        level: Out<c_uint>,
    ) read |state, _| {
        match status::topology(state, one.get()?, other.get()?)? {
            TopologyLevel::Internal => Err(Return::NOT_SUPPORTED),
            found => level.set(found as c_uint),
        }
    }

    /// The GPUs that are exactly at this level. With a null array only their number.
    fn nvmlDeviceGetTopologyNearestGpus(
        handle: DeviceHandle,
        level: c_uint,
        count: Out<c_uint>,
        devices: Out<nvmlDevice_t>,
    ) read |state, view| {
        let gpu = handle.get()?;
        gpu.physical()?;
        let mut near = Vec::new();
        let others = state.gpus.iter().filter(|other| other.minor != gpu.gpu());
        for other in others.filter(|other| view.gpu(other.minor)) {
            let other = Device::Gpu(other.minor);
            // A lost GPU is near nobody.
            if status::topology(state, gpu, other).is_ok_and(|found| found as c_uint == level) {
                near.push(DeviceHandle::raw(other));
            }
        }
        if devices.check().is_err() {
            count.set(length(near.len()))
        } else {
            devices.set_counted(count, &near)
        }
    }

    /// GPUs reach each other by `NVLink` where the board has it, and not while one is in MIG mode.
    fn nvmlDeviceGetP2PStatus(
        one: DeviceHandle,
        other: DeviceHandle,
        capability: c_uint,
        out: Out<c_uint>,
    ) read |state, _| {
        let (one, other) = (one.get()?.physical()?, other.get()?.physical()?);
        let gpus = [state.gpu(one)?, state.gpu(other)?];
        let mut reachable = one != other;
        for gpu in gpus {
            reachable &= !gpu.mig_current && state.board(gpu)?.readings.nvlinks > 0;
        }
        let ok = capability >= P2P_CAPABILITIES || reachable;
        out.set(if ok { P2P_OK } else { P2P_NOT_SUPPORTED })
    }

    /// Links are up between the GPUs of a machine; a single GPU has none to link to, as seen on an
    /// H200.
    fn nvmlDeviceGetNvLinkState(
        handle: DeviceHandle,
        link: c_uint,
        active: Out<c_uint>,
    ) read |state, _| {
        let links = status::readings(state, handle.get()?)?.nvlinks;
        if state.gpus.len() < 2 || links == 0 {
            return Err(Return::NOT_SUPPORTED);
        }
        if link >= links {
            return Err(Return::INVALID_ARGUMENT);
        }
        active.set(1)
    }
}
