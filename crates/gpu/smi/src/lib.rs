//! nvidia-smi's everyday commands, over NVML
#![forbid(unsafe_code)]
