//! MIG: mode, GPU instances, compute instances, MIG devices.

mod compute_instance;
mod device;
mod gpu_instance;
mod mode;
