//! `nvidia-smi --version`.

use nvml::Inventory;

use crate::reply::Reply;

pub(crate) fn version(inventory: &Inventory) -> Reply {
    let mut reply = Reply::default();
    reply.line(format_args!(
        "NVIDIA-SMI version  : {}",
        inventory.driver_version
    ));
    reply.line(format_args!(
        "NVML version        : {}",
        short_nvml_version(&inventory.nvml_version)
    ));
    reply.line(format_args!(
        "DRIVER version      : {}",
        inventory.driver_version
    ));
    reply.line(format_args!(
        "CUDA Version        : {}",
        inventory.cuda_version
    ));
    reply
}

/// NVML says "13.580.159.04", CUDA's major version before the driver's; nvidia-smi shows the first two of the driver's.
fn short_nvml_version(version: &str) -> String {
    let parts: Vec<&str> = version.split('.').collect();
    match parts.as_slice() {
        [_, major, minor, _, ..] => format!("{major}.{minor}"),
        _ => version.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nvml_version_loses_cuda_and_the_build() {
        assert_eq!(short_nvml_version("13.580.159.04"), "580.159");
        assert_eq!(short_nvml_version("580.65"), "580.65");
    }
}
