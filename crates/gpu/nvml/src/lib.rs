//! Safe, owned access to NVML, the one door to a GPU.
