use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use pool::memory::MemoryBackend;
use pool::{Change, ClusterKey, Expected, GroupKey, Kind, SubscriptionId};

use super::*;

/// Names that are prefixes of one another, and that sort between a name and what is in it.
const NAMES: &[&str] = &["a", "a-1", "a0", "a.b", "A1", "b"];

fn subscription(number: u8) -> SubscriptionId {
    let id = format!("00000000-0000-0000-0000-00000000000{number}");
    id.parse().unwrap()
}

fn group(number: u8, name: &str) -> GroupKey {
    GroupKey {
        subscription: subscription(number),
        group: name.parse().unwrap(),
    }
}

fn cluster(number: u8, of: &str, name: &str) -> ClusterKey {
    ClusterKey {
        group: group(number, of),
        cluster: name.replace('.', "_").parse().unwrap(),
    }
}

fn group_keys() -> impl Strategy<Value = GroupKey> {
    (0..2u8, select(NAMES)).prop_map(|(number, name)| group(number, name))
}

fn cluster_keys() -> impl Strategy<Value = ClusterKey> {
    (0..2u8, select(NAMES), select(NAMES)).prop_map(|(number, of, name)| cluster(number, of, name))
}

/// What somebody may have a role on.
fn scopes() -> impl Strategy<Value = Scope> {
    prop_oneof![
        1 => (0..2u8).prop_map(|number| Scope::subscription(&subscription(number))),
        4 => group_keys().prop_map(|key| Scope::group(&key)),
        4 => cluster_keys().prop_map(|key| Scope::cluster(&key)),
    ]
}

fn lists() -> impl Strategy<Value = Scope> {
    prop_oneof![
        Just(Scope::subscription(&subscription(0))),
        select(NAMES).prop_map(|name| Scope::group(&group(0, name))),
    ]
}

/// A new record, whether it can be read or not.
fn put(kind: Kind, path: String, body: serde_json::Value) -> Change {
    Change::Put {
        kind,
        path,
        expected: Expected::Absent,
        body,
    }
}

fn group_body(key: &GroupKey) -> serde_json::Value {
    serde_json::to_value(Group {
        key: key.clone(),
        location: "southcentralus".to_owned(),
        tags: BTreeMap::new(),
        provisioning_state: pool::ProvisioningState::Succeeded,
        operation: None,
    })
    .unwrap()
}

fn cluster_body(key: &ClusterKey) -> serde_json::Value {
    serde_json::to_value(Cluster {
        key: key.clone(),
        location: "southcentralus".to_owned(),
        tags: BTreeMap::new(),
        properties: serde_json::Map::new(),
        envelope: serde_json::Map::new(),
        power: pool::PowerState::Running,
        provisioning_state: pool::ProvisioningState::Succeeded,
        message: String::new(),
        operation: None,
        created: jiff::Timestamp::UNIX_EPOCH,
    })
    .unwrap()
}

/// The pages of a list, each with its paths in order, read and unread, and where the next one begins.
fn pages<R: Listed>(
    store: &MemoryBackend,
    view: &View,
    list: &Scope,
    limit: usize,
) -> Vec<(Vec<String>, Option<String>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut pages: Vec<(Vec<String>, Option<String>)> = Vec::new();
        loop {
            let after = pages.last().and_then(|(_, next)| next.clone());
            let page = view.page::<R, _>(store, list, after.as_deref(), limit);
            let page = page.await.unwrap();
            let read = page.records.iter().map(|it| it.record.key().path());
            let unread = page.unreadable.iter().map(|it| it.path.clone());
            let mut paths: Vec<String> = read.chain(unread).collect();
            paths.sort();
            pages.push((paths, page.next.clone()));
            if page.next.is_none() {
                return pages;
            }
        }
    })
}

