//! The controller follows what changes: it looks at that alone, forgets what is long over, and is stopped by nothing that
//! concerns one record.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use migpool_pool as pool;
use pool::memory::MemoryBackend;
use pool::transition::{self, Provisioned};
use pool::{
    Change, Changed, Cluster, Controller, Expected, Key, Kind, NodePool, Operation,
    OperationTarget, Page, PowerState, ProvisioningState, RawRecord, Revision, Scope, Store,
    StoreError,
};
use tokio::sync::{broadcast, oneshot, watch};
use uuid::Uuid;

use common::{backend, cluster_key, pool_key};

fn pool(name: &str, count: i64) -> NodePool {
    common::pool(name, count, None)
}

async fn create(backend: &impl Store, name: &str, count: i64) {
    let change = Change::create(&pool(name, count)).unwrap();
    backend.commit(vec![change]).await.unwrap();
}

async fn enter<R: Provisioned>(
    backend: &impl Store,
    key: &R::Key,
    state: ProvisioningState,
    change: impl FnOnce(&mut R),
) {
    let mut stored = backend.get::<R>(key).await.unwrap().unwrap();
    change(&mut stored.record);
    let (_, mut changes) = transition::begin(backend, &mut stored.record, state, Timestamp::now())
        .await
        .unwrap();
    changes.push(Change::update(&stored.record, stored.revision).unwrap());
    backend.commit(changes).await.unwrap();
}

/// A controller that runs until this is dropped.
struct Running(Option<oneshot::Sender<()>>);

