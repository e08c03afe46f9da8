//! The simulated NVIDIA driver: what `libnvidia-ml.so.1` of driver 580 knows and answers, without a GPU.
//!
//! A *driver root* is a folder with the library, the simulated `/dev` and `/proc` files and the [state](state::State) that all
//! processes share through the [store]. The [driver] holds the semantics: one function per behaviour of NVML over that
//! state, answering with NVML's own [codes](code::Return). The C ABI over them is the crate in `library/`; it is the only
//! thing that programs load. [`capability`] keeps the files that decide who sees which MIG device; [`device_file`] says what
//! they are made of, and [`firmware`] how the state gets into containers.
//!
//! With the feature `host` (the default) the crate also carries that library within itself (`LIBRARY`) and makes
//! driver roots (`DriverRoot`) from the boards that `mig` knows. The library is built without it.

#[cfg(feature = "host")]
pub mod board;
pub mod capability;
pub mod code;
pub mod device_file;
pub mod driver;
pub mod firmware;
#[cfg(feature = "host")]
mod library;
#[cfg(feature = "host")]
pub mod root;
pub mod state;
pub mod store;

pub use code::Return;
pub use device_file::DeviceFiles;
pub use driver::Driver;
#[cfg(feature = "host")]
pub use library::LIBRARY;
#[cfg(feature = "host")]
pub use root::{DriverRoot, Machine, Options, RootError};
pub use state::{Fault, Moment, State};
pub use store::Store;
