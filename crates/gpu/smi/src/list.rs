//! `nvidia-smi -L`.

use crate::reply::Reply;
use crate::selection::Selection;

/// Each GPU, and below it the MIG devices that this process sees.
pub(crate) fn list(selection: &Selection<'_>) -> Reply {
    let mut reply = Reply::default();
    for gpu in &selection.gpus {
        reply.line(format_args!(
            "GPU {}: {} (UUID: {})",
            gpu.index, gpu.name, gpu.uuid
        ));
        let mut devices: Vec<_> = gpu.mig_devices().map(|entry| entry.device).collect();
        devices.sort_by_key(|device| device.index);
        for device in devices {
            reply.line(format_args!(
                "  MIG {:<10}  Device {:>2}: (UUID: {})",
                device.profile.to_string(),
                device.index,
                device.uuid
            ));
        }
    }
    reply
}
