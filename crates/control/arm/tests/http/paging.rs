//! Lists in pages.

use std::collections::BTreeSet;

use hyper::StatusCode;
use pool::{Change, Expected, Key as _, Kind, NodePool, Scope, Store as _};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{Answer, Api, SUBSCRIPTION, VERSION, agent_pool, cluster, group};

const GROUPS_VERSION: &str = "2024-11-01";

fn pools() -> String {
    format!("{}/agentPools", cluster())
}

fn names(page: &Answer) -> Vec<String> {
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    let values = page.json["value"].as_array().unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    values.iter().map(name).collect()
}

/// The pages of a list, as the SDKs follow them.
async fn pages(api: &Api, path: &str, version: &str) -> Vec<Answer> {
    let mut pages = vec![api.get(path, version).await];
    while let Some(next) = pages.last().unwrap().json["nextLink"].as_str() {
        let next = next.to_owned();
        pages.push(api.follow(&next).await);
    }
    pages
}

async fn make_groups(api: &Api, count: usize) {
    for number in 0..count {
        let path = format!("{SUBSCRIPTION}/resourcegroups/rg-{number:04}");
        let answer = api
            .put(
                &path,
                GROUPS_VERSION,
                &json!({"location": "southcentralus"}),
            )
            .await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    }
}

#[tokio::test]
async fn a_cluster_of_more_pools_than_a_page_has_is_listed_whole_by_following_links() {
    let api = Api::with_cluster().await;
    let stored = api.backend.list::<NodePool>(&Scope::everything()).await;
    let mut pool = stored.unwrap().remove(0).record;
    let mut changes = Vec::new();
    for number in 0..500 {
        pool.key.pool = format!("p{number}").parse().unwrap();
        changes.push(Change::create(&pool).unwrap());
    }
    api.backend.commit(changes).await.unwrap();

    let pages = pages(&api, &pools(), VERSION).await;
    let sizes: Vec<usize> = pages.iter().map(|page| names(page).len()).collect();
    assert_eq!(sizes, [200, 200, 101]);
    let all: Vec<String> = pages.iter().flat_map(names).collect();
    assert!(all.is_sorted());
    let next = pages[0].json["nextLink"].as_str().unwrap();
    assert!(
        next.starts_with("http://localhost:8443/subscriptions/"),
        "{next}"
    );
    assert!(next.contains(&format!("api-version={VERSION}")), "{next}");
    assert!(next.contains("$skiptoken="), "{next}");
    assert_eq!(pages[2].json.get("nextLink"), None);
}

#[tokio::test]
async fn groups_come_as_many_to_a_page_as_top_says() {
    let api = Api::new();
    make_groups(&api, 7).await;
    let path = format!("{SUBSCRIPTION}/resourcegroups");
    let list = format!("{path}?api-version={GROUPS_VERSION}&$top=3");
    let mut page = api.follow(&format!("http://localhost:8443{list}")).await;
    let mut sizes = vec![names(&page).len()];
    while let Some(next) = page.json["nextLink"].as_str() {
        let next = next.to_owned();
        page = api.follow(&next).await;
        sizes.push(names(&page).len());
    }
    assert_eq!(sizes, [3, 3, 1]);
    for top in ["0", "-1", "many"] {
        let list = format!("http://localhost:8443{path}?api-version={GROUPS_VERSION}&$top={top}");
        let answer = api.follow(&list).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        assert_eq!(answer.json["error"]["code"], "InvalidRequestUri");
    }
}

#[tokio::test]
async fn a_skiptoken_of_another_list_or_of_nobody_is_refused() {
    let api = Api::with_cluster().await;
    // "elsewhere/x" and no key at all.
    for token in ["ZWxzZXdoZXJlL3g", "%2A%2A", "_w"] {
        let url = format!(
            "http://localhost:8443{}?api-version={VERSION}&$skiptoken={token}",
            pools()
        );
        let answer = api.follow(&url).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        let message = answer.json["error"]["message"].as_str().unwrap();
        assert!(message.contains("$skiptoken"), "{message}");
    }
}

