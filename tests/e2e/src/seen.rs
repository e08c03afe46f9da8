//! What a program in a container sees of GPUs, in NVIDIA's own output formats.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde_json::Value;

/// A MIG device, as a program sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slice {
    /// The GPU that it is a part of, by UUID.
    pub(crate) gpu: String,
    /// Its own UUID.
    pub(crate) uuid: String,
}

/// The GPUs and MIG devices that a program sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// The GPUs, by UUID.
    pub(crate) gpus: BTreeSet<String>,
    /// The MIG devices.
    pub(crate) slices: BTreeSet<Slice>,
}

impl Seen {
    /// From what `nvidia-smi -L` prints.
    ///
    /// # Errors
    /// A line that is none of its, or a UUID that is there twice.
    pub(crate) fn from_smi(printed: &str) -> anyhow::Result<Self> {
        let mut seen = Self::default();
        let mut gpu = None;
        for line in printed.lines().filter(|line| !line.trim().is_empty()) {
            let uuid = line
                .split_once("(UUID: ")
                .and_then(|(_, rest)| rest.strip_suffix(')'))
                .with_context(|| format!("nvidia-smi -L printed `{line}`, which has no UUID"))?
                .to_owned();
            let new = if line.starts_with("GPU ") {
                ensure!(uuid.starts_with("GPU-"), "no GPU's UUID in `{line}`");
                gpu = Some(uuid.clone());
                seen.gpus.insert(uuid)
            } else {
                ensure!(uuid.starts_with("MIG-"), "no MIG device's UUID in `{line}`");
                let gpu = gpu
                    .clone()
                    .with_context(|| format!("`{line}` comes before any GPU"))?;
                seen.slices.insert(Slice { gpu, uuid })
            };
            ensure!(new, "nvidia-smi -L printed a UUID twice:\n{printed}");
        }
        Ok(seen)
    }

    /// From what [`PYNVML`] prints.
    ///
    /// # Errors
    /// It is not that.
    pub(crate) fn from_pynvml(printed: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(printed)
            .with_context(|| format!("the pynvml program printed no JSON but `{printed}`"))?;
        let mut seen = Self::default();
        for (gpu, slices) in value.as_object().context("no JSON object")? {
            seen.gpus.insert(gpu.clone());
            for slice in slices.as_array().context("no list of MIG devices")? {
                let uuid = slice.as_str().context("a UUID is no string")?.to_owned();
                let new = seen.slices.insert(Slice {
                    gpu: gpu.clone(),
                    uuid,
                });
                ensure!(new, "pynvml sees a UUID twice: {printed}");
            }
        }
        Ok(seen)
    }

    /// The UUIDs of the MIG devices.
    pub(crate) fn slice_uuids(&self) -> BTreeSet<String> {
        self.slices.iter().map(|slice| slice.uuid.clone()).collect()
    }
}

/// A Python program that prints what NVIDIA's own Python binding of NVML sees, as JSON: each GPU with its MIG devices.
pub(crate) const PYNVML: &str = "\
import json
from pynvml import *
nvmlInit()
seen = {}
for index in range(nvmlDeviceGetCount()):
    gpu = nvmlDeviceGetHandleByIndex(index)
    slices = []
    for slot in range(nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            slices.append(nvmlDeviceGetUUID(nvmlDeviceGetMigDeviceHandleByIndex(gpu, slot)))
        except NVMLError_NotFound:
            pass
    seen[nvmlDeviceGetUUID(gpu)] = slices
print(json.dumps(seen))
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nvidia_smi_lists_is_read() {
        let seen = Seen::from_smi(
            "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1)\n  MIG 1g.5gb      Device  0: (UUID: MIG-a)\n",
        )
        .unwrap();
        assert_eq!(seen.gpus, BTreeSet::from(["GPU-1".to_owned()]));
        assert_eq!(seen.slice_uuids(), BTreeSet::from(["MIG-a".to_owned()]));
        assert!(Seen::from_smi("No devices were found\n").is_err());
    }

    #[test]
    fn what_pynvml_sees_is_read() {
        let seen = Seen::from_pynvml(r#"{"GPU-1": ["MIG-a"]}"#).unwrap();
        let same = Seen::from_smi("GPU 0: x (UUID: GPU-1)\n  MIG 1g.5gb Device 0: (UUID: MIG-a)");
        assert_eq!(seen, same.unwrap());
    }
}
