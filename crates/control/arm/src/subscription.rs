//! The account's subscription, its tenant, and the regions.

use axum::Json;
use axum::extract::State;

use pool::SubscriptionId;

use crate::account::Account;
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::path::At;
use crate::region::{self, Region};
use crate::types::{Location, LocationMetadata, ResourceList, Subscription, Tenant};
use crate::view::View;

fn resource(account: &Account) -> Subscription {
    Subscription {
        id: format!("/subscriptions/{}", account.subscription),
        authorization_source: "RoleBased".to_owned(),
        managed_by_tenants: Vec::new(),
        subscription_id: account.subscription.to_string(),
        tenant_id: account.tenant.to_string(),
        display_name: account.subscription_name.clone(),
        state: "Enabled".to_owned(),
        subscription_policies: serde_json::Map::new(),
    }
}

pub(crate) async fn list<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    view: View,
) -> Json<ResourceList<Subscription>> {
    let all = app.account.scope();
    let shown = view.shows_some_of(&all).then(|| resource(&app.account));
    Json(ResourceList::of(shown.into_iter().collect()))
}

/// That it is the account's was looked at before.
pub(crate) async fn show<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(_): At<SubscriptionId>,
) -> Json<Subscription> {
    Json(resource(&app.account))
}

pub(crate) async fn tenants<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
) -> Json<ResourceList<Tenant>> {
    let account = &app.account;
    Json(ResourceList::of(vec![Tenant {
        id: format!("/tenants/{}", account.tenant),
        tenant_id: account.tenant.to_string(),
        display_name: account.tenant_name.clone(),
        tenant_category: "Home".to_owned(),
        domains: Vec::new(),
    }]))
}

/// A region is only a name here, and other names do as well as Azure's; these are told so that people can choose one.
pub(crate) async fn locations(
    _: ApiVersion,
    At(subscription): At<SubscriptionId>,
) -> Result<Json<ResourceList<Location>>, ArmError> {
    let location = |region: &Region| Location {
        id: format!("/subscriptions/{subscription}/locations/{}", region.name()),
        name: region.name(),
        kind: "Region".to_owned(),
        display_name: region.display_name.to_owned(),
        regional_display_name: format!("({}) {}", region.geography_group, region.display_name),
        metadata: LocationMetadata {
            region_type: "Physical".to_owned(),
            region_category: "Recommended".to_owned(),
            geography_group: region.geography_group.to_owned(),
            paired_region: Vec::new(),
        },
    };
    Ok(Json(ResourceList::of(
        region::ALL.iter().map(location).collect(),
    )))
}
