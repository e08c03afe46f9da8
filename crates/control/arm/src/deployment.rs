//! Deployments: clusters and pools by a template, as `az deployment group create` and Bicep have it.
//!
//! A template is read (`request`), evaluated (`template`) with the little of its language (`expression`) that clusters and pools
//! need, and planned (`plan`) as steps, all before anything is done: one that can't be carried out as a whole is refused. The
//! steps are kept with the deployment, and the [`Deployer`] carries them out by the same code as the resources' own PUT.

mod deployer;
mod expression;
mod function;
mod names;
mod parameter;
mod plan;
mod request;
mod scope;
mod shown;
mod template;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use pool::{
    Change, Deployment, DeploymentKey, DeploymentState, Group, GroupKey, OperationTarget, Scope,
    Store, StoreError, Stored,
};

use self::names::Names;
use self::plan::PlanError;
use self::scope::{Resources, Scope as Expressions, Surroundings};
use self::template::Asked;
use crate::account::Account;
use crate::agent_pool::warn;
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::filter::Filter;
use crate::long_running::Origin;
use crate::paging::Paging;
use crate::path::At;
use crate::resource_group::{self, ATTEMPTS, gave_up};
use crate::types;
use crate::unread;

pub use deployer::Deployer;
pub(crate) use request::DeploymentBody;

/// How many deployments of a group are kept; ARM's figure. The oldest give way.
const KEPT: usize = 800;
/// How many deployments a page of their list has.
const PAGE: usize = 200;

async fn find<S: Store>(store: &S, key: &DeploymentKey) -> Result<Stored<Deployment>, ArmError> {
    resource_group::find(store, &key.group).await?;
    store
        .get::<Deployment>(key)
        .await?
        .ok_or_else(|| ArmError::deployment_not_found(key))
}

/// What expressions can say of where they are.
fn surroundings(account: &Account, key: &DeploymentKey, group: &Group) -> Surroundings {
    let subscription = key.group.subscription.to_string();
    Surroundings {
        subscription_object: json!({
            "id": format!("/subscriptions/{subscription}"),
            "subscriptionId": subscription,
            "tenantId": account.tenant,
            "displayName": account.subscription_name,
        }),
        subscription,
        group: group.key.group.to_string(),
        group_object: serde_json::to_value(resource_group::resource(group)).unwrap_or_default(),
        deployment_object: json!({ "name": key.deployment }),
    }
}

/// A deployment that can begin, and what a person should know about how it was read.
async fn prepare<B: Backend>(
    app: &App<B>,
    key: &DeploymentKey,
    group: &Group,
    asked: &Asked,
) -> Result<(Deployment, Vec<String>), ArmError> {
    let surroundings = surroundings(&app.account, key, group);
    let wrong = |error: template::TemplateError| ArmError::invalid_template(&error.to_string());
    let evaluated = template::evaluate(asked, &surroundings).map_err(wrong)?;
    let plan = plan::plan(&*app.backend, &key.group, evaluated.resources).await;
    let plan = plan.map_err(|error| match error {
        PlanError::Template(error) => wrong(error),
        PlanError::Resource(name, error) => {
            ArmError::invalid_template_deployment(key, &name, &error)
        }
        PlanError::Store(error) => error,
    })?;
    let ids: Vec<String> = plan
        .steps
        .iter()
        .map(|step| step.target.resource_id())
        .collect();
    let scope = Expressions::new(
        Names::new("parameter", None, evaluated.parameters.clone()),
        Names::new("variable", None, evaluated.variables.clone()),
        &surroundings,
        Resources::Later(&ids),
    );
    template::outputs(&evaluated.outputs, &scope).map_err(wrong)?;
    let whole = Value::Object(asked.template.clone()).to_string();
    let deployment = Deployment {
        key: key.clone(),
        state: DeploymentState::Running,
        correlation: Uuid::new_v4(),
        start: Timestamp::now(),
        end: None,
        error: None,
        template_hash: Uuid::new_v5(&Uuid::NAMESPACE_OID, whole.as_bytes()).to_string(),
        parameters: evaluated.shown,
        outputs: Map::new(),
        pending: json!({
            "parameters": evaluated.parameters,
            "variables": evaluated.variables,
            "outputs": evaluated.outputs,
            "subscription": surroundings.subscription_object,
            "group": surroundings.group_object,
        }),
        steps: plan.steps,
    };
    Ok((deployment, plan.warnings))
}

