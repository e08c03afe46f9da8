//! Calls on a GPU or a MIG device, by subject.

mod ecc;
mod identity;
mod lookup;
mod memory;
mod modes;
mod pci;
mod process;
pub(crate) mod sensors;
pub(crate) mod topology;
