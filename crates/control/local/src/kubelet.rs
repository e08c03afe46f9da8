//! The kubelet's side of the device plugin interface v1beta1: a [`DeviceManager`] for one node.
//!
//! [`ledger`] is the pure book of devices and holders. Here is its shell: one task owns the book and
//! publishes it on a watch channel; `registration` takes plugins in and follows their device lists;
//! `pod_resources` answers who holds what. What is held is kept by the caller, in the same
//! transaction as the pod that holds it, and given back at the next start.

pub mod ledger;
mod pod_resources;
mod registration;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kubelet_api::device_plugin::v1beta1::device_plugin_client::DevicePluginClient;
use kubelet_api::device_plugin::v1beta1::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, KUBELET_SOCKET, PreStartContainerRequest,
    PreferredAllocationRequest,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;
use tonic::transport::Channel;

use ledger::{Assignment, Device, DeviceLedger, Holder, LedgerError};

/// How long a plugin that went away is waited for before its devices stop counting (the kubelet's).
const GRACE: Duration = Duration::from_mins(5);

/// How long a plugin may take for one answer. The kubelet waits for ever; a person would not.
const PATIENCE: Duration = Duration::from_mins(1);

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
        tokio::spawn(own(inbox, messages.downgrade(), publish, cancel.clone()));
        Ok(Self {
            messages,
            view,
            _end: Arc::new(cancel.drop_guard()),
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

    async fn choose(&self, wishes: &[Wish]) -> Result<Vec<Assignment>, AdmissionError> {
        let view = self.view.borrow().clone();
        let mut chosen: BTreeSet<String> = BTreeSet::new();
        let mut assignments = Vec::new();
        for wish in wishes {
            for (resource, wanted) in &wish.devices {
                let mut candidates = view.ledger.candidates(resource);
                candidates.retain(|device| !chosen.contains(device));
                let free = candidates.len() as u64;
                let insufficient = || AdmissionError::Insufficient {
                    resource: resource.clone(),
                    wanted: *wanted,
                    free,
                };
                let count = usize::try_from(*wanted).map_err(|_| insufficient())?;
                if count > candidates.len() {
                    return Err(insufficient());
                }
                let mut devices = Vec::new();
                // Like the kubelet: only a plugin that has a choice to make is asked.
                if let Some(endpoint) = view.endpoints.get(resource)
                    && endpoint.prefers
                    && count < candidates.len()
                {
                    devices = preferred(resource, endpoint, &candidates, count).await?;
                }
                // A preference is one: what is no candidate is left out, what is missing filled up.
                let mut picked: BTreeSet<String> = BTreeSet::new();
                for device in devices
                    .into_iter()
                    .filter(|d| candidates.contains(d))
                    .chain(candidates.clone())
                {
                    if picked.len() < count {
                        picked.insert(device);
                    }
                }
                chosen.extend(picked.iter().cloned());
                assignments.push(Assignment {
                    holder: wish.holder.clone(),
                    resource: resource.clone(),
                    devices: picked.into_iter().collect(),
                });
            }
        }
        Ok(assignments)
    }

    /// Asks the plugin what a container needs to use devices that it holds, and prepares them where
    /// the plugin wants to be asked.
    ///
    /// # Errors
    /// When the plugin is not there, refuses, or does not answer within a minute.
    pub async fn allocate(
        &self,
        assignment: &Assignment,
    ) -> Result<ContainerAllocateResponse, AdmissionError> {
        let resource = &assignment.resource;
        let endpoint = self.view.borrow().endpoints.get(resource).cloned();
        let mut endpoint = endpoint.ok_or_else(|| AdmissionError::NoPlugin {
            resource: resource.clone(),
        })?;
        let request = AllocateRequest {
            container_requests: vec![ContainerAllocateRequest {
                devices_ids: assignment.devices.clone(),
            }],
        };
        let call = endpoint.client.allocate(request);
        let mut response = answer(resource, "Allocate", call)
            .await?
            .container_responses;
        let (Some(response), true) = (response.pop(), response.is_empty()) else {
            return Err(AdmissionError::Plugin {
                resource: resource.clone(),
                call: "Allocate",
                reason: "it did not answer for exactly one container".to_owned(),
                gone: false,
            });
        };
        if endpoint.pre_start {
            let request = PreStartContainerRequest {
                devices_ids: assignment.devices.clone(),
            };
            let call = endpoint.client.pre_start_container(request);
            answer(resource, "PreStartContainer", call).await?;
        }
        Ok(response)
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

async fn preferred(
    resource: &str,
    endpoint: &Endpoint,
    candidates: &[String],
    count: usize,
) -> Result<Vec<String>, AdmissionError> {
    let request = PreferredAllocationRequest {
        container_requests: vec![ContainerPreferredAllocationRequest {
            available_device_ids: candidates.to_vec(),
            must_include_device_ids: Vec::new(),
            allocation_size: i32::try_from(count).unwrap_or(i32::MAX),
        }],
    };
    let mut client = endpoint.client.clone();
    let call = client.get_preferred_allocation(request);
    let response = answer(resource, "GetPreferredAllocation", call).await?;
    Ok(response
        .container_responses
        .into_iter()
        .next()
        .map(|r| r.device_ids)
        .unwrap_or_default())
}

async fn answer<T>(
    resource: &str,
    call: &'static str,
    response: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, AdmissionError> {
    let failed = |reason: String, gone| AdmissionError::Plugin {
        resource: resource.to_owned(),
        call,
        reason,
        gone,
    };
    match tokio::time::timeout(PATIENCE, response).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => {
            let gone = matches!(status.code(), Code::Unavailable | Code::Cancelled)
                || std::error::Error::source(&status).is_some();
            Err(failed(
                format!("{:?}: {}", status.code(), status.message()),
                gone,
            ))
        }
        Err(_) => Err(failed(
            format!("no answer within {} s", PATIENCE.as_secs()),
            false,
        )),
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

/// Owns the book until the manager ends.
async fn own(
    mut inbox: mpsc::UnboundedReceiver<Message>,
    messages: mpsc::WeakUnboundedSender<Message>,
    publish: watch::Sender<Arc<DeviceView>>,
    cancel: CancellationToken,
) {
    let mut view = DeviceView::clone(&publish.borrow());
    loop {
        let message = tokio::select! {
            () = cancel.cancelled() => return,
            message = inbox.recv() => match message {
                Some(message) => message,
                None => return,
            },
        };
        let current = |view: &DeviceView, resource: &str, generation: u64| {
            view.endpoints
                .get(resource)
                .is_none_or(|e| e.generation == generation)
        };
        let mut answers: (Option<oneshot::Sender<Result<(), LedgerError>>>, Option<_>) =
            (None, None);
        let mut held = Ok(());
        match message {
            Message::Registered { resource, endpoint } => {
                tracing::info!(resource, "device plugin registered");
                view.endpoints.insert(resource, endpoint);
            }
            Message::Listed {
                resource,
                generation,
                devices,
            } => {
                if view
                    .endpoints
                    .get(&resource)
                    .is_some_and(|e| e.generation == generation)
                {
                    view.ledger.advertise(&resource, devices);
                }
            }
            Message::StreamEnded {
                resource,
                generation,
            } => {
                if view
                    .endpoints
                    .get(&resource)
                    .is_some_and(|e| e.generation == generation)
                {
                    tracing::warn!(resource, "device plugin is gone");
                    view.endpoints.remove(&resource);
                    view.ledger.stream_ended(&resource);
                    let messages = messages.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(GRACE).await;
                        if let Some(messages) = messages.upgrade() {
                            let _ = messages.send(Message::GraceOver {
                                resource,
                                generation,
                            });
                        }
                    });
                }
            }
            Message::GraceOver {
                resource,
                generation,
            } => {
                // A plugin that has come back since is of a later generation.
                if current(&view, &resource, generation) && !view.serves(&resource) {
                    view.ledger.grace_over(&resource);
                }
            }
            Message::Hold {
                assignments,
                answer,
            } => {
                held = view.ledger.hold(&assignments);
                answers.0 = Some(answer);
            }
            Message::Release { pod_uid, answer } => {
                view.ledger.release(&pod_uid);
                answers.1 = Some(answer);
            }
        }
        // Published before anyone is answered, so that who was answered sees what was done.
        publish.send_replace(Arc::new(view.clone()));
        if let Some(answer) = answers.0
            && answer.send(held).is_err()
        {
            tracing::debug!("nobody waits for the devices any more");
        }
        if let Some(answer) = answers.1 {
            let _ = answer.send(());
        }
    }
}

#[cfg(test)]
mod tests;