pub(crate) async fn put<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<DeploymentKey>,
    origin: Origin,
    DeploymentBody(asked): DeploymentBody,
) -> Result<Response, ArmError> {
    let store = &*app.backend;
    for _ in 0..ATTEMPTS {
        let group = resource_group::usable(store, &key.group).await?;
        let existing = store.get::<Deployment>(&key).await?;
        if let Some(running) = existing
            .as_ref()
            .filter(|it| !it.record.state.is_terminal())
        {
            return Err(ArmError::deployment_active(&running.record));
        }
        let (deployment, warnings) = prepare(&app, &key, &group.record, &asked).await?;
        let (status, change) = if let Some(stored) = &existing {
            (
                StatusCode::OK,
                Change::update(&deployment, stored.revision)?,
            )
        } else {
            forget_the_oldest(store, &key.group).await?;
            (StatusCode::CREATED, Change::create(&deployment)?)
        };
        // Nor may the group's deletion start in between.
        let changes = vec![change, Change::unchanged(&group)];
        match store.commit(changes).await {
            Ok(_) => {
                let mut response = (status, Json(shown::resource(&deployment))).into_response();
                let at = format!("{key}/operationStatuses/{}", deployment.correlation);
                origin.resource_operation(response.headers_mut(), &at);
                warn(response.headers_mut(), &warnings);
                return Ok(response);
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(&key))
}

/// Makes room for another deployment of a group.
async fn forget_the_oldest<S: Store>(store: &S, group: &GroupKey) -> Result<(), ArmError> {
    let page = store
        .list_page::<Deployment>(&Scope::group(group), None, usize::MAX)
        .await?;
    if page.records.len() < KEPT {
        return Ok(());
    }
    let ended = page
        .records
        .iter()
        .filter(|stored| stored.record.state.is_terminal());
    let Some(oldest) = ended.min_by_key(|stored| stored.record.start) else {
        return Ok(());
    };
    match store.commit(vec![Change::delete(oldest)]).await {
        Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn validate<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<DeploymentKey>,
    DeploymentBody(asked): DeploymentBody,
) -> Result<Response, ArmError> {
    let group = resource_group::usable(&*app.backend, &key.group).await?;
    let (deployment, warnings) = prepare(&app, &key, &group.record, &asked).await?;
    let mut response = Json(shown::validated(&deployment)).into_response();
    warn(response.headers_mut(), &warnings);
    Ok(response)
}

pub(crate) async fn show<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<DeploymentKey>,
) -> Result<Json<types::Deployment>, ArmError> {
    let stored = find(&*app.backend, &key).await?;
    Ok(Json(shown::resource(&stored.record)))
}

pub(crate) async fn exists<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<DeploymentKey>,
) -> Result<StatusCode, ArmError> {
    find(&*app.backend, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn list<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<GroupKey>,
    filter: Filter,
    paging: Paging,
) -> Result<Response, ArmError> {
    let filter = filter.only(&["provisioningState"])?;
    resource_group::find(&*app.backend, &key).await?;
    let scope = Scope::group(&key);
    let after = paging.after(&scope)?;
    let page = app
        .backend
        .list_page::<Deployment>(&scope, after, paging.top(PAGE)?)
        .await?;
    let deployments = page
        .records
        .iter()
        .map(|stored| &stored.record)
        .filter(|it| filter.allows("provisioningState", &it.state.to_string()))
        .map(shown::resource);
    Ok(paging.answer(
        deployments.collect(),
        page.next.as_deref(),
        &page.unreadable,
    ))
}

/// The record alone goes: what was deployed stays.
pub(crate) async fn delete<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<DeploymentKey>,
) -> Result<StatusCode, ArmError> {
    let store = &*app.backend;
    if unread::removed::<Deployment, _>(store, &key, &HeaderMap::new()).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    for _ in 0..ATTEMPTS {
        resource_group::find(store, &key.group).await?;
        let Some(stored) = store.get::<Deployment>(&key).await? else {
            return Ok(StatusCode::NO_CONTENT);
        };
        if !stored.record.state.is_terminal() {
            return Err(ArmError::deployment_active(&stored.record));
        }
        match store.commit(vec![Change::delete(&stored)]).await {
            Ok(_) => return Ok(StatusCode::NO_CONTENT),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(&key))
}

/// What has begun goes on by itself; nothing more begins.
pub(crate) async fn cancel<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<DeploymentKey>,
) -> Result<StatusCode, ArmError> {
    let store = &*app.backend;
    for _ in 0..ATTEMPTS {
        let stored = find(store, &key).await?;
        if stored.record.state.is_terminal() {
            return Err(ArmError::deployment_ended(&stored.record));
        }
        let mut deployment = stored.record;
        let error = pool::OperationError {
            code: "DeploymentCanceled".to_owned(),
            message: "The deployment was canceled. What had begun goes on by itself.".to_owned(),
        };
        deployment.ended(DeploymentState::Canceled, Some(error), Timestamp::now());
        let change = Change::update(&deployment, stored.revision)?;
        match store.commit(vec![change]).await {
            Ok(_) => return Ok(StatusCode::NO_CONTENT),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(&key))
}

pub(crate) async fn operations<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<DeploymentKey>,
) -> Result<Json<types::ResourceList<types::DeploymentOperation>>, ArmError> {
    let stored = find(&*app.backend, &key).await?;
    Ok(Json(types::ResourceList::of(shown::operations(
        &stored.record,
    ))))
}

/// What `Azure-AsyncOperation` leads to.
pub(crate) async fn status<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At((key, correlation)): At<(DeploymentKey, Uuid)>,
) -> Result<Response, ArmError> {
    let stored = find(&*app.backend, &key).await?;
    let deployment = &stored.record;
    if deployment.correlation != correlation {
        return Err(ArmError::not_found(&format!(
            "The status '{correlation}' of the deployment '{}'",
            key.deployment
        )));
    }
    let mut response = Json(types::DeploymentStatus {
        status: deployment.state.to_string(),
        error: shown::error(deployment),
    })
    .into_response();
    if !deployment.state.is_terminal() {
        crate::long_running::retry_after(response.headers_mut());
    }
    Ok(response)
}

