//! Pages of records, while records come and go.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use migpool_pool as pool;
use pool::memory::MemoryBackend;
use pool::{Change, Expected, Kind, Page, Revision, Scope, Store};
use proptest::prelude::*;

/// What a person does between two pages.
#[derive(Clone, Debug)]
enum Step {
    Write(u8),
    Delete(u8),
    /// Reads the next page.
    Page(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..60u8).prop_map(Step::Write),
        (0..60u8).prop_map(Step::Delete),
        (1..6usize).prop_map(Step::Page),
    ]
}

/// Names whose order differs from that of their numbers, and of which one is another's beginning.
fn path(number: u8) -> String {
    let names = ["a", "a-b", "a.b", "ab", "b"];
    let group = names[usize::from(number) % names.len()];
    format!("s/{group}/c{}", number / 5)
}

async fn write(store: &MemoryBackend, kept: &mut BTreeMap<String, Revision>, path: &str) {
    let expected = kept
        .get(path)
        .map_or(Expected::Absent, |revision| Expected::Revision(*revision));
    let change = Change::Put {
        kind: Kind::Cluster,
        path: path.to_owned(),
        expected,
        body: serde_json::json!({}),
    };
    let revision = store.commit(vec![change]).await.unwrap()[0].unwrap();
    kept.insert(path.to_owned(), revision);
}

proptest! {
    #[test]
    fn what_stays_is_on_exactly_one_page_whatever_comes_and_goes(
        first in prop::collection::btree_set(0..60u8, 0..40),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (stayed, shown) = runtime.block_on(async {
            let store = MemoryBackend::new();
            let mut kept = BTreeMap::new();
            for number in first {
                write(&store, &mut kept, &path(number)).await;
            }
            let mut stayed: BTreeSet<String> = kept.keys().cloned().collect();
            let (mut shown, mut after) = (Vec::new(), None);
            // At the end whatever pages are left are read.
            for step in steps.into_iter().chain(std::iter::repeat(Step::Page(5))) {
                match step {
                    Step::Write(number) => write(&store, &mut kept, &path(number)).await,
                    Step::Delete(number) => {
                        let path = path(number);
                        stayed.remove(&path);
                        if let Some(expected) = kept.remove(&path) {
                            let kind = Kind::Cluster;
                            let change = Change::Delete { kind, path, expected };
                            store.commit(vec![change]).await.unwrap();
                        }
                    }
                    Step::Page(limit) => {
                        let everything = Scope::everything();
                        let page = store.page(Kind::Cluster, &everything, after.as_deref(), limit);
                        let page = page.await.unwrap();
                        assert!(page.records.len() <= limit);
                        for record in page.records {
                            assert_eq!(kept.get(&record.path), Some(&record.revision));
                            shown.push(record.path);
                        }
                        after = page.next;
                        if after.is_none() {
                            break;
                        }
                    }
                }
            }
            (stayed, shown)
        });
        prop_assert!(shown.windows(2).all(|two| two[0] < two[1]), "{:?}", shown);
        let shown: BTreeSet<String> = shown.into_iter().collect();
        prop_assert!(stayed.is_subset(&shown), "{:?} are not all of {:?}", shown, stayed);
    }

    /// What a store gets that has no pages of its own.
    #[test]
    fn pages_cut_from_a_scan_are_those_of_a_store_that_has_them(
        numbers in prop::collection::btree_set(0..60u8, 0..40),
        limit in 1..7usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = MemoryBackend::new();
            let mut kept = BTreeMap::new();
            for number in numbers {
                write(&store, &mut kept, &path(number)).await;
            }
            let everything = Scope::everything();
            let mut after: Option<String> = None;
            loop {
                let of_store = store.page(Kind::Cluster, &everything, after.as_deref(), limit);
                let of_store = of_store.await.unwrap();
                let all = store.scan(Kind::Cluster, &everything).await.unwrap();
                assert_eq!(Page::cut(all, |it| &it.path, after.as_deref(), limit), of_store);
                after = of_store.next;
                if after.is_none() {
                    break;
                }
            }
        });
    }
}