fn run<S: Store>(store: S, nodes: Arc<MemoryBackend>) -> Running {
    let (stop, stopped) = oneshot::channel::<()>();
    let controller = Controller::new(store, nodes);
    tokio::spawn(controller.run(async {
        let _ = stopped.await;
    }));
    Running(Some(stop))
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

/// Waits until `holds`, looking again after each change of the store.
async fn until(store: &impl Store, mut holds: impl AsyncFnMut() -> bool) {
    let mut changes = store.store_changes();
    while !holds().await {
        changes.changed().await.unwrap();
    }
}

async fn is_in(store: &impl Store, name: &str, state: ProvisioningState) -> bool {
    let stored = store.get::<NodePool>(&pool_key(name)).await.unwrap();
    stored.is_some_and(|stored| stored.record.provisioning_state == state)
}

/// A store that writes down what is read of it.
struct Watched {
    inner: Arc<MemoryBackend>,
    read: Arc<Mutex<Vec<String>>>,
}

impl Watched {
    fn note(&self, kind: Kind, what: &str) {
        self.read.lock().unwrap().push(format!("{kind} {what}"));
    }
}

impl Store for Watched {
    async fn read(&self, kind: Kind, path: &str) -> Result<Option<RawRecord>, StoreError> {
        self.note(kind, path);
        self.inner.read(kind, path).await
    }

    async fn revision_of(&self, kind: Kind, path: &str) -> Result<Option<Revision>, StoreError> {
        self.note(kind, path);
        self.inner.revision_of(kind, path).await
    }

    async fn page(
        &self,
        kind: Kind,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<RawRecord>, StoreError> {
        self.note(kind, "page");
        self.inner.page(kind, scope, after, limit).await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Option<Revision>>, StoreError> {
        self.inner.commit(changes).await
    }

    fn store_changes(&self) -> watch::Receiver<u64> {
        self.inner.store_changes()
    }

    fn record_changes(&self) -> Option<broadcast::Receiver<Changed>> {
        self.inner.record_changes()
    }
}

#[tokio::test]
async fn a_change_of_one_pool_reads_that_pool_and_its_cluster_and_nothing_else() {
    let backend = backend().await;
    for number in 0..50 {
        create(&backend, &format!("p{number}"), 1).await;
    }
    let read = Arc::new(Mutex::new(Vec::new()));
    let store = Watched {
        inner: Arc::clone(&backend),
        read: Arc::clone(&read),
    };
    let running = run(store, Arc::clone(&backend));
    until(&backend, async || {
        for number in 0..50 {
            if !is_in(
                &backend,
                &format!("p{number}"),
                ProvisioningState::Succeeded,
            )
            .await
            {
                return false;
            }
        }
        true
    })
    .await;
    // Nothing more is read once the first look at everything is over.
    while !read.lock().unwrap().iter().any(|it| it == "operation page") {
        tokio::task::yield_now().await;
    }
    let mut before = usize::MAX;
    while before != read.lock().unwrap().len() {
        before = read.lock().unwrap().len();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    read.lock().unwrap().clear();

    let scaling = ProvisioningState::Scaling;
    enter::<NodePool>(&backend, &pool_key("p7"), scaling, |pool| {
        pool.spec.count = 2;
    })
    .await;
    until(&backend, async || {
        is_in(&backend, "p7", ProvisioningState::Succeeded).await
    })
    .await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut counted = BTreeMap::<String, usize>::new();
    for what in read.lock().unwrap().drain(..) {
        *counted.entry(what).or_default() += 1;
    }
    let pool = format!("nodePool {}", pool_key("p7").path());
    let cluster = format!("cluster {}", cluster_key().path());
    let is_of_it =
        |what: &&String| **what == pool || **what == cluster || what.starts_with("operation ");
    let others: Vec<_> = counted
        .keys()
        .filter(|what| !is_of_it(what) || what.ends_with(" page"))
        .collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(
        counted.contains_key(&pool) && counted.values().sum::<usize>() < 20,
        "{counted:?}"
    );
    drop(running);
}

#[tokio::test]
async fn what_changes_faster_than_it_can_be_told_is_found_all_the_same() {
    let backend = backend().await;
    let running = run(Arc::clone(&backend), Arc::clone(&backend));
    tokio::task::yield_now().await;
    // The controller has no turn before all of these are written.
    for number in 0..1500 {
        create(&backend, &format!("p{number}"), 0).await;
    }
    until(&backend, async || {
        let pools = backend
            .list::<NodePool>(&Scope::everything())
            .await
            .unwrap();
        let succeeded = ProvisioningState::Succeeded;
        pools
            .iter()
            .all(|it| it.record.provisioning_state == succeeded)
    })
    .await;
    drop(running);
}

#[tokio::test]
async fn a_cluster_that_is_stopped_takes_its_pools_along_and_back() {
    let backend = backend().await;
    let running = run(Arc::clone(&backend), Arc::clone(&backend));
    create(&backend, "mignode", 2).await;
    let is_at = async |nodes: usize, state| {
        let cluster = backend
            .get::<Cluster>(&cluster_key())
            .await
            .unwrap()
            .unwrap();
        backend.node_names().len() == nodes && cluster.record.provisioning_state == state
    };
    until(&backend, async || {
        is_at(2, ProvisioningState::Succeeded).await
    })
    .await;
    let stopping = ProvisioningState::Stopping;
    let stop = |cluster: &mut Cluster| cluster.power = PowerState::Stopped;
    enter::<Cluster>(&backend, &cluster_key(), stopping, stop).await;
    until(&backend, async || {
        is_at(0, ProvisioningState::Succeeded).await
    })
    .await;
    let starting = ProvisioningState::Starting;
    let start = |cluster: &mut Cluster| cluster.power = PowerState::Running;
    enter::<Cluster>(&backend, &cluster_key(), starting, start).await;
    until(&backend, async || {
        is_at(2, ProvisioningState::Succeeded).await
    })
    .await;
    drop(running);
}

/// Puts something in a pool's place that no version has written.
async fn spoil(backend: &MemoryBackend, name: &str) {
    let key = pool_key(name);
    let read = backend.read(Kind::NodePool, &key.path()).await.unwrap();
    let change = Change::Put {
        kind: Kind::NodePool,
        path: key.path(),
        expected: read.map_or(Expected::Absent, |it| Expected::Revision(it.revision)),
        body: serde_json::json!({"from": "the future"}),
    };
    backend.commit(vec![change]).await.unwrap();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_only_itself_and_keeps_its_nodes() {
    let backend = backend().await;
    let controller = Controller::new(Arc::clone(&backend), Arc::clone(&backend));
    create(&backend, "strange", 1).await;
    let _ = controller.round().await.unwrap();
    assert_eq!(backend.node_names().len(), 1);
    spoil(&backend, "strange").await;
    create(&backend, "plain", 1).await;
    for _ in 0..3 {
        let _ = controller.round().await.unwrap();
    }
    assert!(is_in(&backend, "plain", ProvisioningState::Succeeded).await);
    assert_eq!(backend.node_names().len(), 2);

    let deleting = ProvisioningState::Deleting;
    enter::<Cluster>(&backend, &cluster_key(), deleting, |_| ()).await;
    for _ in 0..5 {
        let _ = controller.round().await.unwrap();
    }
    let pools = backend
        .scan(Kind::NodePool, &Scope::everything())
        .await
        .unwrap();
    assert_eq!(pools.len(), 1, "{pools:?}");
    let cluster = backend
        .get::<Cluster>(&cluster_key())
        .await
        .unwrap()
        .unwrap();
    assert!(
        cluster.record.message.contains("strange"),
        "{}",
        cluster.record.message
    );
    assert_eq!(backend.node_names().len(), 1);
}

#[tokio::test]
async fn an_operation_is_forgotten_an_hour_after_its_end_and_no_other() {
    let backend = backend().await;
    let controller = Controller::new(Arc::clone(&backend), Arc::clone(&backend));
    let now = Timestamp::now();
    let target = || OperationTarget::NodePool(pool_key("gone"));
    let begun = now - SignedDuration::from_hours(9);
    let operation = || Operation::begin(target(), Uuid::new_v4(), begun);
    let under_way = operation();
    let old = operation().ended(None, now - SignedDuration::from_mins(61));
    let fresh = operation().preempted(Uuid::new_v4(), now - SignedDuration::from_mins(59));
    let changes = [&under_way, &old, &fresh].map(|it| Change::create(it).unwrap());
    backend.commit(changes.to_vec()).await.unwrap();
    // More than one page of them.
    let many = (0..450).map(|_| {
        let old = operation().ended(None, now - SignedDuration::from_hours(2));
        Change::create(&old).unwrap()
    });
    backend.commit(many.collect()).await.unwrap();

    let _ = controller.round().await.unwrap();
    let left = backend
        .list::<Operation>(&Scope::everything())
        .await
        .unwrap();
    let mut left: Vec<Uuid> = left.into_iter().map(|it| it.record.key.id).collect();
    let mut kept = vec![under_way.key.id, fresh.key.id];
    left.sort_unstable();
    kept.sort_unstable();
    assert_eq!(left, kept);
}
