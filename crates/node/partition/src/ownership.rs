//! Which GPU instances are ours: the write-ahead record.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nvml::{GpuInstance, GpuUuid, Inventory};
use serde::{Deserialize, Serialize};

use crate::plan::{Action, Plan};
use crate::state::{self, StateError};

/// One instance that we created or were about to create.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Intent {
    /// UUID of the GPU.
    pub gpu: String,
    /// GPU instance profile id.
    pub profile_id: u32,
    /// First memory unit of the placement.
    pub start: u8,
}

/// The instances that are ours to remove. An intent is written before the instance is created, so
/// after a kill an instance at that place is known to be ours. An intent whose place is found empty
/// is dropped, and all of them when the machine has booted since, for no instance survives that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// The boot that the intents belong to, where the system tells.
    boot_id: Option<String>,
    intents: BTreeSet<Intent>,
}

impl Ownership {
    /// The record in a state folder; empty where there is none, or where it is of another boot.
    ///
    /// # Errors
    /// When the file can't be read or isn't ours.
    pub fn load(state_dir: &Path) -> Result<Self, StateError> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .ok()
            .map(|id| id.trim().to_owned());
        let recorded: Self = state::read(&path(state_dir))?.unwrap_or_default();
        let intents = if recorded.boot_id == boot_id {
            recorded.intents
        } else {
            BTreeSet::default()
        };
        Ok(Self { boot_id, intents })
    }

    /// Writes the record, atomically.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self, state_dir: &Path) -> Result<(), StateError> {
        state::write(&path(state_dir), self)
    }

    /// Whether the instance that is there is ours.
    #[must_use]
    pub fn owns(&self, gpu: &GpuUuid, instance: &GpuInstance) -> bool {
        self.intents.contains(&intent(
            gpu,
            instance.profile_id,
            instance.placement.start(),
        ))
    }

    /// Records an instance as ours. Returns whether it wasn't before.
    pub fn claim(&mut self, gpu: &GpuUuid, profile_id: u32, start: u8) -> bool {
        self.intents.insert(intent(gpu, profile_id, start))
    }

    /// Records every instance that a plan creates. Returns whether anything was added.
    pub fn claim_plan(&mut self, plan: &Plan) -> bool {
        let mut added = false;
        for gpu in &plan.gpus {
            for action in &gpu.actions {
                if let Action::CreateGpuInstance {
                    profile_id,
                    placement,
                    ..
                } = action
                {
                    added |= self.claim(&gpu.uuid, *profile_id, placement.start());
                }
            }
        }
        added
    }

    /// Drops what is not there any more. A GPU that can't be read at the moment keeps its
    /// intents, and so does one that is not there: it may come back. Returns whether anything went.
    pub fn retain_present(&mut self, inventory: &Inventory) -> bool {
        let before = self.intents.len();
        self.intents.retain(|intent| {
            inventory
                .gpus
                .iter()
                .find(|gpu| gpu.uuid.to_string() == intent.gpu)
                .is_none_or(|gpu| {
                    gpu.instances.iter().any(|instance| {
                        instance.profile_id == intent.profile_id
                            && instance.placement.start() == intent.start
                    })
                })
        });
        self.intents.len() != before
    }

    /// The recorded instances.
    pub fn intents(&self) -> impl Iterator<Item = &Intent> {
        self.intents.iter()
    }
}

/// Where the record lies in a state folder.
fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("partition-owned.json")
}

fn intent(gpu: &GpuUuid, profile_id: u32, start: u8) -> Intent {
    Intent {
        gpu: gpu.to_string(),
        profile_id,
        start,
    }
}
