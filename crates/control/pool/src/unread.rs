//! Taking away a record that can't be read: its path and its version are known all the same.

use jiff::Timestamp;

use crate::key::Key;
use crate::resource::{Cluster, NodePool, ProvisioningState};
use crate::store::{Change, Kind, Scope, Store, StoreError, Unreadable};
use crate::transition::{self, Provisioned};

/// Why what was going on in it is no more.
const REASON: &str = "What it is in was deleted.";

/// Takes away a record that can't be read, and what is in it that can't be read either. What is in it and can be read begins to
/// be deleted, which needs no more than a [`Controller`](crate::Controller); nodes whose pool is gone go with it.
///
/// # Errors
/// If the store does not work, or somebody else changed one of the records meanwhile. What was taken away stays so.
pub async fn remove<S: Store>(store: &S, kind: Kind, path: &str) -> Result<(), StoreError> {
    // The record goes last: whoever fails half way finds it again.
    match kind {
        Kind::Group => {
            let scope = Scope::within(path);
            let clusters = store.list_page::<Cluster>(&scope, None, usize::MAX).await?;
            for cluster in clusters.records {
                begin(store, cluster).await?;
            }
            for Unreadable { path, .. } in clusters.unreadable {
                remove_cluster(store, &path).await?;
            }
            let page = store.page(Kind::Deployment, &scope, None, usize::MAX);
            let page = page.await?;
            let paths = page.records.into_iter().map(|it| it.path);
            let unreadable = page.unreadable.into_iter().map(|it| it.path);
            for path in paths.chain(unreadable) {
                remove_record(store, Kind::Deployment, &path).await?;
            }
            remove_record(store, kind, path).await
        }
        Kind::Cluster => remove_cluster(store, path).await,
        Kind::NodePool | Kind::Operation | Kind::Deployment => {
            remove_record(store, kind, path).await
        }
    }
}

async fn remove_cluster<S: Store>(store: &S, path: &str) -> Result<(), StoreError> {
    let scope = Scope::within(path);
    let pools = store
        .list_page::<NodePool>(&scope, None, usize::MAX)
        .await?;
    for pool in pools.records {
        begin(store, pool).await?;
    }
    for Unreadable { path, .. } in pools.unreadable {
        remove_record(store, Kind::NodePool, &path).await?;
    }
    remove_record(store, Kind::Cluster, path).await
}

/// Begins to delete what can be read.
async fn begin<S: Store, R: Provisioned>(
    store: &S,
    stored: crate::Stored<R>,
) -> Result<(), StoreError> {
    let mut record = stored.record;
    if record.state() == ProvisioningState::Deleting {
        return Ok(());
    }
    let now = Timestamp::now();
    let mut changes = transition::cancel(store, &record, REASON.to_owned(), now).await?;
    record.enter(ProvisioningState::Deleting, None);
    tracing::info!(record = record.key().path(), "deleted with what it is in");
    changes.push(Change::update(&record, stored.revision)?);
    store.commit(changes).await.map(drop)
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
