//! Clocks, temperature, fans, power, utilisation.

use std::ffi::{c_int, c_uint, c_ulonglong};

use nvml_sim::driver::Device;
use nvml_sim::driver::status::{self, Clock, TemperatureThreshold};
use nvml_sim::{Return, State};
use nvml_wrapper_sys::bindings::{
    nvmlFanSpeedInfo_v1_t, nvmlGpuDynamicPstatesInfo_t, nvmlGpuThermalSettings_t,
    nvmlMarginTemperature_v1_t, nvmlTemperature_v1_t, nvmlUtilization_t, nvmlViolationTime_t,
};

use crate::abi::{Out, expect_version};
use crate::handle::DeviceHandle;

/// `NVML_PSTATE_UNKNOWN`.
const PSTATE_UNKNOWN: c_uint = 32;
/// How long the engines' utilisation is sampled, in microseconds, as on an H200.
const SAMPLING_PERIOD_US: c_uint = 100_000;
/// Graphics clocks come in steps of this many MHz.
const CLOCK_STEP_MHZ: u32 = 15;

/// Application and boost clocks: those of the highest state, for graphics, SM and memory.
fn top_clock(state: &State, device: Device, clock: c_uint) -> Result<u32, Return> {
    match Clock::from_number(clock)? {
        Clock::Video => Err(Return::NOT_SUPPORTED),
        clock => status::max_clock(state, device, clock),
    }
}

/// Encoders and the like: nothing uses them.
fn idle_engine(
    state: &State,
    handle: DeviceHandle,
    utilization: Out<c_uint>,
    period: Out<c_uint>,
) -> Result<(), Return> {
    status::readings(state, handle.get()?)?;
    period.check()?;
    utilization.set(0)?;
    period.set(SAMPLING_PERIOD_US)
}

/// There is no fan: these boards are cooled by their server.
fn no_fan(state: &State, handle: DeviceHandle) -> Result<(), Return> {
    status::readings(state, handle.get()?)?;
    Err(Return::INVALID_ARGUMENT)
}

