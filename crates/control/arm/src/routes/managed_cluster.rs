//! Routes of managed clusters.

use axum::Router;
use axum::routing::{get, post};

use crate::abort;
use crate::backend::{App, Backend};
use crate::managed_cluster::{self, credential, power, put, refused, tags, version};

/// What is about clusters: those of a group, and what can be done with one.
pub(super) fn routes<B: Backend>(clusters: &str, provider: &str) -> Router<App<B>> {
    let cluster = format!("{clusters}/{{cluster}}");
    let of = |what: &str| format!("{cluster}/{what}");
    Router::new()
        .route(clusters, get(managed_cluster::list::<B>))
        .route(
            &format!("{provider}/managedclusters"),
            get(managed_cluster::list_of_subscription::<B>),
        )
        .route(
            &format!("{provider}/locations/{{location}}/kubernetesversions"),
            get(version::list::<B>),
        )
        .route(
            &cluster,
            get(managed_cluster::show::<B>)
                .put(put::put::<B>)
                .patch(tags::patch::<B>)
                .delete(managed_cluster::delete::<B>),
        )
        .route(
            &of("listclusterusercredential"),
            post(credential::user::<B>),
        )
        .route(
            &of("listclusteradmincredential"),
            post(credential::admin::<B>),
        )
        .route(
            &of("listclustermonitoringusercredential"),
            post(credential::monitoring_user::<B>),
        )
        .route(&of("stop"), post(power::stop::<B>))
        .route(&of("start"), post(power::start::<B>))
        .route(&of("abort"), post(abort::of_cluster_and_pools::<B>))
        .route(
            &of("upgradeprofiles/default"),
            get(version::upgrade_profile::<B>),
        )
        .route(&of("runcommand"), post(refused::run_command::<B>))
        .route(&of("rotateclustercertificates"), post(refused::rotate::<B>))
        .route(
            &of("rotateserviceaccountsigningkeys"),
            post(refused::rotate::<B>),
        )
        .route(
            &of("resetserviceprincipalprofile"),
            post(refused::reset_profile::<B>),
        )
        .route(&of("resetaadprofile"), post(refused::reset_profile::<B>))
        .route(
            &of("accessprofiles/{role}"),
            get(refused::access_profile::<B>),
        )
        .route(
            &of("accessprofiles/{role}/listcredential"),
            post(refused::access_profile::<B>),
        )
}
