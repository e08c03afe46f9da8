//! Whatever roles somebody has, a list shows what it may read one by one.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use identity::{Role, RoleScope};
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::{Config, TestRunner};

use super::{
    ALL, CLUSTERS, all_clusters, clusters, clusters_in, group_scope, ids, list, make_all, pages,
    token_of,
};
use crate::common::{Answer, Client, GROUPS, SUBSCRIPTION, Server};

/// What a principal is given in one case, and how many it asks for at a time.
fn cases() -> impl Strategy<Value = (Vec<(Role, String)>, usize)> {
    let groups = ALL.iter().map(|(name, _)| group_scope(name));
    let scopes: Vec<String> = groups.chain(all_clusters()).collect();
    let most = scopes.len();
    let role = prop::sample::select(Role::ALL.to_vec());
    let roles = subsequence(scopes, 0..most).prop_flat_map(move |scopes| {
        let roles = prop::collection::vec(role.clone(), scopes.len());
        roles.prop_map(move |roles| roles.into_iter().zip(scopes.clone()).collect::<Vec<_>>())
    });
    let whole = (Role::Reader, SUBSCRIPTION.to_owned());
    let with_whole = prop_oneof![9 => Just(None), 1 => Just(Some(whole))];
    let roles = (roles, with_whole).prop_map(|(mut roles, whole)| {
        roles.extend(whole);
        roles
    });
    (roles, 1..4usize)
}

/// Those of `all` that a principal may read one by one.
async fn readable(
    client: &mut Client,
    token: &str,
    all: &[String],
    version: &str,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in all {
        let url = format!("{path}?api-version={version}");
        let answer = client.send(Method::GET, &url, Some(token), "").await;
        match answer.status {
            StatusCode::OK => {
                found.insert(path.to_ascii_lowercase());
            }
            status => assert_eq!(status, StatusCode::FORBIDDEN, "{answer:?}"),
        }
    }
    found
}

/// Whether the pages of a list show just this, and their links tell of nothing else.
fn check(pages: &[Answer], expected: &BTreeSet<String>, top: Option<usize>) {
    let found = ids(pages);
    let once: BTreeSet<String> = found.iter().cloned().collect();
    assert_eq!(once.len(), found.len(), "{found:?}");
    assert_eq!(&once, expected);
    for (number, page) in pages.iter().enumerate() {
        let on_page = ids(std::slice::from_ref(page));
        match token_of(page) {
            // Its key is what the page ends with.
            Some(key) => {
                assert_eq!(Some(on_page.len()), top);
                let last = on_page.last().unwrap();
                let names = |path: &str| path.rsplit('/').next().unwrap().to_owned();
                assert_eq!(names(&key), names(last));
                assert!(key.starts_with("00000000-0000-0000-0000-000000000000/"));
            }
            None => assert_eq!(number + 1, pages.len()),
        }
        assert!(number == 0 || !on_page.is_empty(), "{pages:?}");
    }
}

#[test]
fn a_list_shows_just_what_may_be_read_by_itself_whatever_roles_somebody_has() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, token, id) = runtime.block_on(async {
        let server = Server::start().await;
        make_all(&server).await;
        // A role that shows nothing here, so that there is a principal.
        let elsewhere = "/subscriptions/11111111-2222-3333-4444-555555555555";
        let token = server.token_of("somebody", Role::Reader, elsewhere).await;
        let principal = server.identity.verify(&token).await.unwrap();
        (server, token, principal.id)
    });
    let groups: Vec<String> = ALL.iter().map(|(name, _)| group_scope(name)).collect();
    let clusters_of = |group: &str| -> Vec<String> {
        let prefix = format!("{}/", group_scope(group));
        all_clusters()
            .filter(|path| path.starts_with(&prefix))
            .collect()
    };
    let one_case = async |roles: &[(Role, String)], top: usize| {
        let given = roles
            .iter()
            .map(|(role, scope)| (*role, scope.parse::<RoleScope>().unwrap()));
        let given: Vec<_> = given.collect();
        for (role, scope) in &given {
            let assigned = server.identity.assign(id, *role, scope.clone());
            assigned.await.unwrap();
        }
        let mut client = server.client().await;
        let all: Vec<String> = all_clusters().collect();
        let may_see_groups = readable(&mut client, &token, &groups, GROUPS).await;
        let may_see_clusters = readable(&mut client, &token, &all, CLUSTERS).await;

        let mut lists = vec![
            (list("resourceGroups", GROUPS), &may_see_groups, Some(top)),
            (list("resources", GROUPS), &may_see_clusters, Some(top)),
            (clusters(), &may_see_clusters, None),
        ];
        let mut in_groups = Vec::new();
        for (name, _) in ALL {
            let of = clusters_of(name);
            let seen = readable(&mut client, &token, &of, CLUSTERS).await;
            in_groups.push((name, seen));
        }
        for (name, seen) in &in_groups {
            let resources = format!("resourceGroups/{name}/resources");
            lists.push((list(&resources, GROUPS), seen, Some(top)));
            lists.push((clusters_in(name), seen, None));
        }
        for (url, expected, top) in lists {
            let url = match top {
                Some(top) => format!("{url}&$top={top}"),
                None => url,
            };
            let pages = pages(&mut client, &url, &token).await;
            if pages[0].status == StatusCode::FORBIDDEN {
                assert!(expected.is_empty(), "{url}");
            } else {
                check(&pages, expected, top);
            }
        }
        for (role, scope) in &given {
            server.identity.unassign(id, *role, scope).await.unwrap();
        }
    };
    let mut runner = TestRunner::new(Config {
        cases: 32,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&cases(), |(roles, top)| {
            runtime.block_on(one_case(&roles, top));
            Ok(())
        })
        .unwrap();
}
