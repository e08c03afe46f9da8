//! What a device manager asks of plugins while a pod is admitted.

use std::collections::BTreeSet;
use std::time::Duration;

use kubelet_api::device_plugin::v1beta1::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, PreStartContainerRequest, PreferredAllocationRequest,
};
use tonic::Code;

use super::ledger::Assignment;
use super::{AdmissionError, DeviceManager, Endpoint, Wish};

/// How long a plugin may take for one answer. The kubelet waits for ever; a person would not.
const PATIENCE: Duration = Duration::from_mins(1);

impl DeviceManager {
    /// What would be held if it were held now.
    pub(super) async fn choose(&self, wishes: &[Wish]) -> Result<Vec<Assignment>, AdmissionError> {
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
