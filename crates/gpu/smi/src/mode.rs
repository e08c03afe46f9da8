//! `nvidia-smi -mig 0|1`.

use nvml::{Gpu, MigModeOutcome, Nvml, ReturnCode};

use crate::exit::{code_of, of_code};
use crate::reply::Reply;
use crate::selection::Selection;

/// Switches MIG mode of every selected GPU. A GPU without MIG is a warning, anything else that fails ends it.
pub(crate) fn set(nvml: &Nvml, selection: &Selection<'_>, enable: bool) -> Reply {
    let mut reply = Reply::default();
    let verb = if enable { "enable" } else { "disable" };
    for gpu in &selection.gpus {
        let bus = &gpu.pci_bus_id;
        match nvml.set_mig_mode(&gpu.uuid, enable) {
            Ok(MigModeOutcome::Current) => {
                let done = if enable { "Enabled" } else { "Disabled" };
                reply.line(format_args!("{done} MIG Mode for GPU {bus}"));
            }
            Ok(MigModeOutcome::Pending(status)) => pending(&mut reply, gpu, verb, &status),
            Err(error) => {
                let code = code_of(&error);
                reply.line(format_args!(
                    "Unable to {verb} MIG Mode for GPU {bus}: {}",
                    code.text()
                ));
                if code == ReturnCode::ERROR_NOT_SUPPORTED {
                    reply.line("Treating as warning and moving on.");
                    continue;
                }
                reply.line("Terminating early due to previous errors.");
                reply.code = of_code(code);
                reply.detail = Some(error.to_string());
                return reply;
            }
        }
    }
    reply.line("All done.");
    reply
}

fn pending(reply: &mut Reply, gpu: &Gpu, verb: &str, status: &str) {
    let bus = &gpu.pci_bus_id;
    reply.line(format_args!(
        "Warning: MIG mode is in pending {verb} state for GPU {bus}:{status}"
    ));
    if status == ReturnCode::ERROR_IN_USE.text() {
        reply.line(format_args!(
            "{bus} is currently being used by one or more other processes (e.g. CUDA application or a monitoring \
             application such as another instance of nvidia-smi). Please first kill all processes using the device and \
             retry the command or reboot the system to make MIG mode effective."
        ));
    } else {
        reply.line(format_args!(
            "Reboot the system or try nvidia-smi --gpu-reset to make MIG mode effective on GPU {bus}"
        ));
    }
}
