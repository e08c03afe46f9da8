//! Field values: readings by number.

use std::ffi::{c_int, c_longlong};
use std::time::{SystemTime, UNIX_EPOCH};

use nvml_sim::driver::{Device, status};
use nvml_sim::{Return, State};
use nvml_wrapper_sys::bindings::{field_id as fi, nvmlFieldValue_t, nvmlValue_t};

use crate::abi::Out;
use crate::device::sensors;
use crate::handle::DeviceHandle;

/// Microseconds since 1970, as NVML stamps its samples.
pub(crate) fn now_us() -> c_longlong {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    c_longlong::try_from(since.as_micros()).unwrap_or(c_longlong::MAX)
}

/// A value with its `nvmlValueType_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    /// `NVML_VALUE_TYPE_UNSIGNED_INT`.
    Int(u32),
    /// `NVML_VALUE_TYPE_UNSIGNED_LONG_LONG`.
    Long(u64),
    /// `NVML_VALUE_TYPE_SIGNED_INT`.
    Signed(i32),
}

impl Value {
    fn kind(self) -> u32 {
        match self {
            Value::Int(_) => 1,
            Value::Long(_) => 3,
            Value::Signed(_) => 5,
        }
    }

    /// The value in a union whose other bytes are zero.
    fn raw(self) -> nvmlValue_t {
        let bits = match self {
            Value::Int(value) => u64::from(value),
            Value::Long(value) => value,
            Value::Signed(value) => u64::from(value.cast_unsigned()),
        };
        nvmlValue_t { ullVal: bits }
    }
}

/// The fields that an H200 answers, without those of what is not simulated. `NOT_SUPPORTED` for all
/// others.
fn value(state: &State, device: Device, field: u32) -> Result<Value, Return> {
    let readings = status::readings(state, device)?;
    let (volatile, aggregate) = status::ecc(state, device)?;
    let degrees_below = |celsius: u32| {
        Value::Signed(readings.max_operating_temperature_c.cast_signed() - celsius.cast_signed())
    };
    Ok(match field {
        fi::NVML_FI_DEV_ECC_CURRENT | fi::NVML_FI_DEV_ECC_PENDING => Value::Long(1),
        fi::NVML_FI_DEV_ECC_SBE_VOL_TOTAL => Value::Long(volatile.single),
        fi::NVML_FI_DEV_ECC_DBE_VOL_TOTAL => Value::Long(volatile.double),
        fi::NVML_FI_DEV_ECC_SBE_AGG_TOTAL => Value::Long(aggregate.single),
        fi::NVML_FI_DEV_ECC_DBE_AGG_TOTAL => Value::Long(aggregate.double),
        fi::NVML_FI_DEV_PERF_POLICY_POWER
        | fi::NVML_FI_DEV_PERF_POLICY_THERMAL
        | fi::NVML_FI_DEV_PERF_POLICY_SYNC_BOOST
        | fi::NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT
        | fi::NVML_FI_DEV_PERF_POLICY_LOW_UTILIZATION
        | fi::NVML_FI_DEV_REMAPPED_COR
        | fi::NVML_FI_DEV_REMAPPED_UNC
        | fi::NVML_FI_DEV_REMAPPED_PENDING
        | fi::NVML_FI_DEV_REMAPPED_FAILURE => Value::Long(0),
        fi::NVML_FI_DEV_MEMORY_TEMP => Value::Int(status::memory_temperature(state, device)?),
        fi::NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION => Value::Long(sensors::energy_mj(state, device)?),
        fi::NVML_FI_DEV_PCIE_REPLAY_COUNTER | fi::NVML_FI_DEV_PCIE_REPLAY_ROLLOVER_COUNTER => {
            Value::Int(0)
        }
        fi::NVML_FI_DEV_POWER_AVERAGE | fi::NVML_FI_DEV_POWER_INSTANT => {
            Value::Int(status::power_draw(state, device)?)
        }
        fi::NVML_FI_DEV_POWER_MIN_LIMIT => Value::Int(readings.power_min_mw),
        fi::NVML_FI_DEV_POWER_MAX_LIMIT => Value::Int(readings.power_max_mw),
        fi::NVML_FI_DEV_POWER_DEFAULT_LIMIT
        | fi::NVML_FI_DEV_POWER_CURRENT_LIMIT
        | fi::NVML_FI_DEV_POWER_REQUESTED_LIMIT => Value::Int(readings.power_limit_mw),
        fi::NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT => {
            degrees_below(readings.shutdown_temperature_c)
        }
        fi::NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT => {
            degrees_below(readings.slowdown_temperature_c)
        }
        fi::NVML_FI_DEV_TEMPERATURE_MEM_MAX_TLIMIT | fi::NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT => {
            Value::Signed(0)
        }
        fi::NVML_FI_DEV_IS_MIG_MODE_INDEPENDENT_MIG_QUERY_CAPABLE => Value::Int(1),
        _ => return Err(Return::NOT_SUPPORTED),
    })
}

nvml! {
    /// Each field has its own code; the call fails only for the device or a missing array.
    fn nvmlDeviceGetFieldValues(
        handle: DeviceHandle,
        count: c_int,
        values: Out<nvmlFieldValue_t>,
    ) read |state, _| {
        let device = handle.get()?;
        state.gpu(device.gpu())?;
        let count = usize::try_from(count).unwrap_or_default();
        if count == 0 {
            return Err(Return::INVALID_ARGUMENT);
        }
        values.check()?;
        for index in 0..count {
            let out = values.at(index)?;
            let asked = out.get()?;
            let answer = match asked.fieldId {
                0 => Err(Return::INVALID_ARGUMENT),
                field => value(state, device, field),
            };
            out.set(match answer {
                Ok(value) => nvmlFieldValue_t {
                    timestamp: now_us(),
                    latencyUsec: 0,
                    valueType: value.kind(),
                    nvmlReturn: Return::SUCCESS.0,
                    value: value.raw(),
                    ..asked
                },
                Err(code) => nvmlFieldValue_t { nvmlReturn: code.0, ..asked },
            })?;
        }
        Ok(())
    }
}
