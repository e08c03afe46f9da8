//! Making way for the deletion of a record that can't be read: its path and its version are known all the same.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::key::{ClusterKey, GroupKey, Key};
use crate::power::PowerState;
use crate::resource::{Cluster, Group, NodePool, ProvisioningState};
use crate::store::{Change, Kind, Record, Scope, Store, StoreError, Unreadable};

/// Where a group or a cluster is of which nothing else is known.
const NOWHERE: &str = "unknown";

/// Takes away a record that can't be read. The place of a group or a cluster is taken by one that can be: it has what is in it,
/// and is deleted as any other. What is in it and can't be read makes way too.
///
/// Nodes whose pool is gone are taken away by a [`Controller`](crate::Controller).
///
/// # Errors
/// If the store does not work, or somebody else changed one of the records meanwhile. What was taken away stays so.
pub async fn remove<S: Store>(store: &S, kind: Kind, path: &str) -> Result<(), StoreError> {
    match kind {
        Kind::Group => {
            let scope = Scope::within(path);
            let clusters = store.list_page::<Cluster>(&scope, None, usize::MAX).await?;
            for Unreadable { path, .. } in clusters.unreadable {
                replace_cluster(store, &path).await?;
            }
            let group = Group {
                key: group_key(path)?,
                location: NOWHERE.to_owned(),
                tags: BTreeMap::new(),
                provisioning_state: ProvisioningState::Failed,
                operation: None,
            };
            replace(store, &group).await
        }
        Kind::Cluster => replace_cluster(store, path).await,
        Kind::NodePool | Kind::Operation | Kind::Deployment => {
            remove_record(store, kind, path).await
        }
    }
}

async fn replace_cluster<S: Store>(store: &S, path: &str) -> Result<(), StoreError> {
    let scope = Scope::within(path);
    let pools = store
        .list_page::<NodePool>(&scope, None, usize::MAX)
        .await?;
    for Unreadable { path, .. } in pools.unreadable {
        remove_record(store, Kind::NodePool, &path).await?;
    }
    let cluster = Cluster {
        key: cluster_key(path)?,
        location: NOWHERE.to_owned(),
        tags: BTreeMap::new(),
        properties: serde_json::Map::new(),
        envelope: serde_json::Map::new(),
        power: PowerState::Running,
        provisioning_state: ProvisioningState::Failed,
        message: "Its record could not be read. Delete the cluster again.".to_owned(),
        operation: None,
        created: Timestamp::now(),
    };
    replace(store, &cluster).await
}

async fn replace<S: Store, R: Record>(store: &S, record: &R) -> Result<(), StoreError> {
    let path = record.key().path();
    let Some(revision) = store.revision_of(R::KIND, &path).await? else {
        return Ok(());
    };
    let change = Change::update(record, revision)?;
    store.commit(vec![change]).await?;
    tracing::warn!(kind = %R::KIND, path, "an empty one takes the place of what can't be read");
    Ok(())
}

async fn remove_record<S: Store>(store: &S, kind: Kind, path: &str) -> Result<(), StoreError> {
    let Some(expected) = store.revision_of(kind, path).await? else {
        return Ok(());
    };
    let change = Change::Delete {
        kind,
        path: path.to_owned(),
        expected,
    };
    store.commit(vec![change]).await?;
    tracing::warn!(%kind, path, "taken away, although it can't be read");
    Ok(())
}

fn group_key(path: &str) -> Result<GroupKey, StoreError> {
    let names = path.split_once('/').and_then(|(subscription, group)| {
        Some(GroupKey {
            subscription: subscription.parse().ok()?,
            group: group.parse().ok()?,
        })
    });
    names.ok_or_else(|| StoreError::Unavailable(format!("{path} is no path of a resource group")))
}

fn cluster_key(path: &str) -> Result<ClusterKey, StoreError> {
    let named = || StoreError::Unavailable(format!("{path} is no path of a cluster"));
    let (group, cluster) = path.rsplit_once('/').ok_or_else(named)?;
    Ok(ClusterKey {
        group: group_key(group)?,
        cluster: cluster.parse().map_err(|_| named())?,
    })
}
