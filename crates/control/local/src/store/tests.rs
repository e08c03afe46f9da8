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

fn paths(page: &pool::Page<pool::RawRecord>) -> Vec<&str> {
    page.records.iter().map(|it| it.path.as_str()).collect()
}

#[tokio::test]
async fn pages_follow_one_another_within_their_scope() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(&dir);
    let group = cluster().group;
    let beside = [
        format!("{}-1/c", pool::Key::path(&group)),
        format!("{}0/c", pool::Key::path(&group)),
    ];
    let inside =
        ["a", "b", "c", "d", "e"].map(|name| format!("{}/{name}", pool::Key::path(&group)));
    let all = beside.iter().chain(&inside);
    let changes = all.map(|path| put(path, Expected::Absent, "x")).collect();
    store.commit(changes).await.expect("commits");
    let scope = Scope::group(&group);
    let mut after = None;
    let mut sizes = Vec::new();
    let mut seen = Vec::new();
    loop {
        let page = store.page(Kind::Cluster, &scope, after.as_deref(), 2);
        let page = page.await.expect("a page");
        sizes.push(page.records.len());
        seen.extend(page.records.iter().map(|it| it.path.clone()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!(seen, inside);
    // As many as there are is one page, and so is any number.
    for limit in [5, usize::MAX] {
        let page = store.page(Kind::Cluster, &scope, None, limit).await;
        let page = page.expect("a page");
        assert_eq!((paths(&page).len(), page.next), (5, None));
    }
    let of_others = store.page(Kind::Group, &scope, None, 2).await;
    assert!(of_others.expect("a page").records.is_empty());
}

#[tokio::test]
async fn a_row_that_is_no_json_is_named_and_the_others_are_read() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(&dir);
    let changes = ["s/a", "s/b", "s/c"].map(|path| put(path, Expected::Absent, "x"));
    store.commit(changes.into()).await.expect("commits");
    let broken = Connection::open(dir.path().join("migpool.db")).expect("opens");
    broken
        .execute("UPDATE record SET body = '{' WHERE path = 's/b'", [])
        .expect("broken");
    let page = store
        .page(Kind::Cluster, &Scope::everything(), None, 2)
        .await;
    let page = page.expect("a page");
    assert_eq!(paths(&page), ["s/a"]);
    assert_eq!(page.unreadable[0].path, "s/b");
    assert_eq!(page.next.as_deref(), Some("s/b"));
    let read = store.read(Kind::Cluster, "s/b").await;
    assert!(
        matches!(read, Err(StoreError::Unreadable { .. })),
        "{read:?}"
    );
}

#[tokio::test]
async fn each_commit_tells_what_it_changed_and_a_refused_one_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(&dir);
    let mut told = store.record_changes().expect("told");
    let both = ["s/a", "s/b"].map(|path| put(path, Expected::Absent, "x"));
    let revisions = store.commit(both.into()).await.expect("commits");
    let check = Change::Check {
        kind: Kind::Cluster,
        path: "s/a".to_owned(),
        expected: Expected::Revision(revisions[0].expect("a revision")),
    };
    store.commit(vec![check.clone()]).await.expect("checks");
    let refused = store.commit(vec![
        put("s/c", Expected::Absent, "x"),
        put("s/a", Expected::Absent, "x"),
    ]);
    assert!(refused.await.is_err());
    let gone = Change::Delete {
        kind: Kind::Cluster,
        path: "s/b".to_owned(),
        expected: revisions[1].expect("a revision"),
    };
    store.commit(vec![check, gone]).await.expect("commits");
    let of = |path: &str| (Kind::Cluster, path.to_owned());
    assert_eq!(*told.recv().await.expect("told"), [of("s/a"), of("s/b")]);
    assert_eq!(*told.recv().await.expect("told"), [of("s/b")]);
    assert!(told.try_recv().is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    /// The store that tests use in its place keeps to the same.
    #[test]
    fn any_page_is_the_one_that_a_scan_would_be_cut_to(
        names in proptest::collection::btree_set("[a-c.0/-]{1,4}", 0..30),
        after in proptest::option::of("[a-c.0/-]{1,4}"),
        limit in 1..12usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let dir = tempfile::tempdir().expect("tempdir");
            let store = open(&dir);
            let changes = names.iter().map(|name| put(name, Expected::Absent, "x")).collect();
            store.commit(changes).await.expect("commits");
            let everything = Scope::everything();
            let all = store.scan(Kind::Cluster, &everything).await.expect("scan");
            assert_eq!(all.len(), names.len());
            let page = store.page(Kind::Cluster, &everything, after.as_deref(), limit);
            let page = page.await.expect("a page");
            assert_eq!(page, pool::Page::cut(all, |it| &it.path, after.as_deref(), limit));
        });
    }
}

#[tokio::test]
async fn a_commit_that_changes_something_has_begun_another_generation_when_it_returns() {
    let dir = tempfile::tempdir().expect("tempdir");
    let database = Database::open(&dir.path().join("a.db")).expect("opens");
    let mut before = database.generation();
    assert!(before.is_some(), "nobody else writes");
    let mut expected = Expected::Absent;
    for body in ["x", "y"] {
        let commit = database.commit(vec![put("a", expected, body)]).await;
        let revisions = commit.expect("commits");
        expected = Expected::Revision(revisions[0].expect("a revision"));
        assert_ne!(database.generation(), before);
        before = database.generation();
        database.read(Kind::Cluster, "a").await.expect("reads");
        assert_eq!(database.generation(), before, "reading changes nothing");
    }
    let refused = database.commit(vec![put("a", Expected::Absent, "z")]).await;
    assert!(refused.is_err());
    assert_eq!(database.generation(), before, "nothing was changed");
}