/// Whether the pages have exactly these paths, each once and in order, and say nothing but by what is on them.
fn check(
    pages: &[(Vec<String>, Option<String>)],
    mut expected: Vec<String>,
    limit: usize,
) -> Result<(), TestCaseError> {
    expected.sort();
    let all: Vec<String> = pages.iter().flat_map(|(paths, _)| paths.clone()).collect();
    prop_assert_eq!(&all, &expected);
    for (number, (paths, next)) in pages.iter().enumerate() {
        let is_last = number + 1 == pages.len();
        prop_assert_eq!(next.is_none(), is_last);
        prop_assert!(is_last || paths.len() == limit, "{:?}", pages);
        prop_assert!(is_last || next.as_ref() == paths.last(), "{:?}", pages);
        prop_assert!(number == 0 || !paths.is_empty(), "{:?}", pages);
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_list_has_what_its_view_shows_and_its_pages_tell_of_nothing_else(
        groups in prop::collection::btree_map(group_keys(), any::<bool>(), 0..10),
        clusters in prop::collection::btree_map(cluster_keys(), any::<bool>(), 0..24),
        scopes in prop::option::weighted(0.9, prop::collection::vec(scopes(), 0..5)),
        list in lists(),
        limit in 1..5usize,
    ) {
        let store = MemoryBackend::new();
        let nonsense = || json!({"from": "the future"});
        let mut changes = Vec::new();
        for (key, is_good) in &groups {
            let body = if *is_good { group_body(key) } else { nonsense() };
            changes.push(put(Kind::Group, key.path(), body));
        }
        for (key, is_good) in &clusters {
            let body = if *is_good { cluster_body(key) } else { nonsense() };
            changes.push(put(Kind::Cluster, key.path(), body));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(store.commit(changes)).unwrap();

        let view = match &scopes {
            None => View::everything(),
            Some(scopes) => View::of(scopes.iter().cloned()),
        };
        let may_be_seen = |path: &str| {
            let itself = format!("{path}/");
            let mut all = scopes.iter().flatten();
            scopes.is_none() || all.any(|scope| itself.starts_with(scope.prefix()))
        };
        let is_shown = |path: &String| path.starts_with(list.prefix()) && may_be_seen(path);
        let expected = groups.keys().map(Key::path).filter(is_shown).collect();
        check(&pages::<Group>(&store, &view, &list, limit), expected, limit)?;
        let expected = clusters.keys().map(Key::path).filter(is_shown).collect();
        check(&pages::<Cluster>(&store, &view, &list, limit), expected, limit)?;
        for key in clusters.keys() {
            prop_assert_eq!(view.shows(key), may_be_seen(&key.path()));
        }
    }

    #[test]
    fn some_of_a_scope_is_seen_if_one_of_what_may_be_in_it_is(
        scopes in prop::collection::vec(scopes(), 0..4),
        number in 0..2u8,
    ) {
        let view = View::of(scopes.clone());
        let whole = Scope::subscription(&subscription(number));
        let expected = scopes.iter().any(|scope| scope.prefix().starts_with(whole.prefix()));
        prop_assert_eq!(view.shows_some_of(&whole), expected);
    }
}

#[test]
fn who_sees_no_scope_sees_nothing_and_who_is_given_no_view_sees_everything() {
    let key = group(0, "a");
    assert!(!View::of([]).shows(&key));
    assert!(!View::of([]).shows_some_of(&Scope::group(&key)));
    assert!(View::default().shows(&key));
    assert_eq!(View::default(), View::everything());
}

#[test]
fn an_error_names_no_record_that_may_not_be_seen() {
    let unreadable = |key: &GroupKey| StoreError::Unreadable {
        kind: Kind::Group,
        path: key.path(),
        reason: "nonsense".to_owned(),
    };
    let view = View::of([Scope::group(&group(0, "a"))]);
    let told = view.untold(unreadable(&group(0, "a"))).to_string();
    assert!(told.contains("nonsense"), "{told}");
    let untold = view.untold(unreadable(&group(0, "b"))).to_string();
    assert!(!untold.contains("/b"), "{untold}");
    assert!(!untold.contains("nonsense"), "{untold}");
}
