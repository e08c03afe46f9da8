//! The simulated `libnvidia-ml.so.1`: NVML's C ABI over the simulated driver.
//!
//! Programs load this library as they load NVIDIA's, by its soname or from a path. It finds its
//! driver root from where it was loaded ([`init`]), opens the state that all processes of the root
//! share, and answers from it. What the driver knows and does is `nvml-sim`'s; here is only how C
//! asks for it.
//!
//! - [`abi`]: pointers, strings, arrays and struct versions from C, as types that check before they
//!   touch. All `unsafe` but finding the root is there.
//! - [`handle`]: what an `nvmlDevice_t` and its kin are.
//! - [`call`]: the shell around every call: initialised? a fault to act out? then the call itself.
//! - [`init`], [`system`], [`device`], [`mig`], [`events`], [`fields`]: the calls, by subject.
//! - [`unsupported`]: every other symbol of the real library, which answers `NOT_SUPPORTED`.
//!
//! Where a comment says "as the real driver", it was read off an H200 with driver 580.159.04.

#![allow(non_snake_case, reason = "the exported functions have NVML's names")]

#[macro_use]
mod abi;
#[macro_use]
mod call;
mod device;
mod events;
mod fields;
mod handle;
mod init;
mod mig;
mod system;
mod unsupported;
