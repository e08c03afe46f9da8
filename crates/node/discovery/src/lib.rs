//! GPU feature discovery: the node labels that say what GPUs a node has and how they are cut up.
//!
//! [`labels`] is a pure function from an [`nvml::Inventory`] and [`Options`] to [`Labels`], with the
//! names and rules of NVIDIA's GPU feature discovery, so that charts, selectors and dashboards that
//! know those labels work unchanged. What isn't in an inventory comes from small readers:
//! [`machine_type`] (DMI) and [`GpuMode::detect`] (PCI classes). The outcome goes to standard output
//! ([`to_text`]) or to the file that node feature discovery watches ([`write_file`],
//! [`remove_file`]).
//!
//! No GPU is shared here: every `sharing-strategy` is `none`, and `mps.capable` is `false`.
#![forbid(unsafe_code)]

mod features_file;
mod labels;
mod machine;
mod mode;
mod resource;
mod value;

pub use features_file::{FileError, remove_file, to_text, write_file};
pub use labels::{Labels, Options, labels, warnings};
pub use machine::{DMI_PRODUCT_NAME, UNKNOWN_MACHINE, machine_type};
pub use mode::GpuMode;
