//! The controller over a backend in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use migpool_pool as pool;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use common::{cluster_key, group_key, pool_key};
use pool::controller::Round;
use pool::memory::MemoryBackend;
use pool::transition;
use pool::{
    Action, Change, Cluster, Controller, Group, NodePhase, NodePool, NodeProvider, ObservedNode,
    Operation, OperationKey, OperationStatus, ProviderError, ProvisioningState, Reason, Record,
    Store, SubscriptionId, Supply,
};

struct World {
    backend: Arc<MemoryBackend>,
    controller: Controller<Arc<MemoryBackend>, Arc<MemoryBackend>>,
}

fn pool(name: &str, count: i64) -> NodePool {
    common::pool(name, count, Some("MIG2g"))
}

impl World {
    async fn new() -> Self {
        let backend = common::backend().await;
        let controller = Controller::new(Arc::clone(&backend), Arc::clone(&backend));
        Self {
            backend,
            controller,
        }
    }

    async fn create(&self, mut pool: NodePool) -> Uuid {
        let (operation, mut changes) = transition::begin(
            &self.backend,
            &mut pool,
            ProvisioningState::Creating,
            Timestamp::now(),
        )
        .await
        .unwrap();
        changes.push(Change::create(&pool).unwrap());
        self.backend.commit(changes).await.unwrap();
        operation.key.id
    }

    async fn enter<R: transition::Provisioned + Record>(
        &self,
        key: &R::Key,
        state: ProvisioningState,
    ) -> Uuid {
        let mut stored = self.backend.get::<R>(key).await.unwrap().unwrap();
        let (operation, mut changes) =
            transition::begin(&self.backend, &mut stored.record, state, Timestamp::now())
                .await
                .unwrap();
        changes.push(Change::update(&stored.record, stored.revision).unwrap());
        self.backend.commit(changes).await.unwrap();
        operation.key.id
    }

    async fn pool(&self, name: &str) -> Option<NodePool> {
        self.backend
            .get::<NodePool>(&pool_key(name))
            .await
            .unwrap()
            .map(|stored| stored.record)
    }

    async fn operation(&self, id: Uuid) -> Operation {
        let key = OperationKey {
            subscription: SubscriptionId::local(),
            id,
        };
        self.backend
            .get::<Operation>(&key)
            .await
            .unwrap()
            .unwrap()
            .record
    }

