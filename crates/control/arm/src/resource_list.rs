//! Resources of all types, as they are listed for a subscription or a group. Of those that ARM lists there are clusters.

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;

use pool::{Cluster, GroupKey, Scope, Store, Stored, SubscriptionId};

use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::filter::Filter;
use crate::paging::Paging;
use crate::path::{At, Query};
use crate::resource_group;
use crate::types::GenericResource;
use crate::view::View;

/// As it is in paths; a cluster's own body has it with another capital.
const TYPE: &str = "Microsoft.ContainerService/managedClusters";

/// How many resources a page of their list has.
const PAGE: usize = 500;

/// By which fields resources can be chosen.
const FIELDS: &[&str] = &[
    "location",
    "name",
    "resourceGroup",
    "resourceType",
    "tagName",
    "tagValue",
];

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Expand {
    /// Fields that are told beside the others, joined by commas: `createdTime`, `provisioningState`.
    #[serde(rename = "$expand")]
    expand: Option<String>,
}

impl Expand {
    fn has(&self, field: &str) -> bool {
        let expand = self.expand.as_deref().unwrap_or_default();
        expand
            .split(',')
            .any(|asked| asked.trim().eq_ignore_ascii_case(field))
    }
}

fn resource(stored: &Stored<Cluster>, expand: &Expand) -> GenericResource {
    let cluster = &stored.record;
    GenericResource {
        id: cluster.key.to_string(),
        name: cluster.key.cluster.to_string(),
        kind: TYPE.to_owned(),
        location: cluster.location.clone(),
        tags: cluster.tags.clone(),
        provisioning_state: expand
            .has("provisioningState")
            .then(|| cluster.provisioning_state.to_string()),
        created_time: expand.has("createdTime").then_some(cluster.created),
        extra: cluster.envelope.clone(),
    }
}

fn is_asked(cluster: &Cluster, filter: &Filter) -> bool {
    filter.allows("resourceType", TYPE)
        && filter.allows("name", cluster.key.cluster.as_str())
        && filter.allows("resourceGroup", cluster.key.group.group.as_str())
        && filter.allows("location", &cluster.location)
        && filter.allows_tags(&cluster.tags)
}

async fn listed<S: Store>(
    store: &S,
    scope: &Scope,
    filter: &Filter,
    paging: &Paging,
    expand: &Expand,
    view: &View,
) -> Result<Response, ArmError> {
    let filter = filter.only(FIELDS)?;
    let after = paging.after(scope)?;
    let page = view.page::<Cluster, _>(store, scope, after, paging.top(PAGE)?);
    let page = page.await?;
    let resources = page
        .records
        .iter()
        .filter(|stored| is_asked(&stored.record, filter))
        .map(|stored| resource(stored, expand));
    Ok(paging.answer(resources.collect(), page.next.as_deref(), &page.unreadable))
}

pub(crate) async fn of_subscription<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(subscription): At<SubscriptionId>,
    filter: Filter,
    paging: Paging,
    Query(expand): Query<Expand>,
    view: View,
) -> Result<Response, ArmError> {
    let scope = Scope::subscription(&subscription);
    listed(&*app.backend, &scope, &filter, &paging, &expand, &view).await
}

pub(crate) async fn of_group<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<GroupKey>,
    filter: Filter,
    paging: Paging,
    Query(expand): Query<Expand>,
    view: View,
) -> Result<Response, ArmError> {
    resource_group::find(&*app.backend, &key).await?;
    let scope = Scope::group(&key);
    listed(&*app.backend, &scope, &filter, &paging, &expand, &view).await
}
