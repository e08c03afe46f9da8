//! Who carries deployments out.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;

use pool::store::Changed;
use pool::{
    Change, Cluster, Deployment, DeploymentState, DeploymentStep, Key, Kind, NodePool, Operation,
    OperationError, OperationKey, OperationStatus, OperationTarget, ProvisioningState, Scope,
    StepState, Store, StoreError,
};

use super::names::Names;
use super::scope::{Resources, Scope as Expressions, Surroundings};
use super::{plan, template};
use crate::api_version::ApiVersion;
use crate::backend::Backend;
use crate::error::ArmError;
use crate::{agent_pool, managed_cluster};

/// How long to wait before something that did not work is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Carries out deployments: asks for each resource when what it comes after has succeeded, and says how the whole ended.
///
/// All that it knows is kept with the deployments: killed at any moment and started again, it goes on where it was. A resource
/// that it asked for and did not write down is asked for again, which changes nothing. So there may also be several of it.
#[derive(Debug)]
pub struct Deployer<B> {
    backend: Arc<B>,
}

/// How a resource that was asked for ended.
type Outcome = Result<(), OperationError>;

impl<B: Backend> Deployer<B> {
    /// A deployer over a backend.
    pub fn new(backend: Arc<B>) -> Self {
        Self { backend }
    }

