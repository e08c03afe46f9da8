//! A root in words, for people.

use std::path::Path;

use crate::state::State;

/// The GPUs, their instances and the faults, and that all of it is simulated.
pub(super) fn describe(path: &Path, state: &State) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "Simulated driver {} in {}\nNothing here is hardware. Booted {} time(s).\n",
        state.driver_version,
        path.display(),
        state.boots
    );
    for gpu in &state.gpus {
        let name = state
            .boards
            .get(gpu.board as usize)
            .map_or("?", |board| &board.product_name);
        let mode = |on: bool| if on { "on" } else { "off" };
        let _ = write!(
            text,
            "GPU {}: {name} ({}, {}) MIG {}",
            gpu.minor,
            gpu.uuid_text(),
            gpu.serial,
            mode(gpu.mig_current)
        );
        if gpu.mig_current != gpu.mig_pending {
            let _ = write!(text, ", {} after the next boot", mode(gpu.mig_pending));
        }
        if gpu.lost {
            text.push_str(", LOST");
        }
        text.push('\n');
        for gi in &gpu.instances {
            let profile = state
                .boards
                .get(gpu.board as usize)
                .and_then(|board| board.profile(gi.profile_id))
                .map_or("?", |profile| &profile.name);
            let compute: Vec<_> = gi
                .compute_instances
                .iter()
                .map(|ci| ci.id.to_string())
                .collect();
            let _ = writeln!(
                text,
                "  GPU instance {}: {profile} at {}:{}, compute instances: {}",
                gi.id,
                gi.start,
                gi.size,
                if compute.is_empty() {
                    "none".to_owned()
                } else {
                    compute.join(", ")
                }
            );
        }
    }
    for armed in &state.faults {
        let _ = writeln!(text, "Fault {}: {:?}", armed.id, armed.fault);
    }
    text
}