#[tokio::test]
async fn each_listed_cluster_has_its_own_pools_and_no_other() {
    let api = Api::with_cluster().await;
    // A name that another begins with, and one that sorts between a name and what is in it.
    let mut expected = BTreeSet::from([("myAKSCluster".to_owned(), "nodepool1".to_owned())]);
    for (cluster, pool) in [("c", "one"), ("c-1", "two"), ("c1", "three")] {
        let path = format!(
            "{}/providers/Microsoft.ContainerService/managedClusters/{cluster}",
            group()
        );
        let profile = json!({"name": pool, "count": 1, "vmSize": "", "mode": "System"});
        let body =
            json!({"location": "southcentralus", "properties": {"agentPoolProfiles": [profile]}});
        let answer = api.put(&path, VERSION, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        expected.insert((cluster.to_owned(), pool.to_owned()));
    }
    for path in [
        format!(
            "{}/providers/Microsoft.ContainerService/managedClusters",
            group()
        ),
        format!("{SUBSCRIPTION}/providers/Microsoft.ContainerService/managedClusters"),
    ] {
        let list = api.get(&path, VERSION).await;
        let mut found = BTreeSet::new();
        for cluster in list.json["value"].as_array().unwrap() {
            for pool in cluster["properties"]["agentPoolProfiles"]
                .as_array()
                .unwrap()
            {
                let text = |value: &Value| value["name"].as_str().unwrap().to_owned();
                found.insert((text(cluster), text(pool)));
            }
        }
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_page_of_clusters_ends_early_where_they_have_many_pools() {
    let api = Api::with_cluster().await;
    let clusters = api
        .backend
        .list::<pool::Cluster>(&Scope::everything())
        .await;
    let mut cluster = clusters.unwrap().remove(0).record;
    let pools = api.backend.list::<NodePool>(&Scope::everything()).await;
    let mut pool = pools.unwrap().remove(0).record;
    let mut changes = Vec::new();
    for number in 0..5 {
        cluster.key.cluster = format!("large{number}").parse().unwrap();
        changes.push(Change::create(&cluster).unwrap());
        pool.key.cluster = cluster.key.clone();
        for number in 0..150 {
            pool.key.pool = format!("p{number}").parse().unwrap();
            changes.push(Change::create(&pool).unwrap());
        }
    }
    api.backend.commit(changes).await.unwrap();
    let path = format!("{SUBSCRIPTION}/providers/Microsoft.ContainerService/managedClusters");
    let pages = pages(&api, &path, VERSION).await;
    let all: Vec<Vec<String>> = pages.iter().map(names).collect();
    assert_eq!(
        all,
        [
            vec!["large0", "large1"],
            vec!["large2", "large3"],
            vec!["large4", "myAKSCluster"]
        ]
    );
}

#[tokio::test]
async fn a_pool_that_cannot_be_read_is_left_out_and_named_and_the_others_are_listed() {
    let api = Api::with_pool().await;
    let stored = api.backend.list::<NodePool>(&Scope::everything()).await;
    let mignode = stored.unwrap().remove(0);
    let change = Change::Put {
        kind: Kind::NodePool,
        path: mignode.record.key.path(),
        expected: Expected::Revision(mignode.revision),
        body: json!({"from": "the future"}),
    };
    api.backend.commit(vec![change]).await.unwrap();

    let list = api.get(&pools(), VERSION).await;
    assert_eq!(names(&list), ["nodepool1"]);
    let warning = list.headers["x-ms-warning"].to_str().unwrap();
    assert!(warning.contains("mignode"), "{warning}");
    let shown = api.get(&agent_pool("mignode"), VERSION).await;
    assert_eq!(shown.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(shown.text.contains("mignode"), "{shown:?}");
    let cluster = api.get(&cluster(), VERSION).await;
    assert_eq!(cluster.status, StatusCode::OK);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Over HTTP, with the pages that `$top` asks for, and the ETags that each resource has by itself.
    #[test]
    fn no_group_that_stays_is_left_out_or_shown_twice_while_others_come_and_go(
        first in prop::collection::btree_set(0..30u8, 0..20),
        between in prop::collection::vec(prop::collection::vec((any::<bool>(), 0..30u8), 0..4), 0..8),
        top in 1..5usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (stayed, shown) = runtime.block_on(async {
            let api = Api::new();
            let path = |number: u8| format!("{SUBSCRIPTION}/resourcegroups/g{number}");
            let body = json!({"location": "southcentralus"});
            for number in &first {
                api.put(&path(*number), GROUPS_VERSION, &body).await;
            }
            let mut stayed = first;
            let mut shown = Vec::new();
            let list = format!("{SUBSCRIPTION}/resourcegroups");
            let mut next = Some(format!(
                "http://localhost:8443{list}?api-version={GROUPS_VERSION}&$top={top}"
            ));
            let mut between = between.into_iter();
            while let Some(url) = next {
                let page = api.follow(&url).await;
                shown.extend(names(&page));
                next = page.json["nextLink"].as_str().map(str::to_owned);
                for (is_made, number) in between.next().unwrap_or_default() {
                    if is_made {
                        api.put(&path(number), GROUPS_VERSION, &body).await;
                    } else {
                        stayed.remove(&number);
                        api.delete(&path(number), GROUPS_VERSION).await;
                        api.settle().await;
                    }
                }
            }
            (stayed, shown)
        });
        let once: BTreeSet<&String> = shown.iter().collect();
        prop_assert_eq!(once.len(), shown.len());
        for number in stayed {
            let name = format!("g{number}");
            prop_assert!(once.contains(&name), "{} is not in {:?}", name, shown);
        }
    }
}
