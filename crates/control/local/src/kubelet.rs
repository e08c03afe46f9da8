//! The kubelet's side of the device plugin interface v1beta1: a [`DeviceManager`] for one node.
//!
//! [`ledger`] is the pure book of devices and holders. Here is its shell: one task owns the book and
//! publishes it on a watch channel; `registration` takes plugins in and follows their device lists;
//! `pod_resources` answers who holds what. What is held is kept by the caller, in the same
//! transaction as the pod that holds it, and given back at the next start.

mod admission;
pub mod ledger;
mod owner;
mod pod_resources;
mod registration;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kubelet_api::device_plugin::v1beta1::KUBELET_SOCKET;
use kubelet_api::device_plugin::v1beta1::device_plugin_client::DevicePluginClient;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;

use ledger::{Assignment, Device, DeviceLedger, Holder, LedgerError};

/// What a [`DeviceManager`] needs to know.
#[derive(Debug, Clone)]
pub struct DeviceManagerConfig {
    /// The folder of device plugins: `kubelet.sock` is made there, plugins put theirs beside it.
    pub dir: PathBuf,
    /// Where the pod resources API answers; nowhere when `None`.
    pub pod_resources_socket: Option<PathBuf>,
    /// Who held what when the last manager of this node ended.
    pub assignments: Vec<Assignment>,
}

/// What a container wants: devices by resource name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Who wants them.
    pub holder: Holder,
    /// How many of each resource.
    pub devices: BTreeMap<String, u64>,
}

/// Why a device manager could not start.
#[derive(Debug, thiserror::Error)]
pub enum DeviceManagerError {
    /// The folder cannot be used.
    #[error("device plugin folder {} cannot be used: {source}", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A socket could not be made.
    #[error(transparent)]
    Socket(#[from] kubelet_api::uds::Error),
    /// What was kept contradicts itself.
    #[error("what was kept of this node's devices contradicts itself: {0}")]
    Ledger(#[from] LedgerError),
}

/// Why a pod did not get its devices.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// There are not enough free devices now.
    #[error("{wanted} of {resource} wanted and {free} free")]
    Insufficient {
        /// The resource.
        resource: String,
        /// How many were wanted.
        wanted: u64,
        /// How many are free.
        free: u64,
    },
    /// The book refused.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The plugin of the resource has not registered.
    #[error("no device plugin serves {resource} at the moment")]
    NoPlugin {
        /// The resource.
        resource: String,
    },
    /// The plugin refused or did not answer.
    #[error("device plugin of {resource}: {call} failed: {reason}")]
    Plugin {
        /// The resource.
        resource: String,
        /// The call.
        call: &'static str,
        /// What came back.
        reason: String,
        /// The plugin was gone rather than unwilling, so another try may succeed.
        gone: bool,
    },
    /// The device manager has ended.
    #[error("the device manager has ended")]
    Ended,
}

/// A plugin that has registered.
#[derive(Debug, Clone)]
struct Endpoint {
    generation: u64,
    client: DevicePluginClient<Channel>,
    prefers: bool,
    pre_start: bool,
}

/// What a device manager shows of itself: a consistent picture at one moment.
#[derive(Debug, Clone, Default)]
pub struct DeviceView {
    ledger: DeviceLedger,
    endpoints: BTreeMap<String, Endpoint>,
}

impl DeviceView {
    /// The book.
    #[must_use]
    pub fn ledger(&self) -> &DeviceLedger {
        &self.ledger
    }