/// Refused in an answer that is well, as ARM tells what a what-if came upon: Azure's command line breaks at others.
pub(crate) async fn what_if<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<DeploymentKey>,
) -> Result<Json<types::DeploymentStatus>, ArmError> {
    resource_group::find(&*app.backend, &key.group).await?;
    Ok(Json(types::DeploymentStatus {
        status: DeploymentState::Failed.to_string(),
        error: Some(types::DetailedError {
            code: "NotSupported".to_owned(),
            message: "What a deployment would change can't be told beforehand here. 'az deployment group validate' says whether it can be carried out.".to_owned(),
            target: Some(key.to_string()),
            details: Vec::new(),
        }),
    }))
}

pub(crate) async fn export_template<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<DeploymentKey>,
) -> Result<(), ArmError> {
    find(&*app.backend, &key).await?;
    Err(ArmError::not_supported(
        "The template of a deployment is not kept here. Keep it where it is written.",
    ))
}

/// The names of a target as a person writes them, and its type.
fn named(target: &OperationTarget) -> (&'static str, String) {
    match target {
        OperationTarget::Group(key) => {
            ("Microsoft.Resources/resourceGroups", key.group.to_string())
        }
        OperationTarget::Cluster(key) => (plan::CLUSTER, key.cluster.to_string()),
        OperationTarget::NodePool(key) => {
            (plan::POOL, format!("{}/{}", key.cluster.cluster, key.pool))
        }
    }
}
