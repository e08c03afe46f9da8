use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use pool::validation::node_pool;
use pool::{
    ClusterKey, Expected, NodePoolInput, Operation, OperationStatus, PoolKey, PoolMode,
    PoolSummary, Rollout, Stored, SubscriptionId, transition,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::backend::{Arm, Caches, KubernetesBackend};
use crate::fake_api::FakeApi;
use crate::parents::Parents;
use crate::record_object::KINDS;
use crate::status;

mod unread;

const POOLS: &str = "/apis/migpool.dev/v1alpha1/nodepools";

fn cluster_key(name: &str) -> ClusterKey {
    ClusterKey {
        group: pool::GroupKey {
            subscription: SubscriptionId::local(),
            group: "My.Group".parse().unwrap(),
        },
        cluster: name.parse().unwrap(),
    }
}

fn new_group() -> Group {
    Group {
        key: cluster_key("c").group,
        location: "southcentralus".to_owned(),
        tags: [("a".to_owned(), "b".to_owned())].into(),
        provisioning_state: ProvisioningState::Succeeded,
        operation: None,
    }
}

fn new_cluster(name: &str) -> Cluster {
    Cluster {
        key: cluster_key(name),
        location: "southcentralus".to_owned(),
        tags: BTreeMap::new(),
        properties: serde_json::Map::new(),
        envelope: serde_json::Map::new(),
        power: PowerState::Running,
        provisioning_state: ProvisioningState::Creating,
        message: String::new(),
        operation: None,
        created: Timestamp::UNIX_EPOCH,
    }
}

fn new_pool(cluster: &str, name: &str) -> pool::NodePool {
    let input = NodePoolInput {
        count: Some(1),
        mode: Some(PoolMode::System.to_string()),
        ..NodePoolInput::default()
    };
    pool::NodePool {
        key: PoolKey {
            cluster: cluster_key(cluster),
            pool: name.parse().unwrap(),
        },
        spec: node_pool(&input, None).unwrap(),
        provisioning_state: ProvisioningState::Creating,
        message: String::new(),
        operation: None,
        created: Timestamp::UNIX_EPOCH,
        rollout: Rollout::default(),
        leaving: BTreeSet::new(),
        seen: PoolSummary::default(),
    }
}

struct World {
    api: FakeApi,
    records: Records,
}

impl World {
    async fn new() -> Self {
        let api = FakeApi::start().await;
        let records = Records::new(api.client());
        Self { api, records }
    }

    async fn get<R: pool::Record>(&self, key: &R::Key) -> Option<Stored<R>> {
        self.records.get::<R>(key).await.unwrap()
    }

    /// The changes by which a cluster with two pools comes to be.
    async fn creation(&self, name: &str) -> (Operation, Vec<Change>) {
        let now = Timestamp::now();
        let mut cluster = new_cluster(name);
        let (operation, mut changes) = transition::begin(
            &self.records,
            &mut cluster,
            ProvisioningState::Creating,
            now,
        )
        .await
        .unwrap();
        changes.insert(0, Change::create(&cluster).unwrap());
        for pool in ["one", "two"] {
            changes.push(Change::create(&new_pool(name, pool)).unwrap());
        }
        if let Some(group) = self.get::<Group>(&cluster.key.group).await {
            changes.push(Change::unchanged(&group));
        }
        (operation, changes)
    }

    /// What an operator watches, as of now.
    async fn backend(&self) -> Result<Arc<KubernetesBackend>, StoreError> {
        async fn store<K>(
            records: &Records,
            kind: K::DynamicType,
        ) -> Result<reflector::Store<K>, StoreError>
        where
            K: Resource<Scope = kube::core::ClusterResourceScope>
                + Clone
                + Debug
                + DeserializeOwned
                + 'static,
            K::DynamicType: Eq + std::hash::Hash + Clone,
        {
            let mut writer = reflector::store::Writer::new(kind.clone());
            writer.apply_watcher_event(&Event::Init);
            for object in records.all::<K>(&kind).await? {
                writer.apply_watcher_event(&Event::InitApply(object));
            }
            writer.apply_watcher_event(&Event::InitDone);
            Ok(writer.as_reader())
        }
        let mut watched = Vec::new();
        for kind in KINDS {
            watched.push((*kind, store::<RecordObject>(&self.records, *kind).await?));
        }
        let caches = Caches {
            pools: store(&self.records, ()).await?,
            nodes: store(&self.records, ()).await?,
            gpu_nodes: store(&self.records, ()).await?,
            changes: watch::channel(0).1,
        };
        let arm = Arm {
            records: self.records.clone(),
            watched,
        };
        let client = self.api.client();
        let backend = KubernetesBackend::new(client, caches, false, Some(arm));
        Ok(Arc::new(backend))
    }

    /// Rounds of an operator that finds every pool's nodes as asked at once, or gone.
    async fn rounds(&self) {
        let mut at = Instant::now();
        for _ in 0..6 {
            // Killed meanwhile, it finds and does nothing.
            let _ = self.round(&mut at).await;
        }
    }

    async fn round(&self, at: &mut Instant) -> Result<(), StoreError> {
        let backend = self.backend().await?;
        for object in backend.caches.pools.state() {
            let mut record = convert::record(&object).unwrap();
            if record.provisioning_state == ProvisioningState::Deleting {
                let name = kube::ResourceExt::name_any(&*object);
                self.api.put(&format!("{POOLS}/{name}"), Value::Null);
                continue;
            }
            record.provisioning_state = ProvisioningState::Succeeded;
            record.operation = None;
            let said = status::of(&object, &record, Timestamp::now());
            backend.write_status(&object, said).await?;
        }
        let backend = self.backend().await?;
        let arm = backend.arm.clone().unwrap();
        let mut parents = Parents::new(arm, backend);
        // One that is seen for the first time, and one that is seen half a minute later.
        for _ in 0..2 {
            parents.round(*at, Timestamp::now()).await;
            *at += Duration::from_secs(31);
        }
        Ok(())
    }

    async fn pools(&self, cluster: &ClusterKey) -> Vec<pool::NodePool> {
        let all = self.records.list(&Scope::cluster(cluster)).await.unwrap();
        all.into_iter().map(|it| it.record).collect()
    }

    async fn in_progress(&self) -> Vec<Operation> {
        let all = self.records.list::<Operation>(&Scope::everything()).await;
        let all = all.unwrap().into_iter().map(|it| it.record);
        all.filter(|it| it.status == OperationStatus::InProgress)
            .collect()
    }
}

#[tokio::test]
async fn what_was_written_is_read_as_it_was() {
    let world = World::new().await;
    let group = new_group();
    let made = world
        .records
        .commit(vec![Change::create(&group).unwrap()])
        .await
        .unwrap();
    let found = world.get::<Group>(&group.key).await.unwrap();
    assert_eq!(found.record, group);
    assert_eq!(made, [Some(found.revision)]);

    let (operation, changes) = world.creation("c").await;
    world.records.commit(changes).await.unwrap();
    let cluster = world.get::<Cluster>(&cluster_key("C")).await.unwrap();
    assert_eq!(cluster.record.operation, Some(operation.key.id));
    assert_eq!(
        world.get::<Operation>(&operation.key).await.unwrap().record,
        operation
    );
    let pools = world.pools(&cluster.record.key).await;
    let names: Vec<_> = pools.iter().map(|it| it.key.pool.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    // Nothing is left to be written.
    let object = world.api.list("/apis/migpool.dev/v1alpha1/managedclusters");
    assert!(object[0]["status"]["pending"].is_null(), "{}", object[0]);
    assert_eq!(object[0]["spec"]["key"]["group"], "My.Group");
}

#[tokio::test]
async fn whoever_is_late_changes_nothing() {
    let world = World::new().await;
    let group = new_group();
    let create = || vec![Change::create(&group).unwrap()];
    world.records.commit(create()).await.unwrap();
    let error = world.records.commit(create()).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");

    let (_, changes) = world.creation("c").await;
    let (_, again) = world.creation("c").await;
    world.records.commit(changes).await.unwrap();
    let before = world.api.writes();
    let error = world.records.commit(again).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    assert_eq!(world.api.writes(), before);
    assert_eq!(world.in_progress().await.len(), 1);

    // One that was faster after everything was read: the operation is taken back.
    let cluster = world.get::<Cluster>(&cluster_key("c")).await.unwrap();
    let mut record = cluster.record.clone();
    let deleting = ProvisioningState::Deleting;
    let (lost, mut changes) =
        transition::begin(&world.records, &mut record, deleting, Timestamp::now())
            .await
            .unwrap();
    changes.push(Change::Put {
        kind: Kind::Cluster,
        path: cluster.record.key.path(),
        expected: Expected::Revision(Revision(1)),
        body: serde_json::to_value(&record).unwrap(),
    });
    world.records.commit(changes).await.unwrap_err();
    assert!(world.get::<Operation>(&lost.key).await.is_none());
}

#[tokio::test]
async fn what_the_api_server_is_against_is_refused_and_nothing_of_it_stays() {
    const WHY: &str = "admission webhook \"w\" denied the request: not on Fridays";
    let world = World::new().await;
    let refused = |error: StoreError| {
        let is_refused = matches!(&error, StoreError::Refused(said) if said.contains(WHY));
        assert!(is_refused, "{error:?}");
    };
    let mut pool = new_pool("c", "one");
    let creating = ProvisioningState::Creating;
    let (_, mut changes) = transition::begin(&world.records, &mut pool, creating, Timestamp::now())
        .await
        .unwrap();
    changes.insert(0, Change::create(&pool).unwrap());
    for part in ["nodepools", "resourcegroups"] {
        world.api.refuse(Some((part, 403, WHY)));
        let changes = match part {
            "nodepools" => changes.clone(),
            _ => vec![Change::create(&new_group()).unwrap()],
        };
        refused(world.records.commit(changes).await.unwrap_err());
    }
    assert!(world.in_progress().await.is_empty());

    // A cluster is not made without the pools that were asked for with it, and is not changed without theirs.
    world.api.refuse(Some(("nodepools", 403, WHY)));
    let (_, changes) = world.creation("c").await;
    let before = world.api.writes();
    refused(world.records.commit(changes).await.unwrap_err());
    assert_eq!(world.api.writes(), before);
    world.api.refuse(None);
    let (_, changes) = world.creation("c").await;
    world.records.commit(changes).await.unwrap();
    let pools = world.pools(&cluster_key("c")).await;
    assert_eq!(pools.len(), 2);

    world.api.refuse(Some(("nodepools", 403, WHY)));
    let cluster = world.get::<Cluster>(&cluster_key("c")).await.unwrap();
    let mut record = pools[0].clone();
    record.spec.count = 2;
    let stored = world.get::<pool::NodePool>(&record.key).await.unwrap();
    let changes = vec![
        Change::update(&cluster.record, cluster.revision).unwrap(),
        Change::update(&record, stored.revision).unwrap(),
    ];
    let before = world.api.writes();
    refused(world.records.commit(changes).await.unwrap_err());
    assert_eq!(world.api.writes(), before);
}

#[tokio::test]
async fn an_api_server_that_is_away_or_forbids_is_no_refusal() {
    let world = World::new().await;
    let create = || vec![Change::create(&new_group()).unwrap()];
    world
        .api
        .refuse(Some(("resourcegroups", 403, "User \"u\" cannot create")));
    let error = world.records.commit(create()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    world.api.set_away(true);
    let error = world.records.commit(create()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn pools_of_two_clusters_may_have_one_name() {
    let world = World::new().await;
    for cluster in ["east", "west"] {
        let made = vec![Change::create(&new_pool(cluster, "one")).unwrap()];
        world.records.commit(made).await.unwrap();
    }
    let names: Vec<_> = world.api.list(POOLS);
    assert_eq!(names.len(), 2);
    assert_eq!(names[0]["metadata"]["name"], "one");
    for cluster in ["east", "west"] {
        let pool = new_pool(cluster, "one");
        let found = world.get::<pool::NodePool>(&pool.key).await.unwrap();
        assert_eq!(found.record.key.to_string(), pool.key.to_string());
    }
}

#[tokio::test]
async fn a_pool_made_with_kubectl_is_in_a_group_and_a_cluster_that_are_there_for_it() {
    let world = World::new().await;
    let local = |name: &str| -> pool::GroupKey {
        pool::GroupKey {
            subscription: SubscriptionId::local(),
            group: name.parse().unwrap(),
        }
    };
    assert!(world.get::<Group>(&local("kubernetes")).await.is_none());
    let object = json!({
        "apiVersion": "migpool.dev/v1alpha1", "kind": "NodePool",
        "metadata": {"name": "mignode", "uid": "u"},
        "spec": {"vmSize": "Standard_ND96asr_v4", "gpuInstanceProfile": "MIG1g", "count": 2},
    });
    world.api.put(&format!("{POOLS}/mignode"), object);
    let group = world.get::<Group>(&local("Kubernetes")).await.unwrap();
    assert_eq!(
        group.record.provisioning_state,
        ProvisioningState::Succeeded
    );
    let key = ClusterKey {
        group: local("kubernetes"),
        cluster: "kubernetes".parse().unwrap(),
    };
    let cluster = world.get::<Cluster>(&key).await.unwrap();
    let scope = Scope::subscription(&SubscriptionId::local());
    let clusters = world.records.list::<Cluster>(&scope).await.unwrap();
    assert_eq!(clusters, std::slice::from_ref(&cluster));
    assert_eq!(world.pools(&key).await.len(), 1);

    // It becomes an object when something is asked of it.
    let mut tagged = cluster.record.clone();
    tagged.tags.insert("a".to_owned(), "b".to_owned());
    let change = Change::update(&tagged, cluster.revision).unwrap();
    world.records.commit(vec![change]).await.unwrap();
    let found = world.get::<Cluster>(&key).await.unwrap();
    assert_eq!(found.record.tags.len(), 1);
    assert_ne!(found.revision, cluster.revision);
    assert_eq!(
        world.records.list::<Cluster>(&scope).await.unwrap().len(),
        1
    );
}

#[tokio::test]
async fn asking_for_a_pool_again_ends_what_was_asked_before() {
    let world = World::new().await;
    let mut pool = new_pool("c", "one");
    let now = Timestamp::now();
    let creating = ProvisioningState::Creating;
    let (first, mut changes) = transition::begin(&world.records, &mut pool, creating, now)
        .await
        .unwrap();
    changes.insert(0, Change::create(&pool).unwrap());
    world.records.commit(changes).await.unwrap();

    let mut found = world.get::<pool::NodePool>(&pool.key).await.unwrap();
    assert_eq!(found.record.operation, Some(first.key.id));
    found.record.spec.count = 2;
    let scaling = ProvisioningState::Scaling;
    let (second, mut changes) = transition::begin(&world.records, &mut found.record, scaling, now)
        .await
        .unwrap();
    changes.insert(0, Change::update(&found.record, found.revision).unwrap());
    world.records.commit(changes).await.unwrap();
    let ended = world.get::<Operation>(&first.key).await.unwrap().record;
    assert_eq!(ended.status, OperationStatus::Canceled);
    let kept = world.get::<pool::NodePool>(&pool.key).await.unwrap().record;
    assert_eq!((kept.operation, kept.spec.count), (Some(second.key.id), 2));
    assert_eq!(kept.provisioning_state, scaling);
    world.rounds().await;
    let ended = world.get::<Operation>(&second.key).await.unwrap().record;
    assert_eq!(ended.status, OperationStatus::Succeeded);
}

/// Kills a front after so many writes of a commit, then an operator after so many of what is left, and another does the rest.
async fn survives(writes: usize, deletes: bool, then: usize) -> Result<(), TestCaseError> {
    let world = World::new().await;
    world
        .records
        .commit(vec![Change::create(&new_group()).unwrap()])
        .await
        .unwrap();
    let (_, mut changes) = world.creation("c").await;
    if deletes {
        world.records.commit(changes).await.unwrap();
        let cluster = world.get::<Cluster>(&cluster_key("c")).await.unwrap();
        let mut record = cluster.record.clone();
        let deleting = ProvisioningState::Deleting;
        changes = transition::begin(&world.records, &mut record, deleting, Timestamp::now())
            .await
            .unwrap()
            .1;
        changes.push(Change::update(&record, cluster.revision).unwrap());
    }
    world.api.die_after(Some(writes));
    let answered = world.records.commit(changes).await.is_ok();
    world.api.die_after(Some(then));
    world.rounds().await;
    world.api.die_after(None);
    world.rounds().await;

    let left = world.in_progress().await;
    prop_assert!(left.is_empty(), "{:?}", left);
    let cluster = world.get::<Cluster>(&cluster_key("c")).await;
    let pools = world.pools(&cluster_key("c")).await;
    // All of it or nothing; and all of it if anybody was told so.
    if let Some(cluster) = cluster {
        prop_assert_eq!(pools.len(), 2);
        let state = cluster.record.provisioning_state;
        prop_assert_eq!(state, ProvisioningState::Succeeded);
        prop_assert!(!(deletes && answered));
    } else {
        prop_assert!(pools.is_empty());
        prop_assert!(deletes || !answered);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn whoever_is_killed_between_two_writes_leaves_all_or_nothing_and_no_operation_for_ever(
        writes in 0..8_usize,
        deletes: bool,
        then in 0..12_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(survives(writes, deletes, then))?;
    }
}
