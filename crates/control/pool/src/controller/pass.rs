//! Steps of the controller: what waits to be looked at, and a page of everything.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::queue::{Pass, Queue, parent};
use super::{Controller, ControllerError, Standing};
use crate::key::Key;
use crate::operation::Operation;
use crate::power::PowerState;
use crate::provider::NodeProvider;
use crate::resource::{Cluster, Group, NodePool};
use crate::store::{Change, Kind, Page, Record, Scope, Store, StoreError, Stored};

/// How many records of a kind a step looks at. What else is going on waits for no longer than that.
const STEP: usize = 200;

/// The power of the clusters that a step has come across.
type Powers = BTreeMap<String, PowerState>;

impl<S: Store, P: NodeProvider> Controller<S, P> {
    /// Looks at a part of what waits, and at a page of everything if a pass is under way.
    ///
    /// # Errors
    /// If the store or the provider does not work; what it was about waits on.
    pub(super) async fn step(&self, queue: &mut Queue) -> Result<(), ControllerError> {
        // Nodes first: a node whose pool is read after it, and is not there, has no pool any more.
        queue.saw(self.provider.observe().await?);
        let mut powers = Powers::new();
        for _ in 0..queue.pools.len().min(STEP) {
            let Some(path) = queue.pools.pop() else { break };
            let looked = self.pool_at(&path, queue, &mut powers).await;
            Self::take_in(queue, path, looked)?;
        }
        for _ in 0..queue.clusters.len().min(STEP) {
            let Some(path) = queue.clusters.pop() else {
                break;
            };
            let looked = self.cluster_at(&path, queue).await;
            if let Err(error) = only_its_own(&path, looked) {
                queue.clusters.push(path);
                return Err(error);
            }
        }
        for _ in 0..queue.groups.len().min(STEP) {
            let Some(path) = queue.groups.pop() else {
                break;
            };
            let looked = self.group_at(&path).await;
            if let Err(error) = only_its_own(&path, looked) {
                queue.groups.push(path);
                return Err(error);
            }
        }
        if let Some(pass) = queue.pass.clone() {
            let next = self.page_of(&pass, queue, &mut powers).await?;
            queue.pass = pass.after(next);
        }
        Ok(())
    }

    /// Looks at a page of everything, and gives the path that the next begins after.
    async fn page_of(
        &self,
        pass: &Pass,
        queue: &mut Queue,
        powers: &mut Powers,
    ) -> Result<Option<String>, ControllerError> {
        match pass.kind {
            Kind::NodePool => {
                let page = self.page::<NodePool>(pass).await?;
                for stored in &page.records {
                    let path = stored.record.key.path();
                    let looked = self.pool_among(&path, stored, queue, powers).await;
                    Self::take_in(queue, path, looked)?;
                }
                Ok(page.next)
            }
            Kind::Cluster => {
                let page = self.page::<Cluster>(pass).await?;
                for stored in &page.records {
                    let looked = self.cluster_among(stored, queue).await;
                    only_its_own(&stored.record.key.path(), looked)?;
                }
                Ok(page.next)
            }
            Kind::Group => {
                let page = self.page::<Group>(pass).await?;
                for stored in &page.records {
                    let looked = self.group(stored).await;
                    only_its_own(&stored.record.key.path(), looked)?;
                }
                Ok(page.next)
            }
            Kind::Operation => {
                let page = self.page::<Operation>(pass).await?;
                self.forget(&page.records, Timestamp::now()).await?;
                Ok(page.next)
            }
            Kind::Deployment => Ok(None),
        }
    }

    async fn page<R: Record>(&self, pass: &Pass) -> Result<Page<Stored<R>>, ControllerError> {
        let after = pass.after.as_deref();
        let page = self
            .store
            .list_page::<R>(&Scope::everything(), after, STEP)
            .await?;
        for unreadable in &page.unreadable {
            let (path, reason) = (&unreadable.path, &unreadable.reason);
            tracing::error!(kind = %R::KIND, %path, %reason, "left alone: this version of migpool does not read it");
        }
        Ok(page)
    }

    async fn pool_at(
        &self,
        path: &str,
        queue: &Queue,
        powers: &mut Powers,
    ) -> Result<Standing, ControllerError> {
        match self.store.get_at::<NodePool>(path).await? {
            Some(stored) => self.pool_among(path, &stored, queue, powers).await,
            None => Ok(self.orphans(queue.nodes_of(path)).await),
        }
    }

    async fn pool_among(
        &self,
        path: &str,
        stored: &Stored<NodePool>,
        queue: &Queue,
        powers: &mut Powers,
    ) -> Result<Standing, ControllerError> {
        let cluster = parent(path);
        let power = if let Some(power) = powers.get(&cluster) {
            *power
        } else {
            let found = self.store.get_at::<Cluster>(&cluster).await?;
            let power = found.map(|it| it.record.power).unwrap_or_default();
            powers.insert(cluster, power);
            power
        };
        self.node_pool(stored, power, queue.nodes_of(path)).await
    }

    async fn cluster_at(&self, path: &str, queue: &mut Queue) -> Result<(), ControllerError> {
        match self.store.get_at::<Cluster>(path).await? {
            Some(stored) => self.cluster_among(&stored, queue).await,
            None => Ok(()),
        }
    }

    async fn cluster_among(
        &self,
        stored: &Stored<Cluster>,
        queue: &mut Queue,
    ) -> Result<(), ControllerError> {
        for pool in self.cluster(stored).await? {
            queue.pools.push(pool);
        }
        Ok(())
    }

    async fn group_at(&self, path: &str) -> Result<(), ControllerError> {
        match self.store.get_at::<Group>(path).await? {
            Some(stored) => self.group(&stored).await,
            None => Ok(()),
        }
    }

    /// Takes in how a look at a pool went: what concerns that pool alone stops no other.
    fn take_in(
        queue: &mut Queue,
        path: String,
        looked: Result<Standing, ControllerError>,
    ) -> Result<(), ControllerError> {
        match looked {
            Ok(standing) => queue.looked(path, standing),
            Err(ControllerError::Provider(error)) => {
                tracing::warn!(pool = path, %error, "to be tried again");
                queue.looked(path, Standing::Retry);
            }
            Err(error) => match only_its_own(&path, Err(error)) {
                Ok(()) => queue.looked(path, Standing::AtRest),
                Err(error) => {
                    queue.pools.push(path);
                    return Err(error);
                }
            },
        }
        Ok(())
    }

    /// Takes away what of these operations ended so long ago that nobody asks for it any more.
    async fn forget(
        &self,
        operations: &[Stored<Operation>],
        now: Timestamp,
    ) -> Result<(), ControllerError> {
        let old = operations.iter().filter(|it| it.record.is_forgotten(now));
        let changes: Vec<Change> = old.map(Change::delete).collect();
        if changes.is_empty() {
            return Ok(());
        }
        tracing::debug!(operations = changes.len(), "forgotten");
        self.commit(changes).await
    }
}

/// A record that can't be read is nobody else's matter: it is named in the log, and left alone until it changes.
fn only_its_own(path: &str, looked: Result<(), ControllerError>) -> Result<(), ControllerError> {
    match looked {
        Err(ControllerError::Store(error @ StoreError::Unreadable { .. })) => {
            tracing::error!(path, %error, "left alone");
            Ok(())
        }
        looked => looked,
    }
}
