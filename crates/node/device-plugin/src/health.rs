//! What is wrong with which slice, as plain data.

use std::collections::BTreeMap;
use std::fmt;

use nvml::GpuUuid;
use serde::Serialize;

use crate::health_checks;

/// Where a fault is: a GPU, or one GPU instance of it, or one compute instance of that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Location {
    /// The GPU.
    pub gpu: GpuUuid,
    /// The GPU instance's id; `None` is all of the GPU.
    pub gpu_instance: Option<u32>,
    /// The compute instance's id; `None` is all of the GPU instance.
    pub compute_instance: Option<u32>,
}

impl Location {
    /// All of a GPU.
    #[must_use]
    pub fn gpu(gpu: GpuUuid) -> Self {
        Self {
            gpu,
            gpu_instance: None,
            compute_instance: None,
        }
    }

    /// One slice of a GPU.
    #[must_use]
    pub fn slice(gpu: GpuUuid, gpu_instance: u32, compute_instance: u32) -> Self {
        Self {
            gpu,
            gpu_instance: Some(gpu_instance),
            compute_instance: Some(compute_instance),
        }
    }

    /// Whether the two have anything in common: a slice and its GPU do, two slices of a GPU do not.
    #[must_use]
    pub fn touches(&self, other: &Self) -> bool {
        let agree = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.gpu == other.gpu
            && agree(self.gpu_instance, other.gpu_instance)
            && agree(self.compute_instance, other.compute_instance)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.gpu.as_str())?;
        if let Some(id) = self.gpu_instance {
            write!(f, " GPU instance {id}")?;
        }
        if let Some(id) = self.compute_instance {
            write!(f, " compute instance {id}")?;
        }
        Ok(())
    }
}

/// What is wrong with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The driver reported this XID.
    Xid(u64),
    /// The driver reported a memory error that ECC could not correct.
    UncorrectableMemoryError,
    /// Nothing is wrong with it, but it is about to be partitioned anew: who has it keeps it, and nobody else gets it.
    HeldBack,
}

impl Fault {
    /// Whether NVIDIA has the GPU reset after it, so that silence alone does not mean that it is over. An
    /// uncorrectable memory error is what XID 48 reports.
    #[must_use]
    pub fn needs_reset(self) -> bool {
        match self {
            Self::Xid(xid) => health_checks::needs_reset(xid),
            Self::UncorrectableMemoryError => true,
            Self::HeldBack => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xid(xid) => write!(f, "XID {xid}"),
            Self::UncorrectableMemoryError => f.write_str("uncorrectable memory error"),
            Self::HeldBack => f.write_str("held back: its GPU is about to be partitioned anew"),
        }
    }
}

/// Every fault that is known now. A GPU that does not answer at all is not here but in the inventory's list of
/// failed GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    faults: BTreeMap<Location, Fault>,
}

impl Health {
    /// The fault of what lies at `location`: one of its own, one of what it lies in, or one of what lies in it.
    #[must_use]
    pub fn fault(&self, location: &Location) -> Option<Fault> {
        self.faults
            .iter()
            .find(|(at, _)| at.touches(location))
            .map(|(_, fault)| *fault)
    }

    /// Every fault with its place.
    pub fn faults(&self) -> impl Iterator<Item = (&Location, Fault)> {
        self.faults
            .iter()
            .map(|(location, fault)| (location, *fault))
    }
}

impl FromIterator<(Location, Fault)> for Health {
    fn from_iter<I: IntoIterator<Item = (Location, Fault)>>(faults: I) -> Self {
        Self {
            faults: faults.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(name: &str) -> GpuUuid {
        name.parse().unwrap()
    }

    #[test]
    fn a_fault_of_a_slice_leaves_its_siblings_alone() {
        let health = Health::from_iter([(Location::slice(gpu("GPU-a"), 7, 0), Fault::Xid(48))]);
        assert_eq!(
            health.fault(&Location::slice(gpu("GPU-a"), 7, 0)),
            Some(Fault::Xid(48))
        );
        assert_eq!(health.fault(&Location::slice(gpu("GPU-a"), 8, 0)), None);
        assert_eq!(health.fault(&Location::slice(gpu("GPU-a"), 7, 1)), None);
        assert_eq!(health.fault(&Location::slice(gpu("GPU-b"), 7, 0)), None);
    }

    #[test]
    fn a_fault_of_a_gpu_is_one_of_all_its_slices_and_of_no_other_gpus() {
        let health = Health::from_iter([(Location::gpu(gpu("GPU-a")), Fault::Xid(79))]);
        assert_eq!(
            health.fault(&Location::slice(gpu("GPU-a"), 1, 0)),
            Some(Fault::Xid(79))
        );
        assert_eq!(health.fault(&Location::slice(gpu("GPU-b"), 1, 0)), None);
    }

    #[test]
    fn a_fault_that_nvidia_resets_the_gpu_for_is_told_from_one_that_it_does_not() {
        for xid in [48, 64, 74, 79, 95, 119, 120, 140] {
            assert!(Fault::Xid(xid).needs_reset(), "{xid}");
        }
        assert!(Fault::UncorrectableMemoryError.needs_reset());
        for xid in [13, 31, 43, 45, 63, 69, 92, 94, 154] {
            assert!(!Fault::Xid(xid).needs_reset(), "{xid}");
        }
    }

    #[test]
    fn a_whole_gpu_has_the_faults_of_its_parts() {
        let health = Health::from_iter([(Location::slice(gpu("GPU-a"), 1, 0), Fault::Xid(48))]);
        assert_eq!(
            health.fault(&Location::gpu(gpu("GPU-a"))),
            Some(Fault::Xid(48))
        );
    }
}