    /// Rounds until nothing changes.
    async fn settle(&self) {
        for _ in 0..10 {
            let _ = self.controller.round().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_pool_succeeds_with_its_operation_when_its_nodes_are_ready_and_not_before() {
    let world = World::new().await;
    world.backend.hold_nodes();
    let operation = world.create(pool("mignode", 2)).await;
    world.settle().await;
    assert_eq!(world.backend.node_names().len(), 2);
    assert_eq!(
        world.pool("mignode").await.unwrap().provisioning_state,
        ProvisioningState::Creating
    );
    assert_eq!(
        world.operation(operation).await.status,
        OperationStatus::InProgress
    );

    world.backend.advance_all();
    world.settle().await;
    let pool = world.pool("mignode").await.unwrap();
    assert_eq!(pool.provisioning_state, ProvisioningState::Succeeded);
    assert_eq!(pool.operation, None);
    let operation = world.operation(operation).await;
    assert_eq!(operation.status, OperationStatus::Succeeded);
    assert!(operation.end.is_some());
}

#[tokio::test]
async fn a_failed_node_fails_the_operation_with_its_own_reason_and_the_pool_gets_better_by_itself()
{
    let world = World::new().await;
    world.backend.hold_nodes();
    let operation = world.create(pool("mignode", 1)).await;
    world.settle().await;
    let name = world.backend.node_names().remove(0);
    world.backend.change_node(&name, |node| {
        node.phase = NodePhase::Failed;
        node.message = "GPU 0 is in use".into();
    });
    world.settle().await;
    assert_eq!(
        world.pool("mignode").await.unwrap().provisioning_state,
        ProvisioningState::Failed
    );
    let operation = world.operation(operation).await;
    assert_eq!(operation.status, OperationStatus::Failed);
    let error = operation.error.unwrap();
    assert_eq!(error.code, "ReconcileAgentPoolFailed");
    assert!(
        error.message.contains("GPU 0 is in use"),
        "{}",
        error.message
    );

    world.backend.advance_all();
    world.settle().await;
    assert_eq!(
        world.pool("mignode").await.unwrap().provisioning_state,
        ProvisioningState::Succeeded
    );
}

#[tokio::test]
async fn what_a_provider_refuses_fails_the_pool_and_what_is_not_available_is_tried_again() {
    let world = World::new().await;
    world
        .backend
        .refuse_actions(Some(ProviderError::Unavailable("the disk is full".into())));
    let operation = world.create(pool("mignode", 1)).await;
    assert_eq!(world.controller.round().await.unwrap(), Round::Retry);
    let waiting = world.pool("mignode").await.unwrap();
    assert_eq!(waiting.provisioning_state, ProvisioningState::Creating);
    assert_eq!(waiting.message, "the disk is full");

    world
        .backend
        .refuse_actions(Some(ProviderError::Refused("no such GPU here".into())));
    assert_eq!(world.controller.round().await.unwrap(), Round::Retry);
    assert_eq!(
        world.pool("mignode").await.unwrap().provisioning_state,
        ProvisioningState::Failed
    );
    assert_eq!(
        world.operation(operation).await.error.unwrap().message,
        "no such GPU here"
    );

    world.backend.refuse_actions(None);
    world.settle().await;
    assert_eq!(
        world.pool("mignode").await.unwrap().provisioning_state,
        ProvisioningState::Succeeded
    );
    assert_eq!(world.controller.round().await.unwrap(), Round::Complete);
}

#[tokio::test]
async fn a_pool_that_is_deleted_goes_with_its_last_node_and_its_operation_succeeds() {
    let world = World::new().await;
    world.create(pool("mignode", 2)).await;
    world.settle().await;
    world.backend.hold_nodes();
    let operation = world
        .enter::<NodePool>(&pool_key("mignode"), ProvisioningState::Deleting)
        .await;
    world.settle().await;
    assert_eq!(
        world.pool("mignode").await.unwrap().provisioning_state,
        ProvisioningState::Deleting
    );
    assert_eq!(
        world.operation(operation).await.status,
        OperationStatus::InProgress
    );
    world.backend.advance_all();
    world.settle().await;
    assert_eq!(world.pool("mignode").await, None);
    assert_eq!(
        world.operation(operation).await.status,
        OperationStatus::Succeeded
    );
}

#[tokio::test]
async fn a_group_takes_its_clusters_pools_and_nodes_with_it() {
    let world = World::new().await;
    let creating = {
        world.backend.hold_nodes();
        world.create(pool("mignode", 2)).await
    };
    world.settle().await;
    let operation = world
        .enter::<Group>(&group_key(), ProvisioningState::Deleting)
        .await;
    world.settle().await;
    assert_eq!(
        world.operation(creating).await.status,
        OperationStatus::Canceled
    );
    assert!(
        world
            .backend
            .get::<Group>(&group_key())
            .await
            .unwrap()
            .is_some()
    );
    world.backend.advance_all();
    world.settle().await;
    assert!(world.backend.node_names().is_empty());
    assert!(
        world
            .backend
            .get::<Cluster>(&cluster_key())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        world
            .backend
            .get::<Group>(&group_key())
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        world.operation(operation).await.status,
        OperationStatus::Succeeded
    );
}

#[tokio::test]
async fn what_is_asked_last_counts_and_the_earlier_operation_is_canceled() {
    let world = World::new().await;
    world.backend.hold_nodes();
    let first = world.create(pool("mignode", 1)).await;
    let second = world
        .enter::<NodePool>(&pool_key("mignode"), ProvisioningState::Scaling)
        .await;
    let preempted = world.operation(first).await;
    assert_eq!(preempted.status, OperationStatus::Canceled);
    assert!(
        preempted
            .error
            .unwrap()
            .message
            .contains(&second.to_string())
    );
    world.settle().await;
    world.backend.advance_all();
    world.settle().await;
    assert_eq!(
        world.operation(second).await.status,
        OperationStatus::Succeeded
    );
    assert_eq!(
        world.operation(first).await.status,
        OperationStatus::Canceled
    );
}

#[tokio::test]
async fn a_node_whose_pool_is_no_more_is_taken_away() {
    let world = World::new().await;
    world.create(pool("mignode", 1)).await;
    world.settle().await;
    let stored = world
        .backend
        .get::<NodePool>(&pool_key("mignode"))
        .await
        .unwrap()
        .unwrap();
    world
        .backend
        .commit(vec![Change::delete(&stored)])
        .await
        .unwrap();
    world.settle().await;
    assert!(world.backend.node_names().is_empty());
}

#[tokio::test]
async fn a_round_with_nothing_to_do_changes_nothing() {
    let world = World::new().await;
    world.create(pool("mignode", 2)).await;
    world.settle().await;
    let changes = world.backend.store_changes();
    world.settle().await;
    assert!(!changes.has_changed().unwrap());
}

#[tokio::test]
async fn the_loop_wakes_for_changes_of_records_and_of_nodes_and_ends_when_told() {
    let world = World::new().await;
    world.backend.hold_nodes();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let controller = Controller::new(Arc::clone(&world.backend), Arc::clone(&world.backend));
    let running = tokio::spawn(controller.run(async {
        let _ = stopped.await;
    }));
    let mut nodes = pool::NodeProvider::node_changes(&world.backend);
    world.create(pool("mignode", 1)).await;
    nodes.changed().await.unwrap();
    let mut records = world.backend.store_changes();
    world.backend.advance_all();
    while world.pool("mignode").await.unwrap().provisioning_state != ProvisioningState::Succeeded {
        records.changed().await.unwrap();
    }
    stop.send(()).unwrap();
    running.await.unwrap();
}

/// A provider that can't, or may not, say where nodes come from.
struct Blind(Arc<MemoryBackend>, ProviderError);

impl NodeProvider for Blind {
    async fn observe(&self) -> Result<Vec<Arc<ObservedNode>>, ProviderError> {
        self.0.observe().await
    }

    async fn supply(&self, _: &NodePool) -> Result<Supply, ProviderError> {
        Err(self.1.clone())
    }

    async fn apply(&self, action: Action) -> Result<(), ProviderError> {
        self.0.apply(action).await
    }

    fn node_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.node_changes()
    }
}

#[tokio::test]
async fn a_pool_says_why_nobody_can_tell_where_its_nodes_come_from() {
    let world = World::new().await;
    let operation = world.create(pool("mignode", 1)).await;
    let round = async |error: ProviderError| {
        let provider = Blind(Arc::clone(&world.backend), error);
        let controller = Controller::new(Arc::clone(&world.backend), provider);
        assert_eq!(controller.round().await.unwrap(), Round::Retry);
        world.pool("mignode").await.unwrap()
    };
    let waiting = round(ProviderError::Unavailable("nobody answers".into())).await;
    assert_eq!(waiting.provisioning_state, ProvisioningState::Creating);
    assert_eq!(waiting.message, "nobody answers");
    assert_eq!(waiting.seen.reason, Reason::ProviderFailed);
    let failed = round(ProviderError::Refused("it is not allowed".into())).await;
    assert_eq!(failed.provisioning_state, ProvisioningState::Failed);
    let error = world.operation(operation).await.error.unwrap();
    assert_eq!(error.message, "it is not allowed");

    world.settle().await;
    let well = world.pool("mignode").await.unwrap();
    assert_eq!(well.provisioning_state, ProvisioningState::Succeeded);
    assert_eq!(well.seen.reason, Reason::AsAsked);
}

#[tokio::test]
async fn a_pool_of_very_many_nodes_shows_how_far_it_has_come() {
    let world = World::new().await;
    world.create(pool("mignode", 600)).await;
    let look = world
        .controller
        .round_of_pool(&pool_key("mignode"), &[])
        .await;
    assert_eq!(look.unwrap(), Round::Again);
    assert_eq!(world.backend.node_names().len(), 250);
    assert!(!world.pool("mignode").await.unwrap().message.is_empty());
    world.settle().await;
    let well = world.pool("mignode").await.unwrap();
    assert_eq!(well.provisioning_state, ProvisioningState::Succeeded);
    assert_eq!(world.backend.node_names().len(), 600);
}
