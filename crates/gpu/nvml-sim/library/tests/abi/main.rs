//! The built library, loaded from simulated driver roots as any NVML program loads it.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as the test")]
mod container;
mod errors;
mod events;
mod library;
mod lifecycle;
mod processes;
mod readings;
mod symbols;
mod versions;
mod visibility;
