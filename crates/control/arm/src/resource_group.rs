//! Resource groups.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::Map;

use pool::{
    Change, Group, GroupKey, ProvisioningState, Scope, Store, StoreError, Stored, SubscriptionId,
    transition,
};

use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::body::Body;
use crate::error::ArmError;
use crate::filter::Filter;
use crate::long_running::Origin;
use crate::paging::Paging;
use crate::path::At;
use crate::types::{GroupProperties, ResourceGroup};
use crate::unread;
use crate::view::View;

/// How often a change is tried again when somebody else was faster.
pub(crate) const ATTEMPTS: usize = 8;

const TYPE: &str = "Microsoft.Resources/resourceGroups";

/// How many groups a page of their list has.
const PAGE: usize = 500;

pub(crate) fn resource(group: &Group) -> ResourceGroup {
    ResourceGroup {
        id: group.key.to_string(),
        name: group.key.group.to_string(),
        kind: TYPE.to_owned(),
        location: Some(group.location.clone()),
        tags: Some(group.tags.clone()),
        e_tag: None,
        properties: GroupProperties {
            provisioning_state: group.provisioning_state.to_string(),
        },
        extra: Map::new(),
    }
}

/// A region in ARM's normal form: `South Central US` is `southcentralus`.
///
/// # Errors
/// If it is no region's name.
pub(crate) fn location(text: &str) -> Result<String, ArmError> {
    let normal: String = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if !normal.is_empty() && normal.len() <= 64 && normal.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        return Ok(normal);
    }
    Err(pool::Invalid::new(
        "LocationNotAvailableForResourceGroup",
        Some("location"),
        format!("The provided location '{text}' is not the name of a region. Use letters and digits, such as 'southcentralus'."),
    )
    .into())
}

/// The group, if it is there.
pub(crate) async fn find<S: Store>(store: &S, key: &GroupKey) -> Result<Stored<Group>, ArmError> {
    store
        .get::<Group>(key)
        .await?
        .ok_or_else(|| ArmError::group_not_found(key))
}

/// The group, if something can be made in it.
pub(crate) async fn usable<S: Store>(store: &S, key: &GroupKey) -> Result<Stored<Group>, ArmError> {
    let stored = find(store, key).await?;
    if stored.record.provisioning_state == ProvisioningState::Deleting {
        return Err(ArmError::group_being_deleted(key));
    }
    Ok(stored)
}

pub(crate) async fn list<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(subscription): At<SubscriptionId>,
    filter: Filter,
    paging: Paging,
    view: View,
) -> Result<Response, ArmError> {
    let filter = filter.only(&["tagName", "tagValue"])?;
    let scope = Scope::subscription(&subscription);
    let after = paging.after(&scope)?;
    let page = view
        .page::<Group, _>(&*app.backend, &scope, after, paging.top(PAGE)?)
        .await?;
    let groups = page
        .records
        .iter()
        .map(|stored| &stored.record)
        .filter(|group| filter.allows_tags(&group.tags))
        .map(resource);
    Ok(paging.answer(groups.collect(), page.next.as_deref(), &page.unreadable))
}

pub(crate) async fn show<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<GroupKey>,
) -> Result<Json<ResourceGroup>, ArmError> {
    Ok(Json(resource(&find(&*app.backend, &key).await?.record)))
}

pub(crate) async fn exists<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<GroupKey>,
) -> Result<StatusCode, ArmError> {
    find(&*app.backend, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn put<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<GroupKey>,
    mut body: Body,
) -> Result<Response, ArmError> {
    let asked = body
        .text("location")?
        .ok_or_else(ArmError::location_required)?;
    let location = location(&asked)?;
    let tags = body.texts("tags")?;
    for _ in 0..ATTEMPTS {
        let (status, group, change) = match app.backend.get::<Group>(&key).await? {
            None => {
                let group = Group {
                    key: key.clone(),
                    location: location.clone(),
                    tags: tags.clone(),
                    provisioning_state: ProvisioningState::Succeeded,
                    operation: None,
                };
                let change = Change::create(&group)?;
                (StatusCode::CREATED, group, change)
            }
            Some(stored) => {
                if stored.record.provisioning_state == ProvisioningState::Deleting {
                    return Err(ArmError::group_being_deleted(&key));
                }
                if stored.record.location != location {
                    return Err(ArmError::group_elsewhere(
                        &key,
                        &asked,
                        &stored.record.location,
                    ));
                }
                let group = Group {
                    tags: tags.clone(),
                    ..stored.record
                };
                let change = Change::update(&group, stored.revision)?;
                (StatusCode::OK, group, change)
            }
        };
        match app.backend.commit(vec![change]).await {
            Ok(_) => return Ok((status, Json(resource(&group))).into_response()),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(&key))
}

/// Tags, which take the place of those that are there; nothing else of a group can be changed.
pub(crate) async fn patch<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<GroupKey>,
    mut body: Body,
) -> Result<Json<ResourceGroup>, ArmError> {
    let tags = match body.take("tags") {
        None => None,
        Some(tags) => {
            body.0.insert("tags".to_owned(), tags);
            Some(body.texts("tags")?)
        }
    };
    for _ in 0..ATTEMPTS {
        let stored = usable(&*app.backend, &key).await?;
        let group = Group {
            tags: tags.clone().unwrap_or_else(|| stored.record.tags.clone()),
            ..stored.record
        };
        let change = Change::update(&group, stored.revision)?;
        match app.backend.commit(vec![change]).await {
            Ok(_) => return Ok(Json(resource(&group))),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(&key))
}

pub(crate) async fn export_template<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<GroupKey>,
) -> Result<(), ArmError> {
    find(&*app.backend, &key).await?;
    Err(ArmError::not_supported(
        "Templates are not written here. Read the resources with 'az resource list' and 'az aks show', and keep the template that you deploy.",
    ))
}

/// What is forced, `forceDeletionTypes`, is so anyhow: a pool's nodes are asked to go, and then they go.
pub(crate) async fn delete<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<GroupKey>,
    origin: Origin,
) -> Result<Response, ArmError> {
    unread::removed::<Group, _>(&*app.backend, &key, &HeaderMap::new()).await?;
    for _ in 0..ATTEMPTS {
        let stored = find(&*app.backend, &key).await?;
        let mut group = stored.record;
        let running = group
            .operation
            .filter(|_| group.provisioning_state == ProvisioningState::Deleting);
        let committed = if let Some(id) = running {
            Ok(id)
        } else {
            let deleting = ProvisioningState::Deleting;
            let (operation, mut changes) =
                transition::begin(&*app.backend, &mut group, deleting, Timestamp::now()).await?;
            changes.push(Change::update(&group, stored.revision)?);
            app.backend.commit(changes).await.map(|_| operation.key.id)
        };
        match committed {
            Ok(id) => {
                let mut response = StatusCode::ACCEPTED.into_response();
                origin.group_result(response.headers_mut(), &key.subscription, id);
                return Ok(response);
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(&key))
}

/// The answer when somebody else was faster each time.
pub(crate) fn gave_up(key: &impl pool::Key) -> ArmError {
    StoreError::Conflict {
        kind: pool::Kind::Operation,
        path: key.path(),
    }
    .into()
}
