//! Modes and features that never change here, answered as an idle H200 answers them.

use std::ffi::{c_uint, c_ulonglong};

use nvml_sim::Return;
use nvml_sim::driver::{device, status};
use nvml_wrapper_sys::bindings::{
    nvmlC2cModeInfo_v1_t, nvmlDeviceAddressingMode_v1_t, nvmlDeviceCapabilities_v1_t,
    nvmlFBCStats_t, nvmlGpmSupport_t, nvmlGpuFabricInfo_t, nvmlGpuFabricInfo_v2_t,
    nvmlGpuFabricInfo_v3_t, nvmlPlatformInfo_v1_t, nvmlPlatformInfo_v2_t,
};

use crate::abi::{Out, expect_version, version_of};
use crate::handle::DeviceHandle;

nvml! {
    fn nvmlDeviceGetPersistenceMode(handle: DeviceHandle, mode: Out<c_uint>) read |state, _| {
        status::readings(state, handle.get()?)?;
        mode.set(1)
    }

    fn nvmlDeviceGetComputeMode(handle: DeviceHandle, mode: Out<c_uint>) read |state, _| {
        device::resolve(state, handle.get()?)?;
        mode.set(0)
    }

    fn nvmlDeviceGetDisplayMode(handle: DeviceHandle, display: Out<c_uint>) read |state, _| {
        status::readings(state, handle.get()?)?;
        display.set(1)
    }

    fn nvmlDeviceGetDisplayActive(handle: DeviceHandle, active: Out<c_uint>) read |state, _| {
        status::readings(state, handle.get()?)?;
        active.set(0)
    }

    /// `NVML_GPU_VIRTUALIZATION_MODE_PASSTHROUGH` where the machine is a guest, else none.
    fn nvmlDeviceGetVirtualizationMode(handle: DeviceHandle, mode: Out<c_uint>) read |state, _| {
        mode.set(c_uint::from(state.gpu(handle.get()?.physical()?)?.pass_through))
    }

    fn nvmlDeviceGetAddressingMode(
        handle: DeviceHandle,
        mode: Out<nvmlDeviceAddressingMode_v1_t>,
    ) read |state, _| {
        let version = mode.version()?;
        expect_version::<nvmlDeviceAddressingMode_v1_t>(version, 1)?;
        status::readings(state, handle.get()?)?;
        mode.set(nvmlDeviceAddressingMode_v1_t { version, value: 0 })
    }

    fn nvmlDeviceGetCapabilities(
        handle: DeviceHandle,
        capabilities: Out<nvmlDeviceCapabilities_v1_t>,
    ) read |state, _| {
        let version = capabilities.version()?;
        expect_version::<nvmlDeviceCapabilities_v1_t>(version, 1)?;
        status::readings(state, handle.get()?)?;
        capabilities.set(nvmlDeviceCapabilities_v1_t { version, capMask: 0 })
    }

    fn nvmlDeviceGetC2cModeInfoV(
        handle: DeviceHandle,
        info: Out<nvmlC2cModeInfo_v1_t>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        info.set(nvmlC2cModeInfo_v1_t { isC2cEnabled: 0 })
    }

    /// There is no fabric.
    fn nvmlDeviceGetGpuFabricInfo(
        handle: DeviceHandle,
        info: Out<nvmlGpuFabricInfo_t>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        info.set(nvmlGpuFabricInfo_t { clusterUuid: [0; 16], status: 0, cliqueId: 0, state: 0 })
    }

    fn nvmlDeviceGetGpuFabricInfoV(
        handle: DeviceHandle,
        info: Out<nvmlGpuFabricInfo_v3_t>,
    ) read |state, _| {
        let version = info.version()?;
        status::readings(state, handle.get()?)?;
        if version == version_of::<nvmlGpuFabricInfo_v2_t>(2) {
            return info.cast().set(nvmlGpuFabricInfo_v2_t {
                version,
                clusterUuid: [0; 16],
                status: 0,
                cliqueId: 0,
                state: 0,
                healthMask: 0,
            });
        }
        expect_version::<nvmlGpuFabricInfo_v3_t>(version, 3)?;
        info.set(nvmlGpuFabricInfo_v3_t {
            version,
            clusterUuid: [0; 16],
            status: 0,
            cliqueId: 0,
            state: 0,
            healthMask: 0,
            healthSummary: 0,
        })
    }

    fn nvmlDeviceGetPlatformInfo(
        handle: DeviceHandle,
        info: Out<nvmlPlatformInfo_v2_t>,
    ) read |state, _| {
        let version = info.version()?;
        let module = device::minor(state, handle.get()?)? + 1;
        let module = u8::try_from(module).unwrap_or(u8::MAX);
        if version == version_of::<nvmlPlatformInfo_v1_t>(1) {
            return info.cast().set(nvmlPlatformInfo_v1_t {
                version,
                ibGuid: [0; 16],
                rackGuid: [0; 16],
                chassisPhysicalSlotNumber: 0,
                computeSlotIndex: 0,
                nodeIndex: 0,
                peerType: 1,
                moduleId: module,
            });
        }
        expect_version::<nvmlPlatformInfo_v2_t>(version, 2)?;
        info.set(nvmlPlatformInfo_v2_t {
            version,
            ibGuid: [0; 16],
            chassisSerialNumber: [0; 16],
            slotNumber: 0,
            trayIndex: 0,
            hostId: 0,
            peerType: 1,
            moduleId: module,
        })
    }

    fn nvmlDeviceGetAccountingMode(handle: DeviceHandle, mode: Out<c_uint>) read |state, _| {
        status::readings(state, handle.get()?)?;
        mode.set(0)
    }

    fn nvmlDeviceGetAccountingBufferSize(handle: DeviceHandle, size: Out<c_uint>) read |state, _| {
        status::readings(state, handle.get()?)?;
        size.set(4000)
    }

    fn nvmlDeviceGetAccountingPids(
        handle: DeviceHandle,
        count: Out<c_uint>,
        pids: Out<c_uint>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        pids.set_counted(count, &[])
    }

    fn nvmlDeviceGetAccountingStats(
        handle: DeviceHandle,
        _pid: c_uint,
        _stats: Out<u8>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        Err(Return::NOT_FOUND)
    }

    fn nvmlDeviceGetEncoderCapacity(
        handle: DeviceHandle,
        _kind: c_uint,
        capacity: Out<c_uint>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        capacity.set(100)
    }

    fn nvmlDeviceGetEncoderStats(
        handle: DeviceHandle,
        sessions: Out<c_uint>,
        fps: Out<c_uint>,
        latency: Out<c_uint>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        fps.check()?;
        latency.check()?;
        sessions.set(0)?;
        fps.set(0)?;
        latency.set(0)
    }

    fn nvmlDeviceGetEncoderSessions(
        handle: DeviceHandle,
        count: Out<c_uint>,
        _sessions: Out<u8>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        count.set(0)
    }

    fn nvmlDeviceGetFBCStats(handle: DeviceHandle, stats: Out<nvmlFBCStats_t>) read |state, _| {
        status::readings(state, handle.get()?)?;
        stats.set(nvmlFBCStats_t { sessionsCount: 0, averageFPS: 0, averageLatency: 0 })
    }

    fn nvmlDeviceGetFBCSessions(
        handle: DeviceHandle,
        count: Out<c_uint>,
        _sessions: Out<u8>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        count.set(0)
    }

    fn nvmlDeviceGetIrqNum(handle: DeviceHandle, irq: Out<c_uint>) read |state, _| {
        irq.set(device::minor(state, handle.get()?)? + 41)
    }

    /// No licence is asked for, and no feature is listed. Only the two leading numbers of the
    /// struct are written.
    fn nvmlDeviceGetGridLicensableFeatures_v4(
        handle: DeviceHandle,
        features: Out<[c_uint; 2]>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        features.set([0, 0])
    }

    fn nvmlDeviceGetGridLicensableFeatures_v3(
        handle: DeviceHandle,
        features: Out<[c_uint; 2]>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        features.set([0, 0])
    }

    fn nvmlDeviceGetGridLicensableFeatures_v2(
        handle: DeviceHandle,
        features: Out<[c_uint; 2]>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        features.set([0, 0])
    }

    fn nvmlDeviceGetGridLicensableFeatures(
        handle: DeviceHandle,
        features: Out<[c_uint; 2]>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        features.set([0, 0])
    }

    /// GPM's samples are not simulated, which is a difference from a real H200.
    fn nvmlGpmQueryDeviceSupport(
        handle: DeviceHandle,
        support: Out<nvmlGpmSupport_t>,
    ) read |state, _| {
        let version = support.version()?;
        status::readings(state, handle.get()?)?;
        support.set(nvmlGpmSupport_t { version, isSupportedDevice: 0 })
    }

    fn nvmlDeviceGetLastBBXFlushTime(
        handle: DeviceHandle,
        _timestamp: Out<c_ulonglong>,
        _duration: Out<u8>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        Err(Return::NOT_READY)
    }
}
