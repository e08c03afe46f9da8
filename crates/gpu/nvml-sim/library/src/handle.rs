//! What an `nvmlDevice_t`, `nvmlGpuInstance_t`, `nvmlComputeInstance_t` or `nvmlEventSet_t` is
//! here.
//!
//! A handle is opaque to its holder. Ours say what they name in their bits and are never followed
//! as pointers, so that any bits from outside are safe to look at, and a handle stays what it is
//! while instances come and go: one that was destroyed is simply not found. The highest bits make a
//! handle look like an address, because runtimes such as Go's refuse small numbers in pointers.

use nvml_sim::Return;
use nvml_sim::driver::{ComputeInstanceRef, Device, GpuInstanceRef};
use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlDevice_t, nvmlEventSet_t, nvmlGpuInstance_t,
};

const MARK: u64 = 0x4D49;
/// Event sets are numbered in 24 bits.
pub(crate) const EVENT_SETS: u32 = 1 << 24;

/// What a handle names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handle {
    Gpu(u32),
    MigDevice(ComputeInstanceRef),
    GpuInstance(GpuInstanceRef),
    ComputeInstance(ComputeInstanceRef),
    EventSet(u32),
}

impl Handle {
    fn bits(self) -> u64 {
        let pack = |kind: u64, gpu: u32, gi: u32, ci: u32| {
            let low =
                u64::from(gpu & 0xFF) << 16 | u64::from(gi & 0xFF) << 8 | u64::from(ci & 0xFF);
            MARK << 32 | kind << 24 | low
        };
        let compute = |kind, it: ComputeInstanceRef| {
            pack(kind, it.gpu_instance.gpu, it.gpu_instance.id, it.id)
        };
        match self {
            Handle::Gpu(gpu) => pack(1, gpu, 0, 0),
            Handle::MigDevice(it) => compute(2, it),
            Handle::GpuInstance(it) => pack(3, it.gpu, it.id, 0),
            Handle::ComputeInstance(it) => compute(4, it),
            Handle::EventSet(number) => pack(5, number >> 16, number >> 8, number),
        }
    }

    fn to_pointer<T>(self) -> *mut T {
        std::ptr::without_provenance_mut(usize::try_from(self.bits()).unwrap_or_default())
    }

    fn of<T>(pointer: *mut T) -> Result<Handle, Return> {
        let bits = pointer.addr() as u64;
        let byte = |shift: u32| u32::try_from((bits >> shift) & 0xFF).unwrap_or_default();
        let (gpu, gi, ci) = (byte(16), byte(8), byte(0));
        let gpu_instance = GpuInstanceRef { gpu, id: gi };
        let handle = match byte(24) {
            1 => Handle::Gpu(gpu),
            2 => Handle::MigDevice(ComputeInstanceRef {
                gpu_instance,
                id: ci,
            }),
            3 => Handle::GpuInstance(gpu_instance),
            4 => Handle::ComputeInstance(ComputeInstanceRef {
                gpu_instance,
                id: ci,
            }),
            5 => Handle::EventSet(gpu << 16 | gi << 8 | ci),
            _ => return Err(Return::INVALID_ARGUMENT),
        };
        if handle.bits() == bits {
            Ok(handle)
        } else {
            Err(Return::INVALID_ARGUMENT)
        }
    }
}

macro_rules! handles {
    ($(
        $(#[$doc:meta])*
        $name:ident($raw:ty) of $target:ty: $to:expr, $($pattern:pat => $from:expr),+;
    )*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy)]
        pub(crate) struct $name($raw);

        impl $name {
            /// What it names. Whether that exists is for the driver to say.
            ///
            /// # Errors
            /// `INVALID_ARGUMENT` for null and for whatever else is no such handle.
            pub(crate) fn get(self) -> Result<$target, Return> {
                match Handle::of(self.0)? {
                    $($pattern => Ok($from),)+
                    _ => Err(Return::INVALID_ARGUMENT),
                }
            }

            /// The handle that names it.
            pub(crate) fn raw(target: $target) -> $raw {
                let to: fn($target) -> Handle = $to;
                to(target).to_pointer()
            }
        }
    )*};
}

handles! {
    /// An `nvmlDevice_t` from C.
    DeviceHandle(nvmlDevice_t) of Device:
        |device| match device {
            Device::Gpu(gpu) => Handle::Gpu(gpu),
            Device::Mig(instance) => Handle::MigDevice(instance),
        },
        Handle::Gpu(gpu) => Device::Gpu(gpu),
        Handle::MigDevice(instance) => Device::Mig(instance);
    /// An `nvmlGpuInstance_t` from C.
    GpuInstanceHandle(nvmlGpuInstance_t) of GpuInstanceRef:
        Handle::GpuInstance, Handle::GpuInstance(instance) => instance;
    /// An `nvmlComputeInstance_t` from C.
    ComputeInstanceHandle(nvmlComputeInstance_t) of ComputeInstanceRef:
        Handle::ComputeInstance, Handle::ComputeInstance(instance) => instance;
    /// An `nvmlEventSet_t` from C, as a number.
    EventSetHandle(nvmlEventSet_t) of u32:
        Handle::EventSet, Handle::EventSet(number) => number;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_read_back_from_its_pointer() {
        let gpu_instance = GpuInstanceRef { gpu: 31, id: 14 };
        let compute = ComputeInstanceRef {
            gpu_instance,
            id: 7,
        };
        let handles = [
            Handle::Gpu(0),
            Handle::Gpu(31),
            Handle::MigDevice(compute),
            Handle::GpuInstance(gpu_instance),
            Handle::ComputeInstance(compute),
            Handle::EventSet(EVENT_SETS - 1),
        ];
        for handle in handles {
            assert_eq!(Handle::of(handle.to_pointer::<u8>()), Ok(handle));
        }
    }

    #[test]
    fn anything_else_is_an_invalid_argument() {
        let ours = Handle::Gpu(1).to_pointer::<u8>().addr();
        for bits in [
            0,
            1,
            4096,
            usize::MAX,
            ours | 1 << 63,
            ours | 5,
            ours & 0xFFFF_FFFF,
        ] {
            let pointer = std::ptr::without_provenance_mut::<u8>(bits);
            assert_eq!(
                Handle::of(pointer),
                Err(Return::INVALID_ARGUMENT),
                "{bits:x}"
            );
        }
    }

    #[test]
    fn a_handle_of_one_kind_is_not_taken_for_another() {
        let instance = GpuInstanceRef { gpu: 0, id: 1 };
        let pointer = GpuInstanceHandle::raw(instance);
        assert_eq!(
            DeviceHandle(pointer.cast()).get(),
            Err(Return::INVALID_ARGUMENT)
        );
        assert_eq!(GpuInstanceHandle(pointer).get(), Ok(instance));
    }
}
