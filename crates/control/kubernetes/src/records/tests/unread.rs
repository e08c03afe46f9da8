//! Records that can't be read: nested deeper than the reader goes, or no JSON at all.

use pool::{DeploymentKey, OperationTarget, unread};

use super::*;
use crate::record_object::name_of;

const API: &str = "/apis/migpool.dev/v1alpha1";

/// JSON that is written, and not read back.
fn deep() -> String {
    format!("{}{}", "[".repeat(200), "]".repeat(200))
}

fn at(plural: &str, path: &str) -> String {
    format!("{API}/{plural}/{}", name_of(path))
}

impl World {
    /// A group, and in it a cluster with two pools, an operation and a deployment.
    async fn peopled() -> (Self, Operation) {
        let world = Self::new().await;
        let group = vec![Change::create(&new_group()).unwrap()];
        world.records.commit(group).await.unwrap();
        let (operation, changes) = world.creation("c").await;
        world.records.commit(changes).await.unwrap();
        world.spoil("armdeployments", &deployment());
        (world, operation)
    }

    /// Puts what can't be read in the place of a record, or where there is none.
    fn spoil(&self, plural: &str, path: &str) {
        let kind = KINDS.iter().find(|it| it.plural == plural).unwrap();
        let at = at(plural, path);
        let mut object = self.api.get(&at).unwrap_or_else(|| {
            json!({
                "apiVersion": "migpool.dev/v1alpha1", "kind": kind.name,
                "metadata": {"name": name_of(path), "uid": path},
                "spec": {"path": path},
            })
        });
        object["spec"]["record"] = deep().into();
        self.api.put(&at, object);
    }

    async fn delete_group(&self) -> Operation {
        let stored = self.get::<Group>(&new_group().key).await.unwrap();
        let mut group = stored.record;
        let deleting = ProvisioningState::Deleting;
        let begun = transition::begin(&self.records, &mut group, deleting, Timestamp::now());
        let (operation, mut changes) = begun.await.unwrap();
        changes.push(Change::update(&group, stored.revision).unwrap());
        self.records.commit(changes).await.unwrap();
        self.rounds().await;
        operation
    }

    async fn page(&self, kind: Kind) -> Page<RawRecord> {
        self.page_after(kind, None, 100).await
    }

    async fn page_after(&self, kind: Kind, after: Option<&str>, limit: usize) -> Page<RawRecord> {
        let scope = Scope::everything();
        let page = self.records.page(kind, &scope, after, limit);
        page.await.unwrap()
    }
}

fn deployment() -> String {
    let key = DeploymentKey {
        group: new_group().key,
        deployment: "d".parse().unwrap(),
    };
    key.path()
}

#[tokio::test]
async fn one_that_cannot_be_read_is_left_out_and_named_and_the_others_are_listed() {
    let (world, operation) = World::peopled().await;
    let others = [
        (Kind::Group, "resourcegroups", "s/other".to_owned()),
        (Kind::Cluster, "managedclusters", "s/other/c".to_owned()),
        (Kind::Operation, "operations", "s/op".to_owned()),
    ];
    for (kind, plural, path) in others {
        let before = world.page(kind).await;
        assert!(before.unreadable.is_empty() && before.records.len() == 1);
        world.spoil(plural, &path);
        let after = world.page(kind).await;
        assert_eq!(after.records, before.records, "{kind}");
        let named: Vec<_> = after.unreadable.iter().map(|it| &it.path).collect();
        assert_eq!(named, [&path]);
        let read = world.records.read(kind, &path).await;
        assert!(matches!(read, Err(StoreError::Unreadable { .. })));
        assert!(world.records.revision_of(kind, &path).await.unwrap() > Some(Revision(0)));
    }
    assert!(world.get::<Operation>(&operation.key).await.is_some());
    // It is on a page like any other.
    let first = world.page_after(Kind::Group, None, 1).await;
    let next = first.next.unwrap();
    let page = world.page_after(Kind::Group, Some(&next), 1).await;
    assert_eq!((page.unreadable.len(), page.next), (1, None));
}

#[tokio::test]
async fn a_node_pool_that_makes_no_sense_is_named_and_the_others_are_listed() {
    let (world, _) = World::peopled().await;
    let mut object = world.api.get(&format!("{POOLS}/one")).unwrap();
    object["spec"]["arm"]["properties"] = deep().into();
    world.api.put(&format!("{POOLS}/one"), object);
    let page = world.page(Kind::NodePool).await;
    let read: Vec<_> = page.records.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(read, [new_pool("c", "two").key.path()]);
    let one = new_pool("c", "one").key.path();
    assert_eq!(page.unreadable[0].path, one);

    // What could take it away is said.
    let error = unread::remove(&world.records, Kind::NodePool, &one).await;
    let StoreError::Refused(said) = error.unwrap_err() else {
        panic!("it is not refused");
    };
    assert!(said.contains("kubectl delete nodepool one"), "{said}");
}

#[tokio::test]
async fn a_cluster_that_cannot_be_read_leaves_its_group_where_it_is() {
    let world = World::new().await;
    let (_, changes) = world.creation("c").await;
    world.records.commit(changes).await.unwrap();
    world.spoil("managedclusters", &cluster_key("c").path());
    for name in ["one", "two"] {
        world.api.put(&format!("{POOLS}/{name}"), Value::Null);
    }
    assert!(world.get::<Group>(&cluster_key("c").group).await.is_some());
}

#[tokio::test]
async fn an_operation_that_cannot_be_read_holds_up_no_other_and_not_its_target() {
    let (world, operation) = World::peopled().await;
    let path = operation.key.path();
    world.spoil("operations", &path);
    let mut others = Vec::new();
    for id in 0..8 {
        let target = OperationTarget::Group(new_group().key);
        let other = Operation::begin(target, uuid::Uuid::from_u128(id), Timestamp::now());
        let change = Change::create(&other).unwrap();
        world.records.commit(vec![change]).await.unwrap();
        others.push(other.key);
    }
    world.rounds().await;
    for key in others {
        let ended = world.get::<Operation>(&key).await.unwrap().record;
        assert_eq!(ended.status, OperationStatus::Canceled);
    }
    let cluster = world.get::<Cluster>(&cluster_key("c")).await.unwrap();
    let state = cluster.record.provisioning_state;
    assert_eq!(state, ProvisioningState::Succeeded);
}

#[tokio::test]
async fn a_group_is_deleted_with_deployments_that_cannot_be_read() {
    let (world, _) = World::peopled().await;
    let operation = world.delete_group().await;
    assert!(world.get::<Group>(&new_group().key).await.is_none());
    assert!(
        world
            .api
            .get(&at("armdeployments", &deployment()))
            .is_none()
    );
    let ended = world.get::<Operation>(&operation.key).await.unwrap().record;
    assert_eq!(ended.status, OperationStatus::Succeeded);
}

#[tokio::test]
async fn a_group_and_a_cluster_that_cannot_be_read_make_way_for_their_deletion() {
    let (world, _) = World::peopled().await;
    let path = new_group().key.path();
    world.spoil("managedclusters", &cluster_key("c").path());
    world.spoil("resourcegroups", &path);
    let removed = unread::remove(&world.records, Kind::Group, &path);
    removed.await.unwrap();
    world.delete_group().await;
    for plural in [
        "resourcegroups",
        "managedclusters",
        "armdeployments",
        "nodepools",
    ] {
        let left = world.api.list(&format!("{API}/{plural}"));
        assert!(left.is_empty(), "{left:?}");
    }
}
