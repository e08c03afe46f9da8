//! The control plane of one machine: [`up`].

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::state_folder::StateFolderError;

/// What [`up`] needs to know.
#[derive(Debug, Clone)]
pub struct UpConfig {
    /// The folder that holds everything; created (mode 0700) where it is missing.
    pub state_dir: PathBuf,
    /// Nodes of GPU sizes use this machine's own GPUs (driver root `/`) and no simulated driver.
    pub real_gpus: bool,
    /// The migpool program: run as `agent` for each node, as `pod-shim` for each container, and
    /// linked into pods as `nvidia-smi`. Usually the current executable.
    pub agent_program: PathBuf,
    /// Told `true` once the API socket answers.
    pub ready: Option<tokio::sync::watch::Sender<bool>>,
}

/// Why [`up`] could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The state folder cannot be used; the sentence says why and what to do.
    #[error(transparent)]
    StateFolder(#[from] StateFolderError),
}

/// Runs the control plane until `cancel` is cancelled. Pods go on running when it ends, however it
/// ends; agents stop. The next `up` on the same folder adopts the pods and starts the agents.
///
/// # Errors
/// When the state folder cannot be used, or the store or the socket fails.
pub async fn up(config: UpConfig, cancel: CancellationToken) -> Result<(), UpError> {
    let _ = (config, cancel);
    Ok(())
}
