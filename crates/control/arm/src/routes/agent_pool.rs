//! The paths of agent pools, and of the snapshots of them that there are none of.

use axum::Router;
use axum::routing::{get, post};

use crate::backend::{App, Backend};
use crate::{abort, agent_pool, snapshot};

/// What is about agent pools, in the cluster of this path.
pub(super) fn routes<B: Backend>(cluster: &str) -> Router<App<B>> {
    let pools = format!("{cluster}/agentpools");
    let pool = format!("{pools}/{{pool}}");
    let machines = format!("{pool}/machines");
    Router::new()
        .route(&pools, get(agent_pool::list::<B>))
        .route(
            &pool,
            get(agent_pool::show::<B>)
                .put(agent_pool::put::<B>)
                .delete(agent_pool::delete::<B>),
        )
        .route(&format!("{pool}/abort"), post(abort::of_pool::<B>))
        .route(
            &format!("{pool}/deletemachines"),
            post(agent_pool::delete_machines::delete_machines::<B>),
        )
        .route(&machines, get(agent_pool::machine::list::<B>))
        .route(
            &format!("{machines}/{{node}}"),
            get(agent_pool::machine::show::<B>),
        )
        .route(
            &format!("{pool}/upgradeprofiles/default"),
            get(agent_pool::upgrade::profile::<B>),
        )
        .route(
            &format!("{pool}/upgradenodeimageversion"),
            post(agent_pool::upgrade::node_image::<B>),
        )
        .route(
            &format!("{cluster}/availableagentpoolversions"),
            get(agent_pool::upgrade::available_versions::<B>),
        )
}

/// What is about snapshots, in the provider of a subscription and in that of a resource group.
pub(super) fn snapshots<B: Backend>(of_subscription: &str, of_group: &str) -> Router<App<B>> {
    let snapshots = format!("{of_group}/snapshots");
    Router::new()
        .route(
            &format!("{of_subscription}/snapshots"),
            get(snapshot::list_of_subscription),
        )
        .route(&snapshots, get(snapshot::list::<B>))
        .route(
            &format!("{snapshots}/{{snapshot}}"),
            get(snapshot::show::<B>)
                .put(snapshot::put::<B>)
                .patch(snapshot::show::<B>)
                .delete(snapshot::show::<B>),
        )
}