nvml! {
    fn nvmlDeviceGetClockInfo(
        handle: DeviceHandle,
        clock: c_uint,
        mhz: Out<c_uint>,
    ) read |state, _| {
        let device = handle.get()?;
        // One past the last kind, which the real driver does not refuse as invalid.
        if clock == 4 {
            return Err(Return::NOT_SUPPORTED);
        }
        mhz.set(status::clock(state, device, Clock::from_number(clock)?)?)
    }

    fn nvmlDeviceGetMaxClockInfo(
        handle: DeviceHandle,
        clock: c_uint,
        mhz: Out<c_uint>,
    ) read |state, _| {
        mhz.set(status::max_clock(state, handle.get()?, Clock::from_number(clock)?)?)
    }

    fn nvmlDeviceGetClock(
        handle: DeviceHandle,
        clock: c_uint,
        id: c_uint,
        mhz: Out<c_uint>,
    ) read |state, _| {
        let device = handle.get()?;
        match id {
            // NVML_CLOCK_ID_CURRENT
            0 => mhz.set(status::clock(state, device, Clock::from_number(clock)?)?),
            // The application clock's target and default, and the customer's boost.
            1..=3 => mhz.set(top_clock(state, device, clock)?),
            _ => Err(Return::INVALID_ARGUMENT),
        }
    }

    fn nvmlDeviceGetApplicationsClock(
        handle: DeviceHandle,
        clock: c_uint,
        mhz: Out<c_uint>,
    ) read |state, _| {
        mhz.set(top_clock(state, handle.get()?, clock)?)
    }

    fn nvmlDeviceGetDefaultApplicationsClock(
        handle: DeviceHandle,
        clock: c_uint,
        mhz: Out<c_uint>,
    ) read |state, _| {
        mhz.set(top_clock(state, handle.get()?, clock)?)
    }

    /// Only for graphics and SM.
    fn nvmlDeviceGetMaxCustomerBoostClock(
        handle: DeviceHandle,
        clock: c_uint,
        mhz: Out<c_uint>,
    ) read |state, _| {
        match Clock::from_number(clock)? {
            Clock::Memory => Err(Return::NOT_SUPPORTED),
            _ => mhz.set(top_clock(state, handle.get()?, clock)?),
        }
    }

    /// One memory clock; real boards have a second, lower one.
    fn nvmlDeviceGetSupportedMemoryClocks(
        handle: DeviceHandle,
        count: Out<c_uint>,
        clocks: Out<c_uint>,
    ) read |state, _| {
        clocks.set_counted(count, &[status::readings(state, handle.get()?)?.memory_mhz])
    }

    fn nvmlDeviceGetSupportedGraphicsClocks(
        handle: DeviceHandle,
        memory_mhz: c_uint,
        count: Out<c_uint>,
        clocks: Out<c_uint>,
    ) read |state, _| {
        let readings = status::readings(state, handle.get()?)?;
        if memory_mhz != readings.memory_mhz {
            return Err(Return::INVALID_ARGUMENT);
        }
        let steps = readings.max_sm_mhz.saturating_sub(readings.idle_sm_mhz) / CLOCK_STEP_MHZ;
        let clock = |step| readings.max_sm_mhz - step * CLOCK_STEP_MHZ;
        let supported: Vec<c_uint> = (0..=steps).map(clock).collect();
        clocks.set_counted(count, &supported)
    }

    fn nvmlDeviceGetMinMaxClockOfPState(
        handle: DeviceHandle,
        clock: c_uint,
        pstate: c_uint,
        low: Out<c_uint>,
        high: Out<c_uint>,
    ) read |state, _| {
        let device = handle.get()?;
        let readings = status::readings(state, device)?;
        let clock = Clock::from_number(clock)?;
        if pstate != 0 {
            return Err(Return::INVALID_ARGUMENT);
        }
        high.check()?;
        low.set(match clock {
            Clock::Graphics | Clock::Sm => readings.idle_sm_mhz,
            Clock::Memory => readings.memory_mhz,
            Clock::Video => readings.idle_video_mhz,
        })?;
        high.set(status::max_clock(state, device, clock)?)
    }

    fn nvmlDeviceGetGpcClkVfOffset(handle: DeviceHandle, offset: Out<c_int>) read |state, _| {
        status::readings(state, handle.get()?)?;
        offset.set(0)
    }

    fn nvmlDeviceGetMemClkVfOffset(handle: DeviceHandle, offset: Out<c_int>) read |state, _| {
        status::readings(state, handle.get()?)?;
        offset.set(0)
    }

    fn nvmlDeviceGetGpcClkMinMaxVfOffset(
        handle: DeviceHandle,
        low: Out<c_int>,
        high: Out<c_int>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        high.check()?;
        low.set(0)?;
        high.set(0)
    }

    fn nvmlDeviceGetMemClkMinMaxVfOffset(
        handle: DeviceHandle,
        low: Out<c_int>,
        high: Out<c_int>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        high.check()?;
        low.set(0)?;
        high.set(0)
    }

    fn nvmlDeviceGetAdaptiveClockInfoStatus(
        handle: DeviceHandle,
        status: Out<c_uint>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        status.set(1)
    }

    fn nvmlDeviceGetCurrentClocksEventReasons(
        handle: DeviceHandle,
        reasons: Out<c_ulonglong>,
    ) read |state, _| {
        reasons.set(clock_reasons(state, handle.get()?)?)
    }

    fn nvmlDeviceGetCurrentClocksThrottleReasons(
        handle: DeviceHandle,
        reasons: Out<c_ulonglong>,
    ) read |state, _| {
        reasons.set(clock_reasons(state, handle.get()?)?)
    }

    fn nvmlDeviceGetSupportedClocksEventReasons(
        handle: DeviceHandle,
        reasons: Out<c_ulonglong>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        reasons.set(0x1FF)
    }

    fn nvmlDeviceGetSupportedClocksThrottleReasons(
        handle: DeviceHandle,
        reasons: Out<c_ulonglong>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        reasons.set(0x1FF)
    }

    fn nvmlDeviceGetViolationStatus(
        handle: DeviceHandle,
        policy: c_uint,
        time: Out<nvmlViolationTime_t>,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        if policy > 11 {
            return Err(Return::INVALID_ARGUMENT);
        }
        let now = crate::fields::now_us().cast_unsigned();
        time.set(nvmlViolationTime_t { referenceTime: now, violationTime: 0 })
    }

    fn nvmlDeviceGetPerformanceState(handle: DeviceHandle, pstate: Out<c_uint>) read |state, _| {
        status::readings(state, handle.get()?)?;
        pstate.set(0)
    }

    fn nvmlDeviceGetPowerState(handle: DeviceHandle, pstate: Out<c_uint>) read |state, _| {
        status::readings(state, handle.get()?)?;
        pstate.set(0)
    }

    /// Takes a size in bytes and fills the rest with `NVML_PSTATE_UNKNOWN`.
    fn nvmlDeviceGetSupportedPerformanceStates(
        handle: DeviceHandle,
        pstates: Out<c_uint>,
        size: c_uint,
    ) read |state, _| {
        status::readings(state, handle.get()?)?;
        let room = size as usize / size_of::<c_uint>();
        if room == 0 {
            return Err(Return::INSUFFICIENT_SIZE);
        }
        let mut supported = vec![PSTATE_UNKNOWN; room];
        if let Some(first) = supported.first_mut() {
            *first = 0;
        }
        pstates.set_all(&supported)
    }

    fn nvmlDeviceGetDynamicPstatesInfo(
        handle: DeviceHandle,
        info: Out<nvmlGpuDynamicPstatesInfo_t>,
    ) read |state, _| {
        let device = handle.get()?;
        let busy = status::utilization(state, device)?;
        info.check()?;
        let words = info.cast::<c_uint>();
        // The flags, then for each of eight domains: present, percentage, and two thresholds.
        words.set(0)?;
        for domain in 0..8 {
            let percentage = if domain == 0 { busy.gpu } else { 0 };
            let values = [c_uint::from(domain < 4), percentage, 0, 0];
            words.at(1 + 4 * domain)?.set_all(&values)?;
        }
        Ok(())
    }

    fn nvmlDeviceGetTemperature(
        handle: DeviceHandle,
        sensor: c_uint,
        celsius: Out<c_uint>,
    ) read |state, _| {
        let device = handle.get()?;
        if sensor != 0 {
            return Err(Return::INVALID_ARGUMENT);
        }
        celsius.set(status::temperature(state, device)?)
    }

    fn nvmlDeviceGetTemperatureV(
        handle: DeviceHandle,
        temperature: Out<nvmlTemperature_v1_t>,
    ) read |state, _| {
        let version = temperature.version()?;
        if expect_version::<nvmlTemperature_v1_t>(version, 1).is_err() {
            return Err(Return::INVALID_ARGUMENT);
        }
        let sensor = temperature.get()?.sensorType;
        if sensor != 0 {
            return Err(Return::INVALID_ARGUMENT);
        }
        let celsius = status::temperature(state, handle.get()?)?.cast_signed();
        temperature.set(nvmlTemperature_v1_t { version, sensorType: sensor, temperature: celsius })
    }

    fn nvmlDeviceGetMarginTemperature(
        handle: DeviceHandle,
        margin: Out<nvmlMarginTemperature_v1_t>,
    ) read |state, _| {
        let version = margin.version()?;
        expect_version::<nvmlMarginTemperature_v1_t>(version, 1)?;
        let degrees = temperature_margin(state, handle.get()?)?;
        margin.set(nvmlMarginTemperature_v1_t { version, marginTemperature: degrees })
    }

    fn nvmlDeviceGetTemperatureThreshold(
        handle: DeviceHandle,
        threshold: c_uint,
        celsius: Out<c_uint>,
    ) read |state, _| {
        let device = handle.get()?;
        if threshold > 7 {
            return Err(Return::INVALID_ARGUMENT);
        }
        let threshold = TemperatureThreshold::from_number(threshold)?;
        celsius.set(status::temperature_threshold(state, device, threshold)?)
    }

    fn nvmlDeviceGetThermalSettings(
        handle: DeviceHandle,
        sensor: c_uint,
        settings: Out<nvmlGpuThermalSettings_t>,
    ) read |state, _| {
        let celsius = status::temperature(state, handle.get()?)?;
        // NVML_THERMAL_TARGET_ALL is 15.
        if sensor != 0 && sensor != 15 {
            return Err(Return::INVALID_ARGUMENT);
        }
        // One sensor: controller GPU_INTERNAL, from 0 to 127 degrees, now, target GPU.
        settings.cast::<c_uint>().set_all(&[1, 1, 0, 127, celsius, 1])
    }

    fn nvmlDeviceGetNumFans(handle: DeviceHandle, fans: Out<c_uint>) read |state, _| {
        status::readings(state, handle.get()?)?;
        fans.set(0)
    }

    fn nvmlDeviceGetFanSpeed_v2(
        handle: DeviceHandle,
        _fan: c_uint,
        _speed: Out<c_uint>,
    ) read |state, _| {
        no_fan(state, handle)
    }

    fn nvmlDeviceGetTargetFanSpeed(
        handle: DeviceHandle,
        _fan: c_uint,
        _speed: Out<c_uint>,
    ) read |state, _| {
        no_fan(state, handle)
    }

    fn nvmlDeviceGetMinMaxFanSpeed(
        handle: DeviceHandle,
        _low: Out<c_uint>,
        _high: Out<c_uint>,
    ) read |state, _| {
        no_fan(state, handle)
    }

    fn nvmlDeviceGetFanControlPolicy_v2(
        handle: DeviceHandle,
        _fan: c_uint,
        _policy: Out<c_uint>,
    ) read |state, _| {
        no_fan(state, handle)
    }

    fn nvmlDeviceGetFanSpeedRPM(
        handle: DeviceHandle,
        speed: Out<nvmlFanSpeedInfo_v1_t>,
    ) read |state, _| {
        expect_version::<nvmlFanSpeedInfo_v1_t>(speed.version()?, 1)?;
        no_fan(state, handle)
    }

    fn nvmlDeviceGetPowerUsage(handle: DeviceHandle, milliwatts: Out<c_uint>) read |state, _| {
        milliwatts.set(status::power_draw(state, handle.get()?)?)
    }

    fn nvmlDeviceGetPowerManagementMode(handle: DeviceHandle, mode: Out<c_uint>) read |state, _| {
        status::readings(state, handle.get()?)?;
        mode.set(1)
    }

    fn nvmlDeviceGetPowerManagementLimit(
        handle: DeviceHandle,
        milliwatts: Out<c_uint>,
    ) read |state, _| {
        milliwatts.set(status::power_limits(state, handle.get()?)?.0)
    }

    fn nvmlDeviceGetEnforcedPowerLimit(
        handle: DeviceHandle,
        milliwatts: Out<c_uint>,
    ) read |state, _| {
        milliwatts.set(status::power_limits(state, handle.get()?)?.0)
    }

    fn nvmlDeviceGetPowerManagementDefaultLimit(
        handle: DeviceHandle,
        milliwatts: Out<c_uint>,
    ) read |state, _| {
        milliwatts.set(status::power_limits(state, handle.get()?)?.0)
    }

    fn nvmlDeviceGetPowerManagementLimitConstraints(
        handle: DeviceHandle,
        low: Out<c_uint>,
        high: Out<c_uint>,
    ) read |state, _| {
        let (_, lowest, highest) = status::power_limits(state, handle.get()?)?;
        high.check()?;
        low.set(lowest)?;
        high.set(highest)
    }

    fn nvmlDeviceGetPowerSource(handle: DeviceHandle, source: Out<c_uint>) read |state, _| {
        status::readings(state, handle.get()?)?;
        source.set(0)
    }

    /// In millijoules: what the GPU draws now, since this machine was booted.
    fn nvmlDeviceGetTotalEnergyConsumption(
        handle: DeviceHandle,
        energy: Out<c_ulonglong>,
    ) read |state, _| {
        energy.set(energy_mj(state, handle.get()?)?)
    }

    fn nvmlDeviceGetUtilizationRates(
        handle: DeviceHandle,
        utilization: Out<nvmlUtilization_t>,
    ) read |state, _| {
        let busy = status::utilization(state, handle.get()?)?;
        utilization.set(nvmlUtilization_t { gpu: busy.gpu, memory: busy.memory })
    }

    fn nvmlDeviceGetEncoderUtilization(
        handle: DeviceHandle,
        utilization: Out<c_uint>,
        period: Out<c_uint>,
    ) read |state, _| {
        idle_engine(state, handle, utilization, period)
    }

    fn nvmlDeviceGetDecoderUtilization(
        handle: DeviceHandle,
        utilization: Out<c_uint>,
        period: Out<c_uint>,
    ) read |state, _| {
        idle_engine(state, handle, utilization, period)
    }

    fn nvmlDeviceGetJpgUtilization(
        handle: DeviceHandle,
        utilization: Out<c_uint>,
        period: Out<c_uint>,
    ) read |state, _| {
        idle_engine(state, handle, utilization, period)
    }

    fn nvmlDeviceGetOfaUtilization(
        handle: DeviceHandle,
        utilization: Out<c_uint>,
        period: Out<c_uint>,
    ) read |state, _| {
        idle_engine(state, handle, utilization, period)
    }
}

/// `NVML_CLOCKS_EVENT_REASON_GPU_IDLE` while nothing runs.
fn clock_reasons(state: &State, device: Device) -> Result<c_ulonglong, Return> {
    let readings = status::readings(state, device)?;
    let idle = status::clock(state, device, Clock::Sm)? == readings.idle_sm_mhz;
    Ok(c_ulonglong::from(idle))
}

/// Degrees left to the highest operating temperature.
pub(crate) fn temperature_margin(state: &State, device: Device) -> Result<c_int, Return> {
    let highest = status::readings(state, device)?.max_operating_temperature_c;
    Ok(highest.cast_signed() - status::temperature(state, device)?.cast_signed())
}

/// Millijoules drawn since this machine was booted, at the present draw.
pub(crate) fn energy_mj(state: &State, device: Device) -> Result<u64, Return> {
    let milliwatts = u64::from(status::power_draw(state, device)?);
    let uptime = std::fs::read_to_string("/proc/uptime").map_err(|_| Return::UNKNOWN)?;
    let seconds = uptime
        .split('.')
        .next()
        .and_then(|text| text.parse::<u64>().ok());
    Ok(milliwatts.saturating_mul(seconds.ok_or(Return::UNKNOWN)?))
}