    /// Whether a plugin serves the resource now.
    #[must_use]
    pub fn serves(&self, resource: &str) -> bool {
        self.endpoints.contains_key(resource)
    }
}

#[derive(Debug)]
enum Message {
    Registered {
        resource: String,
        endpoint: Endpoint,
    },
    Listed {
        resource: String,
        generation: u64,
        devices: Vec<Device>,
    },
    StreamEnded {
        resource: String,
        generation: u64,
    },
    GraceOver {
        resource: String,
        generation: u64,
    },
    Hold {
        assignments: Vec<Assignment>,
        answer: oneshot::Sender<Result<(), LedgerError>>,
    },
    Release {
        pod_uid: String,
        answer: oneshot::Sender<()>,
    },
}

/// The kubelet's side of v1beta1 for one node. It ends when its last clone is dropped.
#[derive(Debug, Clone)]
pub struct DeviceManager {
    messages: mpsc::UnboundedSender<Message>,
    view: watch::Receiver<Arc<DeviceView>>,
    _end: Arc<DropGuard>,
}

impl DeviceManager {
    /// Starts a manager on a folder, with nothing held; the pod resources API is not served. Plugins
    /// register at `DIR/kubelet.sock`.
    ///
    /// # Errors
    /// When the folder or the socket cannot be made.
    pub fn start(dir: &Path) -> Result<Self, DeviceManagerError> {
        Self::start_with(DeviceManagerConfig {
            dir: dir.to_owned(),
            pod_resources_socket: None,
            assignments: Vec::new(),
        })
    }

    /// Starts a manager.
    ///
    /// # Errors
    /// When the folder or a socket cannot be made, or the assignments contradict themselves.
    pub fn start_with(config: DeviceManagerConfig) -> Result<Self, DeviceManagerError> {
        let DeviceManagerConfig {
            dir,
            pod_resources_socket,
            assignments,
        } = config;
        let ledger = DeviceLedger::restore(&assignments)?;
        remove_sockets(&dir).map_err(|source| DeviceManagerError::Folder {
            dir: dir.clone(),
            source,
        })?;
        let cancel = CancellationToken::new();
        // From here on: what was started ends also when the rest cannot start.
        let end = cancel.clone().drop_guard();
        let (messages, inbox) = mpsc::unbounded_channel();
        let first = DeviceView {
            ledger,
            endpoints: BTreeMap::new(),
        };
        let (publish, view) = watch::channel(Arc::new(first));
        if let Some(socket) = pod_resources_socket {
            pod_resources::serve(&socket, view.clone(), cancel.clone())?;
        }
        registration::serve(
            &dir,
            &dir.join(KUBELET_SOCKET),
            // The servers must not keep the manager alive that they serve.
            messages.downgrade(),
            cancel.clone(),
        )?;
        tokio::spawn(owner::own(inbox, messages.downgrade(), publish, cancel));
        Ok(Self {
            messages,
            view,
            _end: Arc::new(end),
        })
    }

    /// The devices and their holders, as they change.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<DeviceView>> {
        self.view.clone()
    }

    /// Chooses devices for the containers of a pod, all or none, as the plugins prefer them, and
    /// holds them. The caller writes them down before it does anything else with them.
    ///
    /// # Errors
    /// When there are not enough free devices; nothing is held then.
    pub async fn assign(&self, wishes: &[Wish]) -> Result<Vec<Assignment>, AdmissionError> {
        // A device list may change between choice and entry; then the choice is made again.
        let mut tries = 5;
        loop {
            let assignments = self.choose(wishes).await?;
            let (answer, answered) = oneshot::channel();
            let hold = Message::Hold {
                assignments: assignments.clone(),
                answer,
            };
            self.messages
                .send(hold)
                .map_err(|_| AdmissionError::Ended)?;
            match answered.await.map_err(|_| AdmissionError::Ended)? {
                Ok(()) => return Ok(assignments),
                Err(error) if tries == 0 => return Err(error.into()),
                Err(_) => tries -= 1,
            }
        }
    }

    /// Takes back whatever a pod holds. Call it once the pod's processes are gone and the store knows.
    pub async fn release(&self, pod_uid: &str) {
        let (answer, answered) = oneshot::channel();
        let release = Message::Release {
            pod_uid: pod_uid.to_owned(),
            answer,
        };
        if self.messages.send(release).is_ok() {
            // An ended manager holds nothing.
            let _ = answered.await;
        }
    }
}

/// The kubelet deletes every socket in the folder when it starts: those of plugins that have to
/// register again, and its own.
fn remove_sockets(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_socket() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
