//! From the resources of a template to the steps of a deployment, each looked at as if it were asked for alone.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use uuid::Uuid;

use pool::{
    Cluster, ClusterKey, DeploymentStep, GroupKey, NodeProvider, OperationTarget, PoolKey,
    StepState, Store,
};

use super::template::{Resource, TemplateError};
use crate::agent_pool;
use crate::api_version::ApiVersion;
use crate::body::Body;
use crate::error::ArmError;
use crate::managed_cluster::put;

/// The types that templates can hold.
pub(super) const CLUSTER: &str = "Microsoft.ContainerService/managedClusters";
pub(super) const POOL: &str = "Microsoft.ContainerService/managedClusters/agentPools";

/// The steps of a deployment, and what a person should know about how their bodies were read.
pub(super) struct Plan {
    pub(super) steps: Vec<DeploymentStep>,
    pub(super) warnings: Vec<String>,
}

/// Why there is no plan.
pub(super) enum PlanError {
    /// The template makes no sense.
    Template(TemplateError),
    /// A resource would be refused.
    Resource(String, Box<ArmError>),
    /// The store does not work.
    Store(ArmError),
}

impl From<TemplateError> for PlanError {
    fn from(error: TemplateError) -> Self {
        Self::Template(error)
    }
}

/// Plans the resources of a template.
///
/// # Errors
/// The first resource that can't be made here or would be refused, or a dependency that can't be.
pub(super) async fn plan<S: Store + NodeProvider>(
    store: &S,
    group: &GroupKey,
    resources: Vec<Resource>,
) -> Result<Plan, PlanError> {
    let mut targets = Vec::new();
    for resource in &resources {
        let target = target(group, resource)?;
        if targets.contains(&target) {
            return Err(wrong(format!(
                "the resource '{}' of type '{}' is defined twice",
                resource.name, resource.kind
            ))
            .into());
        }
        targets.push(target);
    }
    let mut steps = Vec::new();
    let mut warnings = Vec::new();
    for (place, resource) in resources.iter().enumerate() {
        let Some(target) = targets.get(place) else {
            continue;
        };
        let body = Value::Object(resource.body.clone());
        let looked = look(store, target, &targets, &resource.api_version, body.clone()).await;
        warnings.extend(looked.map_err(|error| {
            if error.is_of_the_server() {
                PlanError::Store(error)
            } else {
                PlanError::Resource(resource.name.clone(), Box::new(error))
            }
        })?);
        steps.push(DeploymentStep {
            id: Uuid::new_v4(),
            target: target.clone(),
            api_version: resource.api_version.clone(),
            body,
            after: after(place, resource, &resources, &targets)?,
            state: StepState::Waiting,
            operation: None,
            created: false,
            start: None,
            end: None,
            error: None,
        });
    }
    no_circles(&steps)?;
    Ok(Plan { steps, warnings })
}

fn wrong(reason: String) -> TemplateError {
    TemplateError(reason)
}

/// Which resource this is.
fn target(group: &GroupKey, resource: &Resource) -> Result<OperationTarget, TemplateError> {
    let (kind, name) = (&resource.kind, &resource.name);
    let refused =
        |reason: String| wrong(format!("the resource '{name}' of type '{kind}': {reason}"));
    let names: Vec<&str> = name.split('/').collect();
    let invalid = |error: pool::Invalid| refused(error.message);
    if kind.eq_ignore_ascii_case(CLUSTER) {
        let [cluster] = names.as_slice() else {
            return Err(refused("its name has to be a cluster's".to_owned()));
        };
        return Ok(OperationTarget::Cluster(ClusterKey {
            group: group.clone(),
            cluster: cluster.parse().map_err(invalid)?,
        }));
    }
    if kind.eq_ignore_ascii_case(POOL) {
        let [cluster, pool] = names.as_slice() else {
            return Err(refused(
                "its name has to be its cluster's, a slash, and its own".to_owned(),
            ));
        };
        return Ok(OperationTarget::NodePool(PoolKey {
            cluster: ClusterKey {
                group: group.clone(),
                cluster: cluster.parse().map_err(invalid)?,
            },
            pool: pool.parse().map_err(invalid)?,
        }));
    }
    Err(refused(format!(
        "resources of this type can't be made here; templates may hold {CLUSTER} and {POOL}"
    )))
}