    /// Carries out the deployments that there are, and those that come, until `shutdown` resolves.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let mut told = self.backend.record_changes();
        let mut records = self.backend.store_changes();
        let mut active = BTreeSet::new();
        let mut search = true;
        tokio::pin!(shutdown);
        loop {
            // Before the look: what changes during it is for the next one.
            records.mark_unchanged();
            search |= take_changes(told.as_mut(), &mut active);
            let looked = async {
                if search {
                    self.search(&mut active).await?;
                    search = false;
                }
                self.advance_all(&mut active).await
            };
            let again = tokio::select! {
                biased;
                () = &mut shutdown => return,
                looked = looked => match looked {
                    Ok(()) => false,
                    Err(error) => {
                        tracing::warn!(%error, "deployments can't go on; it is tried again");
                        true
                    }
                },
            };
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(RETRY), if again => {}
                changed = records.changed() => if changed.is_err() { return; },
            }
        }
    }

    /// Looks at all deployments once, and does what can be done for them now.
    ///
    /// # Errors
    /// If the store does not work. What was done before stays done.
    pub async fn round(&self) -> Result<(), ArmError> {
        let mut active = BTreeSet::new();
        self.search(&mut active).await?;
        self.advance_all(&mut active).await
    }

    /// Finds the deployments that are under way.
    async fn search(&self, active: &mut BTreeSet<String>) -> Result<(), ArmError> {
        let page = self
            .backend
            .list_page::<Deployment>(&Scope::everything(), None, usize::MAX)
            .await?;
        for unreadable in &page.unreadable {
            let (path, reason) = (&unreadable.path, &unreadable.reason);
            tracing::error!(%path, %reason, "a deployment is left alone: this version of migpool does not read it");
        }
        let under_way = page
            .records
            .iter()
            .filter(|stored| !stored.record.state.is_terminal());
        active.extend(under_way.map(|stored| stored.record.key.path()));
        Ok(())
    }

    async fn advance_all(&self, active: &mut BTreeSet<String>) -> Result<(), ArmError> {
        for path in active.clone() {
            if self.advance(&path).await? == Advanced::Ended {
                active.remove(&path);
            }
        }
        Ok(())
    }

    /// Does what can be done for a deployment now.
    async fn advance(&self, path: &str) -> Result<Advanced, ArmError> {
        loop {
            let stored = match self.backend.get_at::<Deployment>(path).await {
                Ok(Some(stored)) if !stored.record.state.is_terminal() => stored,
                Ok(_) => return Ok(Advanced::Ended),
                Err(error @ StoreError::Unreadable { .. }) => {
                    tracing::error!(path, %error, "a deployment is left alone");
                    return Ok(Advanced::Ended);
                }
                Err(error) => return Err(error.into()),
            };
            let mut deployment = stored.record.clone();
            match self.step(&mut deployment).await {
                Ok(()) => {}
                // The matter of this deployment alone, which would never come further.
                Err(error) if error.is_of_one_record() => {
                    let error = Some(error.into_operation_error());
                    deployment.ended(DeploymentState::Failed, error, Timestamp::now());
                }
                Err(error) => return Err(error),
            }
            if deployment == stored.record {
                return Ok(Advanced::Waits);
            }
            let change = Change::update(&deployment, stored.revision)?;
            match self.backend.commit(vec![change]).await {
                Ok(_) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes in what has ended, begins what can begin, and ends the whole when nothing is left to do.
    async fn step(&self, deployment: &mut Deployment) -> Result<(), ArmError> {
        let now = Timestamp::now();
        for step in &mut deployment.steps {
            if step.state == StepState::Running
                && let Some(outcome) = self.outcome(step).await?
            {
                step.ended(outcome.err(), now);
            }
        }
        let ready = deployment.ready();
        for place in &ready {
            if let Some(step) = deployment.steps.get_mut(*place) {
                self.begin(step, now).await?;
            }
        }
        let is = |state| deployment.steps.iter().any(|step| step.state == state);
        if !ready.is_empty() || is(StepState::Running) {
            return Ok(());
        }
        if is(StepState::Failed) {
            deployment.ended(DeploymentState::Failed, Some(failed()), now);
            return Ok(());
        }
        match self.outputs(deployment).await? {
            Ok(outputs) => {
                deployment.outputs = outputs;
                deployment.ended(DeploymentState::Succeeded, None, now);
            }
            Err(error) => deployment.ended(DeploymentState::Failed, Some(error), now),
        }
        Ok(())
    }

    /// Asks for the resource of a step.
    async fn begin(&self, step: &mut DeploymentStep, now: Timestamp) -> Result<(), ArmError> {
        step.start = Some(now);
        match self.ask(step).await {
            Ok((status, operation)) => {
                step.state = StepState::Running;
                step.operation = operation;
                step.created = status == StatusCode::CREATED;
                Ok(())
            }
            Err(error) if error.is_of_the_server() => Err(error),
            Err(error) => {
                step.ended(Some(error.into_operation_error()), now);
                Ok(())
            }
        }
    }

    async fn ask(
        &self,
        step: &DeploymentStep,
    ) -> Result<(StatusCode, Option<uuid::Uuid>), ArmError> {
        let store = &*self.backend;
        let version = ApiVersion::of_container_service(&step.api_version)?;
        let body = plan::as_body(step.body.clone());
        let unconditional = HeaderMap::new();
        match &step.target {
            OperationTarget::Cluster(key) => {
                let asked = managed_cluster::put::read(body, &version)?;
                let (status, stored) =
                    managed_cluster::put::ask(store, key, &unconditional, &asked).await?;
                Ok((status, stored.record.operation))
            }
            OperationTarget::NodePool(key) => {
                let asked = agent_pool::put::read(body, &version)?;
                let put = agent_pool::put::ask(store, key, &unconditional, &asked).await?;
                Ok((put.status, put.pool.record.operation))
            }
            OperationTarget::Group(key) => Err(ArmError::group_not_found(key)),
        }
    }

    /// How the resource of a step ended, if it did: by the operation on it, or by what it is now.
    async fn outcome(&self, step: &DeploymentStep) -> Result<Option<Outcome>, ArmError> {
        let store = &*self.backend;
        if let Some(id) = step.operation {
            let key = OperationKey {
                subscription: step.target.subscription().clone(),
                id,
            };
            let found = match store.get::<Operation>(&key).await {
                // The resource itself says it too.
                Err(StoreError::Unreadable { .. }) => None,
                found => found?,
            };
            if let Some(operation) = found {
                return Ok(match operation.record.status {
                    OperationStatus::InProgress => None,
                    OperationStatus::Succeeded => Some(Ok(())),
                    OperationStatus::Failed | OperationStatus::Canceled => {
                        let error = operation.record.error;
                        Some(Err(error.unwrap_or_else(|| OperationError {
                            code: "OperationFailed".to_owned(),
                            message: "The operation on the resource did not succeed.".to_owned(),
                        })))
                    }
                });
            }
        }
        let is = match &step.target {
            OperationTarget::Cluster(key) => {
                let stored = store.get::<Cluster>(key).await?;
                stored.map(|it| (it.record.provisioning_state, it.record.message))
            }
            OperationTarget::NodePool(key) => {
                let stored = store.get::<NodePool>(key).await?;
                stored.map(|it| (it.record.provisioning_state, it.record.message))
            }
            OperationTarget::Group(_) => None,
        };
        Ok(match is {
            Some((ProvisioningState::Succeeded, _)) => Some(Ok(())),
            Some((state, _)) if !state.is_terminal() => None,
            Some((state, message)) => Some(Err(OperationError {
                code: format!("Resource{state}"),
                message,
            })),
            None => Some(Err(OperationError {
                code: "ResourceNotFound".to_owned(),
                message: "The resource was deleted in the meantime.".to_owned(),
            })),
        })
    }

    /// The outputs of a deployment whose resources are there.
    async fn outputs(
        &self,
        deployment: &Deployment,
    ) -> Result<Result<Map<String, Value>, OperationError>, ArmError> {
        let pending = |field: &str| {
            let object = deployment.pending.get(field).and_then(Value::as_object);
            object.cloned().unwrap_or_default()
        };
        let outputs = pending("outputs");
        let mut bodies = Vec::new();
        if !outputs.is_empty() {
            for step in &deployment.steps {
                bodies.push((step.target.resource_id(), self.body(&step.target).await?));
            }
        }
        let key = &deployment.key;
        let surroundings = Surroundings {
            subscription: key.group.subscription.to_string(),
            subscription_object: pending("subscription").into(),
            group: key.group.group.to_string(),
            group_object: pending("group").into(),
            deployment_object: serde_json::json!({ "name": key.deployment }),
        };
        let scope = Expressions::new(
            Names::new("parameter", None, pending("parameters")),
            Names::new("variable", None, pending("variables")),
            &surroundings,
            Resources::There(&bodies),
        );
        let shown = template::outputs(&outputs, &scope);
        Ok(match shown {
            Ok(shown) => Ok(shown.unwrap_or_default()),
            Err(error) => Err(OperationError {
                code: "DeploymentOutputEvaluationFailed".to_owned(),
                message: format!("The outputs of the deployment can't be evaluated: {error}."),
            }),
        })
    }

    /// A resource as its GET shows it; null if it is gone.
    async fn body(&self, target: &OperationTarget) -> Result<Value, ArmError> {
        let store = &*self.backend;
        let body = match target {
            OperationTarget::Cluster(key) => match store.get::<Cluster>(key).await? {
                Some(stored) => serde_json::to_value(managed_cluster::body(store, &stored).await?),
                None => Ok(Value::Null),
            },
            OperationTarget::NodePool(key) => {
                let cluster = store.get::<Cluster>(&key.cluster).await?;
                let stored = store.get::<NodePool>(key).await?;
                match cluster.zip(stored) {
                    Some((cluster, stored)) => {
                        serde_json::to_value(agent_pool::body(store, &stored, cluster.record.power))
                    }
                    None => Ok(Value::Null),
                }
            }
            OperationTarget::Group(_) => Ok(Value::Null),
        };
        body.map_err(|error| ArmError::invalid_content(&error.to_string()))
    }
}

/// How it stands with a deployment that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advanced {
    /// Its resources are under way.
    Waits,
    /// Nothing is left to do.
    Ended,
}

fn failed() -> OperationError {
    OperationError {
        code: "DeploymentFailed".to_owned(),
        message: "At least one resource deployment operation failed. Please list deployment operations for details. Please see https://aka.ms/arm-deployment-operations for usage details.".to_owned(),
    }
}

/// Takes in which deployments were written; `true` if that is not known, and all have to be looked at.
fn take_changes(
    told: Option<&mut broadcast::Receiver<Changed>>,
    active: &mut BTreeSet<String>,
) -> bool {
    let Some(told) = told else {
        return true;
    };
    let mut missed = false;
    loop {
        match told.try_recv() {
            Ok(records) => {
                let deployments = records.iter().filter(|(kind, _)| *kind == Kind::Deployment);
                active.extend(deployments.map(|(_, path)| path.clone()));
            }
            Err(TryRecvError::Lagged(_)) => missed = true,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return missed,
        }
    }
}
