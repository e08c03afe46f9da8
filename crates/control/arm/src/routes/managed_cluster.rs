//! Routes of managed clusters.

use axum::http::StatusCode;

use super::Routes;
use crate::abort;
use crate::backend::Backend;
use crate::managed_cluster::{self, credential, power, put, refused, tags, version};
use crate::openapi::Header::{AzureAsyncOperation, ETag, Location, RetryAfter};
use crate::openapi::Op;
use crate::types::{
    ClusterUpgradeProfile, CredentialResults, KubernetesVersions, ManagedCluster,
    PutManagedCluster, ResourceList, TagsObject,
};

/// What is about clusters: those of a group, and what can be done with one.
pub(super) fn routes<B: Backend>(clusters: &str, provider: &str) -> Routes<B> {
    let cluster = format!("{clusters}/{{cluster}}");
    let of = |what: &str| format!("{cluster}/{what}");
    lists(clusters, provider)
        .get(
            &cluster,
            Op::new(
                "ManagedClusters_Get",
                "Gets a cluster, with its agent pools.",
            )
            .answers::<ManagedCluster>(StatusCode::OK)
            .with(&[ETag]),
            managed_cluster::show::<B>,
        )
        .put(
            &cluster,
            Op::new(
                "ManagedClusters_CreateOrUpdate",
                "Makes a cluster and its agent pools, or changes them.",
            )
            .takes::<PutManagedCluster>()
            .answers::<ManagedCluster>(StatusCode::OK)
            .answers::<ManagedCluster>(StatusCode::CREATED)
            .with(&[ETag, AzureAsyncOperation, RetryAfter]),
            put::put::<B>,
        )
        .patch(
            &cluster,
            Op::new("ManagedClusters_UpdateTags", "Tags a cluster.")
                .takes::<TagsObject>()
                .answers::<ManagedCluster>(StatusCode::OK)
                .with(&[ETag]),
            tags::patch::<B>,
        )
        .delete(
            &cluster,
            Op::new(
                "ManagedClusters_Delete",
                "Deletes a cluster, its agent pools and their nodes.",
            )
            .ends(StatusCode::ACCEPTED)
            .with(&[AzureAsyncOperation, Location, RetryAfter])
            .ends(StatusCode::NO_CONTENT),
            managed_cluster::delete::<B>,
        )
        .get(
            &of("upgradeProfiles/default"),
            Op::new(
                "ManagedClusters_GetUpgradeProfile",
                "Gets to what a cluster can be upgraded.",
            )
            .answers::<ClusterUpgradeProfile>(StatusCode::OK),
            version::upgrade_profile::<B>,
        )
        .and(power(&of))
        .and(credentials(&of))
        .and(refused(&of))
}

fn lists<B: Backend>(clusters: &str, provider: &str) -> Routes<B> {
    Routes::new()
        .get(
            clusters,
            Op::new(
                "ManagedClusters_ListByResourceGroup",
                "Lists the clusters of a resource group.",
            )
            .answers::<ResourceList<ManagedCluster>>(StatusCode::OK),
            managed_cluster::list::<B>,
        )
        .get(
            &format!("{provider}/managedClusters"),
            Op::new(
                "ManagedClusters_List",
                "Lists the clusters of a subscription.",
            )
            .answers::<ResourceList<ManagedCluster>>(StatusCode::OK),
            managed_cluster::list_of_subscription::<B>,
        )
        .get(
            &format!("{provider}/locations/{{location}}/kubernetesVersions"),
            Op::new(
                "ManagedClusters_ListKubernetesVersions",
                "Lists the versions of Kubernetes that a cluster can have.",
            )
            .answers::<KubernetesVersions>(StatusCode::OK),
            version::list::<B>,
        )
}

fn power<B: Backend>(of: &impl Fn(&str) -> String) -> Routes<B> {
    let begun = &[AzureAsyncOperation, Location, RetryAfter];
    Routes::new()
        .post(
            &of("stop"),
            Op::new("ManagedClusters_Stop", "Stops a cluster: all its nodes go.")
                .ends(StatusCode::ACCEPTED)
                .with(begun)
                .ends(StatusCode::NO_CONTENT),
            power::stop::<B>,
        )
        .post(
            &of("start"),
            Op::new(
                "ManagedClusters_Start",
                "Starts a cluster: its nodes come back.",
            )
            .ends(StatusCode::ACCEPTED)
            .with(begun)
            .ends(StatusCode::NO_CONTENT),
            power::start::<B>,
        )
        .post(
            &of("abort"),
            Op::new(
                "ManagedClusters_AbortLatestOperation",
                "Aborts the operation in progress on a cluster and those on its agent pools.",
            )
            .ends(StatusCode::ACCEPTED)
            .with(begun),
            abort::of_cluster_and_pools::<B>,
        )
}

fn credentials<B: Backend>(of: &impl Fn(&str) -> String) -> Routes<B> {
    Routes::new()
        .post(
            &of("listClusterUserCredential"),
            Op::new(
                "ManagedClusters_ListClusterUserCredentials",
                "Gives the kubeconfig of a cluster's users.",
            )
            .answers::<CredentialResults>(StatusCode::OK),
            credential::user::<B>,
        )
        .post(
            &of("listClusterAdminCredential"),
            Op::new(
                "ManagedClusters_ListClusterAdminCredentials",
                "Gives the kubeconfig of a cluster's administrators.",
            )
            .answers::<CredentialResults>(StatusCode::OK),
            credential::admin::<B>,
        )
        .post(
            &of("listClusterMonitoringUserCredential"),
            Op::new(
                "ManagedClusters_ListClusterMonitoringUserCredentials",
                "Gives the kubeconfig of those who watch a cluster.",
            )
            .answers::<CredentialResults>(StatusCode::OK),
            credential::monitoring_user::<B>,
        )
}

/// What AKS does and can't be done here.
fn refused<B: Backend>(of: &impl Fn(&str) -> String) -> Routes<B> {
    Routes::new()
        .post(
            &of("runCommand"),
            Op::new(
                "ManagedClusters_RunCommand",
                "Runs a command in a cluster, which is refused.",
            ),
            refused::run_command::<B>,
        )
        .post(
            &of("rotateClusterCertificates"),
            Op::new(
                "ManagedClusters_RotateClusterCertificates",
                "Rotates the certificates of a cluster, which is refused.",
            ),
            refused::rotate::<B>,
        )
        .post(
            &of("rotateServiceAccountSigningKeys"),
            Op::new(
                "ManagedClusters_RotateServiceAccountSigningKeys",
                "Rotates the keys of a cluster, which is refused.",
            ),
            refused::rotate::<B>,
        )
        .post(
            &of("resetServicePrincipalProfile"),
            Op::new(
                "ManagedClusters_ResetServicePrincipalProfile",
                "Resets the service principal of a cluster, which is refused.",
            ),
            refused::reset_profile::<B>,
        )
        .post(
            &of("resetAADProfile"),
            Op::new(
                "ManagedClusters_ResetAADProfile",
                "Resets the identity provider of a cluster, which is refused.",
            ),
            refused::reset_profile::<B>,
        )
        .get(
            &of("accessProfiles/{role}"),
            Op::new(
                "ManagedClusters_GetAccessProfile",
                "Gets an access profile of a cluster, which is refused.",
            ),
            refused::access_profile::<B>,
        )
        .post(
            &of("accessProfiles/{role}/listCredential"),
            Op::new(
                "ManagedClusters_ListAccessProfileCredential",
                "Gives the kubeconfig of an access profile, which is refused.",
            ),
            refused::access_profile::<B>,
        )
}
