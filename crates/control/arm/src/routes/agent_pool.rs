//! The paths of agent pools, and of the snapshots of them that there are none of.

use axum::http::StatusCode;
use serde_json::Value;

use super::Routes;
use crate::agent_pool::delete_machines::delete_machines;
use crate::agent_pool::{self, machine, upgrade};
use crate::backend::Backend;
use crate::openapi::Header::{AzureAsyncOperation, ETag, Location, RetryAfter};
use crate::openapi::Op;
use crate::types::{
    AgentPool, AgentPoolAvailableVersions, AgentPoolUpgradeProfile, DeleteMachines, Machine,
    PutAgentPool, ResourceList,
};
use crate::{abort, snapshot};

/// What is about agent pools, in the cluster of this path.
pub(super) fn routes<B: Backend>(cluster: &str) -> Routes<B> {
    let pools = format!("{cluster}/agentPools");
    let pool = format!("{pools}/{{pool}}");
    let of = |what: &str| format!("{pool}/{what}");
    let begun = &[AzureAsyncOperation, Location, RetryAfter];
    Routes::new()
        .get(
            &pools,
            Op::new("AgentPools_List", "Lists the agent pools of a cluster.")
                .answers::<ResourceList<AgentPool>>(StatusCode::OK),
            agent_pool::list::<B>,
        )
        .get(
            &pool,
            Op::new("AgentPools_Get", "Gets an agent pool.")
                .answers::<AgentPool>(StatusCode::OK)
                .with(&[ETag]),
            agent_pool::show::<B>,
        )
        .put(
            &pool,
            Op::new(
                "AgentPools_CreateOrUpdate",
                "Makes an agent pool, or changes one.",
            )
            .takes::<PutAgentPool>()
            .answers::<AgentPool>(StatusCode::OK)
            .answers::<AgentPool>(StatusCode::CREATED)
            .with(&[ETag, AzureAsyncOperation, RetryAfter]),
            agent_pool::put::<B>,
        )
        .delete(
            &pool,
            Op::new("AgentPools_Delete", "Deletes an agent pool and its nodes.")
                .ends(StatusCode::ACCEPTED)
                .with(begun)
                .ends(StatusCode::NO_CONTENT),
            agent_pool::delete::<B>,
        )
        .post(
            &of("abort"),
            Op::new(
                "AgentPools_AbortLatestOperation",
                "Aborts the operation in progress on an agent pool.",
            )
            .ends(StatusCode::ACCEPTED)
            .with(begun),
            abort::of_pool::<B>,
        )
        .post(
            &of("deleteMachines"),
            Op::new(
                "AgentPools_DeleteMachines",
                "Deletes certain machines of an agent pool, which has so many fewer then.",
            )
            .takes::<DeleteMachines>()
            .ends(StatusCode::ACCEPTED)
            .with(begun),
            delete_machines::<B>,
        )
        .get(
            &of("machines"),
            Op::new("Machines_List", "Lists the machines of an agent pool.")
                .answers::<ResourceList<Machine>>(StatusCode::OK),
            machine::list::<B>,
        )
        .get(
            &of("machines/{node}"),
            Op::new("Machines_Get", "Gets a machine of an agent pool.")
                .answers::<Machine>(StatusCode::OK),
            machine::show::<B>,
        )
        .get(
            &of("upgradeProfiles/default"),
            Op::new(
                "AgentPools_GetUpgradeProfile",
                "Gets to what an agent pool can be upgraded.",
            )
            .answers::<AgentPoolUpgradeProfile>(StatusCode::OK),
            upgrade::profile::<B>,
        )
        .post(
            &of("upgradeNodeImageVersion"),
            Op::new(
                "AgentPools_UpgradeNodeImageVersion",
                "Looks that every node is as asked, and of the newest image that there is.",
            )
            .answers::<AgentPool>(StatusCode::ACCEPTED)
            .with(begun)
            .with(&[ETag]),
            upgrade::node_image::<B>,
        )
        .get(
            &format!("{cluster}/availableAgentPoolVersions"),
            Op::new(
                "AgentPools_GetAvailableAgentPoolVersions",
                "Gets the versions of Kubernetes that an agent pool can have.",
            )
            .answers::<AgentPoolAvailableVersions>(StatusCode::OK),
            upgrade::available_versions::<B>,
        )
}

/// What is about snapshots, in the provider of a subscription and in that of a resource group.
pub(super) fn snapshots<B: Backend>(of_subscription: &str, of_group: &str) -> Routes<B> {
    let snapshots = format!("{of_group}/snapshots");
    let snapshot = format!("{snapshots}/{{snapshot}}");
    Routes::new()
        .get(
            &format!("{of_subscription}/snapshots"),
            Op::new(
                "Snapshots_List",
                "Lists the snapshots of a subscription: none.",
            )
            .answers::<ResourceList<Value>>(StatusCode::OK),
            snapshot::list_of_subscription,
        )
        .get(
            &snapshots,
            Op::new(
                "Snapshots_ListByResourceGroup",
                "Lists the snapshots of a resource group: none.",
            )
            .answers::<ResourceList<Value>>(StatusCode::OK),
            snapshot::list::<B>,
        )
        .get(
            &snapshot,
            Op::new("Snapshots_Get", "Gets a snapshot; there are none."),
            snapshot::show::<B>,
        )
        .put(
            &snapshot,
            Op::new(
                "Snapshots_CreateOrUpdate",
                "Makes a snapshot, which is refused.",
            ),
            snapshot::put::<B>,
        )
        .patch(
            &snapshot,
            Op::new("Snapshots_UpdateTags", "Tags a snapshot; there are none."),
            snapshot::show::<B>,
        )
        .delete(
            &snapshot,
            Op::new("Snapshots_Delete", "Deletes a snapshot; there are none."),
            snapshot::show::<B>,
        )
}