/// Looks at a resource as its PUT would.
async fn look<S: Store + NodeProvider>(
    store: &S,
    target: &OperationTarget,
    all: &[OperationTarget],
    version: &str,
    body: Value,
) -> Result<Vec<String>, ArmError> {
    let version = ApiVersion::of_container_service(version)?;
    let body = as_body(body);
    match target {
        OperationTarget::Cluster(key) => {
            let asked = put::read(body, &version)?;
            match store.get::<Cluster>(key).await? {
                Some(there) => put::check_update(store, &there.record, &asked).await?,
                None => put::check_new(&asked, key, &store.versions())?,
            }
            Ok(asked.warnings())
        }
        OperationTarget::NodePool(key) => {
            let asked = agent_pool::put::read(body, &version)?;
            match store.get::<Cluster>(&key.cluster).await? {
                Some(there) => agent_pool::put::check_cluster(&there.record)?,
                None if all.contains(&OperationTarget::Cluster(key.cluster.clone())) => {}
                None => return Err(ArmError::parent_not_found(&key.cluster)),
            }
            let is_beside = |other: &OperationTarget| match other {
                OperationTarget::Cluster(cluster) => *cluster == key.cluster,
                OperationTarget::NodePool(pool) => pool != key && pool.cluster == key.cluster,
                OperationTarget::Group(_) => false,
            };
            let is_alone = !all.iter().any(is_beside);
            agent_pool::put::check(store, key, &asked, is_alone).await?;
            Ok(asked.warnings)
        }
        OperationTarget::Group(key) => Err(ArmError::group_not_found(key)),
    }
}

/// The body of a step.
pub(super) fn as_body(body: Value) -> Body {
    match body {
        Value::Object(body) => Body(body),
        _ => Body(Map::new()),
    }
}

/// The places of what a resource comes after: what it names, and the cluster of a pool.
fn after(
    place: usize,
    resource: &Resource,
    resources: &[Resource],
    targets: &[OperationTarget],
) -> Result<Vec<usize>, TemplateError> {
    let mut after = BTreeSet::new();
    for dependency in &resource.depends_on {
        let matches = |(other, target): (&Resource, &OperationTarget)| {
            let whole = format!("{}/{}", other.kind, other.name);
            let is = |text: &str| dependency.eq_ignore_ascii_case(text);
            is(&other.symbol) || is(&other.name) || is(&whole) || is(&target.resource_id())
        };
        let found = resources.iter().zip(targets).position(matches);
        // What the template does not make has to be there; its PUT tells if it is not.
        let is_path = dependency.starts_with('/');
        match found {
            Some(found) => {
                after.insert(found);
            }
            None if is_path => {}
            None if resource.symbol.is_empty() => {
                return Err(wrong(format!(
                    "the resource '{dependency}' that '{}' depends on is not defined in the template",
                    resource.name
                )));
            }
            None => {}
        }
    }
    if let Some(OperationTarget::NodePool(key)) = targets.get(place) {
        let cluster = OperationTarget::Cluster(key.cluster.clone());
        after.extend(targets.iter().position(|target| *target == cluster));
    }
    Ok(after.into_iter().collect())
}

fn no_circles(steps: &[DeploymentStep]) -> Result<(), TemplateError> {
    let mut done: BTreeSet<usize> = BTreeSet::new();
    loop {
        let next: Vec<usize> = (0..steps.len())
            .filter(|place| !done.contains(place))
            .filter(|place| {
                steps
                    .get(*place)
                    .is_some_and(|step| step.after.iter().all(|it| done.contains(it)))
            })
            .collect();
        if next.is_empty() {
            break;
        }
        done.extend(next);
    }
    match steps
        .iter()
        .enumerate()
        .find(|(place, _)| !done.contains(place))
    {
        None => Ok(()),
        Some((_, step)) => Err(wrong(format!(
            "the resource '{}' depends on itself, by way of others",
            step.target.resource_id()
        ))),
    }
}
