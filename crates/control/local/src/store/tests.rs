use super::*;
use crate::kubelet::ledger::{Assignment, Holder};
use crate::pod::manifest;
use jiff::Timestamp;
use pool::{Change, ClusterKey, Expected, GroupKey, Kind, Revision, Scope, Store, StoreError};

fn put(path: &str, expected: Expected, body: &str) -> Change {
    Change::Put {
        kind: Kind::Cluster,
        path: path.to_owned(),
        expected,
        body: serde_json::json!({ "body": body }),
    }
}

fn cluster() -> ClusterKey {
    let group = GroupKey {
        subscription: pool::SubscriptionId::local(),
        group: "g".parse().expect("group"),
    };
    ClusterKey {
        group,
        cluster: "c".parse().expect("cluster"),
    }
}

fn node() -> NodeRow {
    let key = pool::PoolKey {
        cluster: cluster(),
        pool: "p".parse().expect("pool"),
    };
    let spec = pool::NodeSpec {
        name: pool::NodeName::of(&key, 0),
        pool: key,
        vm_size: "Standard_ND96asr_v4".to_owned(),
        layout: None,
        mig_strategy: mig::MigStrategy::Single,
        labels: std::collections::BTreeMap::new(),
        taints: vec![],
        drain: pool::Drain::default(),
    };
    NodeRow {
        spec,
        created: Timestamp::UNIX_EPOCH,
        deleting: false,
    }
}

fn pod(name: &str) -> PodRow {
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, \
         spec: {{containers: [{{name: main, command: [sleep]}}]}}}}"
    );
    PodRow {
        uid: format!("uid-{name}"),
        cluster: cluster(),
        name: name.parse().expect("name"),
        manifest: manifest::parse(&text).expect("manifest"),
        created: Timestamp::UNIX_EPOCH,
        sequence: 1,
        node: Some(node().spec.name),
        generations: vec![1],
        finals: vec![None],
        failure: None,
        deleting: false,
    }
}

fn assignment(pod: &PodRow, device: &str) -> Assignment {
    Assignment {
        holder: Holder {
            pod_uid: pod.uid.clone(),
            namespace: "default".to_owned(),
            pod: pod.name.to_string(),
            container: "main".to_owned(),
        },
        resource: "nvidia.com/gpu".to_owned(),
        devices: vec![device.to_owned()],
    }
}

fn open(dir: &tempfile::TempDir) -> Database {
    Database::open(&dir.path().join("migpool.db")).expect("opens")
}

#[tokio::test]
async fn a_commit_happens_wholly_or_not_at_all() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(&dir);
    let first = store
        .commit(vec![put("s/a", Expected::Absent, "1")])
        .await
        .expect("commits");
    let revision = first[0].expect("a revision");
    let clash = store
        .commit(vec![
            put("s/b", Expected::Absent, "2"),
            put("s/a", Expected::Revision(Revision(revision.0 + 1)), "3"),
        ])
        .await;
    assert_eq!(
        clash,
        Err(StoreError::Conflict {
            kind: Kind::Cluster,
            path: "s/a".to_owned()
        })
    );
    assert_eq!(store.read(Kind::Cluster, "s/b").await.expect("reads"), None);
}

#[tokio::test]
async fn a_revision_is_never_used_again_not_even_after_a_delete_and_a_restart() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let store = open(&dir);
        let revision = store
            .commit(vec![put("s/a", Expected::Absent, "x")])
            .await
            .expect("put")[0]
            .expect("revision");
        assert!(seen.insert(revision));
        let gone = Change::Delete {
            kind: Kind::Cluster,
            path: "s/a".to_owned(),
            expected: revision,
        };
        assert_eq!(store.commit(vec![gone]).await.expect("delete"), [None]);
    }
}

#[tokio::test]
async fn a_scan_finds_what_lies_within_its_scope_and_nothing_beside_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(&dir);
    let subscription = pool::SubscriptionId::local();
    let inside = format!("{}/g_%/c", subscription.folded());
    let beside = format!("{}/gxx/c", subscription.folded());
    let group = GroupKey {
        subscription,
        group: "g_%".parse().unwrap_or("g_".parse().expect("g")),
    };
    let inside = inside.replace("g_%", &group.group.folded());
    store
        .commit(vec![
            put(&inside, Expected::Absent, "1"),
            put(&beside, Expected::Absent, "2"),
        ])
        .await
        .expect("commits");
    let found = store
        .scan(Kind::Cluster, &Scope::group(&group))
        .await
        .expect("scans");
    assert_eq!(
        found.iter().map(|r| r.path.clone()).collect::<Vec<_>>(),
        [inside]
    );
    let all = store
        .scan(Kind::Cluster, &Scope::everything())
        .await
        .expect("scans");
    assert_eq!(all.len(), 2);
    assert!(
        store
            .scan(Kind::Group, &Scope::everything())
            .await
            .expect("scans")
            .is_empty()
    );
}

#[tokio::test]
async fn a_device_cannot_be_written_down_for_two_pods() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(&dir);
    store.put_node(&node()).await.expect("node");
    let (one, two) = (pod("one"), pod("two"));
    store
        .put_pod(&one, vec![assignment(&one, "MIG-1")])
        .await
        .expect("free");
    let taken = store.put_pod(
        &two,
        vec![assignment(&two, "MIG-2"), assignment(&two, "MIG-1")],
    );
    assert!(taken.await.is_err());
    // The refused transaction wrote neither the pod nor its other device.
    assert_eq!(store.pods().await.expect("pods"), vec![one.clone()]);
    let held = store.assignments().await.expect("assignments");
    assert_eq!(
        held,
        [(node().spec.name.to_string(), assignment(&one, "MIG-1"))]
    );
    // A node whose devices are held cannot be forgotten.
    assert!(store.delete_node(&node().spec.name).await.is_err());
    store.delete_pod(&one.uid).await.expect("deleted");
    store
        .put_pod(&two, vec![assignment(&two, "MIG-1")])
        .await
        .expect("free again");
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(&dir);
    let one = pod("one");
    store.put_node(&node()).await.expect("node");
    store
        .put_pod(&one, vec![assignment(&one, "MIG-1")])
        .await
        .expect("pod");
    drop(store);
    let store = open(&dir);
    assert_eq!(store.nodes().await.expect("nodes"), [node()]);
    assert_eq!(store.pods().await.expect("pods"), vec![one.clone()]);
    store
        .put_ended_pod(&PodRow { node: None, ..one })
        .await
        .expect("ended");
    assert!(store.assignments().await.expect("assignments").is_empty());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("migpool.db");
    std::fs::write(
        &path,
        "not a database, and long enough to be looked at as one".repeat(40),
    )
    .expect("write");
    let error = Database::open(&path).expect_err("refused").to_string();
    assert!(error.contains("migpool.db"), "{error}");
}

#[tokio::test]
async fn a_commit_is_seen_though_whoever_asked_for_it_has_hung_up() {
    let dir = tempfile::tempdir().expect("tempdir");
    let database = Database::open(&dir.path().join("a.db")).expect("opens");
    let mut changes = database.store_changes();
    let mut commit = Box::pin(database.commit(vec![put("a", Expected::Absent, "x")]));
    assert!(futures::poll!(&mut commit).is_pending());
    drop(commit);
    let seen = tokio::time::timeout(std::time::Duration::from_mins(1), changes.changed()).await;
    seen.expect("seen").expect("open");
    let stored = database.read(Kind::Cluster, "a").await.expect("reads");
    assert!(stored.is_some());
}
