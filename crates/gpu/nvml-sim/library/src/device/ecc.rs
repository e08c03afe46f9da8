//! ECC: errors, remapped rows, repairs. ECC is always on; all errors are in device memory.

use std::ffi::{c_uint, c_ulonglong};

use nvml_sim::driver::{Device, status};
use nvml_sim::{Return, State};
use nvml_wrapper_sys::bindings::{
    nvmlEccErrorCounts_t, nvmlEccSramErrorStatus_v1_t, nvmlRepairStatus_v1_t,
    nvmlRowRemapperHistogramValues_t,
};

use crate::abi::{Out, expect_version};
use crate::handle::DeviceHandle;

/// Errors of a type (0 corrected, 1 uncorrected) by a counter (0 since boot, 1 since the board was
/// made).
pub(crate) fn errors(
    state: &State,
    device: Device,
    kind: c_uint,
    counter: c_uint,
) -> Result<u64, Return> {
    let (volatile, aggregate) = status::ecc(state, device)?;
    let counts = match counter {
        0 => volatile,
        1 => aggregate,
        _ => return Err(Return::INVALID_ARGUMENT),
    };
    match kind {
        0 => Ok(counts.single),
        1 => Ok(counts.double),
        _ => Err(Return::INVALID_ARGUMENT),
    }
}

nvml! {
    fn nvmlDeviceGetEccMode(
        handle: DeviceHandle,
        current: Out<c_uint>,
        pending: Out<c_uint>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        pending.check()?;
        current.set(1)?;
        pending.set(1)
    }

    fn nvmlDeviceGetDefaultEccMode(handle: DeviceHandle, mode: Out<c_uint>) read |state, _| {
        status::readings(state, handle.get()?)?;
        mode.set(1)
    }

    fn nvmlDeviceGetTotalEccErrors(
        handle: DeviceHandle,
        kind: c_uint,
        counter: c_uint,
        count: Out<c_ulonglong>,
    ) read |state, _| {
        count.set(errors(state, handle.get()?, kind, counter)?)
    }

    /// Device memory has the errors, SRAM none; the other places are of older boards.
    fn nvmlDeviceGetMemoryErrorCounter(
        handle: DeviceHandle,
        kind: c_uint,
        counter: c_uint,
        location: c_uint,
        count: Out<c_ulonglong>,
    ) read |state, _| {
        let found = errors(state, handle.get()?, kind, counter)?;
        match location {
            2 => count.set(found),
            7 => count.set(0),
            0..=6 => Err(Return::NOT_SUPPORTED),
            _ => Err(Return::INVALID_ARGUMENT),
        }
    }

    fn nvmlDeviceGetDetailedEccErrors(
        handle: DeviceHandle,
        kind: c_uint,
        counter: c_uint,
        counts: Out<nvmlEccErrorCounts_t>,
    ) read |state, _| {
        counts.set(nvmlEccErrorCounts_t {
            l1Cache: 0,
            l2Cache: 0,
            deviceMemory: errors(state, handle.get()?, kind, counter)?,
            registerFile: 0,
        })
    }

    fn nvmlDeviceGetSramEccErrorStatus(
        handle: DeviceHandle,
        status: Out<nvmlEccSramErrorStatus_v1_t>,
    ) read |state, _| {
        let version = status.version()?;
        expect_version::<nvmlEccSramErrorStatus_v1_t>(version, 1)?;
        status::readings(state, handle.get()?)?;
        status.set(nvmlEccSramErrorStatus_v1_t {
            version,
            aggregateUncParity: 0,
            aggregateUncSecDed: 0,
            aggregateCor: 0,
            volatileUncParity: 0,
            volatileUncSecDed: 0,
            volatileCor: 0,
            aggregateUncBucketL2: 0,
            aggregateUncBucketSm: 0,
            aggregateUncBucketPcie: 0,
            aggregateUncBucketMcu: 0,
            aggregateUncBucketOther: 0,
            bThresholdExceeded: 0,
        })
    }

    fn nvmlDeviceGetRemappedRows(
        handle: DeviceHandle,
        corrected: Out<c_uint>,
        uncorrected: Out<c_uint>,
        pending: Out<c_uint>,
        failed: Out<c_uint>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        let all = [corrected, uncorrected, pending, failed];
        for out in all {
            out.check()?;
        }
        all.into_iter().try_for_each(|out| out.set(0))
    }

    /// Every bank of an H200's size has all its spare rows.
    fn nvmlDeviceGetRowRemapperHistogram(
        handle: DeviceHandle,
        values: Out<nvmlRowRemapperHistogramValues_t>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        values.set(nvmlRowRemapperHistogramValues_t {
            max: 3072,
            high: 0,
            partial: 0,
            low: 0,
            none: 0,
        })
    }

    fn nvmlDeviceGetRepairStatus(
        handle: DeviceHandle,
        status: Out<nvmlRepairStatus_v1_t>,
    ) read |state, _| {
        let version = status.version()?;
        expect_version::<nvmlRepairStatus_v1_t>(version, 1)?;
        status::readings(state, handle.get()?)?;
        status.set(nvmlRepairStatus_v1_t {
            version,
            bChannelRepairPending: 0,
            bTpcRepairPending: 0,
        })
    }
}
