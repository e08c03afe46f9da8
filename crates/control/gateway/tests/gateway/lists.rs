//! What lists show to whom.

mod roles;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use identity::Role;
use serde_json::{Value, json};

use crate::common::{Answer, Client, GROUPS, SUBSCRIPTION, Server, cluster, group};

/// The api-version of clusters.
const CLUSTERS: &str = "2026-06-01";
/// The list of subscriptions.
const SUBSCRIPTIONS: &str = "/subscriptions?api-version=2022-12-01";

/// Groups and the clusters in them; some names begin with others.
const ALL: [(&str, &[&str]); 4] = [
    ("alpha", &["one", "two"]),
    ("alpha-1", &["one"]),
    ("beta", &["one", "one-1", "three"]),
    ("gamma", &[]),
];

fn group_scope(name: &str) -> String {
    format!("{SUBSCRIPTION}/resourceGroups/{name}")
}

fn all_clusters() -> impl Iterator<Item = String> {
    let of_group = |(group, names): &(&'static str, &'static [&'static str])| {
        let group = *group;
        names.iter().map(move |name| cluster(group, name))
    };
    ALL.iter().flat_map(of_group)
}

/// Makes them.
async fn make_all(server: &Server) {
    let owner = server.owner().await;
    for (name, clusters) in ALL {
        let made = server.put_group(name, &owner).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        for of in clusters {
            let url = cluster(name, of) + "?api-version=" + CLUSTERS;
            let pool = json!({"name": "nodepool1", "count": 1, "vmSize": "", "mode": "System"});
            let body = json!({
                "location": "southcentralus",
                "properties": {"agentPoolProfiles": [pool]},
            });
            let made = server.put(&url, &owner, &body).await;
            assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        }
    }
}

/// The pages of a list, as clients follow them.
async fn pages(client: &mut Client, url: &str, token: &str) -> Vec<Answer> {
    let mut pages = vec![client.send(Method::GET, url, Some(token), "").await];
    while let Some(next) = pages.last().and_then(|page| page.json["nextLink"].as_str()) {
        let (_, path) = next.split_once("/subscriptions").unwrap();
        let path = format!("/subscriptions{path}");
        pages.push(client.send(Method::GET, &path, Some(token), "").await);
    }
    pages
}

/// The ids on pages, in lower case.
fn ids(pages: &[Answer]) -> Vec<String> {
    let of_page = |page: &Answer| -> Vec<String> {
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        let value = page.json["value"].as_array().unwrap();
        let id = |it: &Value| it["id"].as_str().unwrap().to_ascii_lowercase();
        value.iter().map(id).collect()
    };
    pages.iter().flat_map(of_page).collect()
}

/// What is in `$skiptoken`.
fn token_of(page: &Answer) -> Option<String> {
    let link = page.json["nextLink"].as_str()?;
    let (_, token) = link.split_once("$skiptoken=").unwrap();
    let token = BASE64_URL_SAFE_NO_PAD.decode(token).unwrap();
    Some(String::from_utf8(token).unwrap())
}

fn list(path: &str, version: &str) -> String {
    format!("{SUBSCRIPTION}/{path}?api-version={version}")
}

fn clusters_in(group: &str) -> String {
    list(
        &format!("resourceGroups/{group}/providers/Microsoft.ContainerService/managedClusters"),
        CLUSTERS,
    )
}

fn clusters() -> String {
    list(
        "providers/Microsoft.ContainerService/managedClusters",
        CLUSTERS,
    )
}

#[tokio::test]
async fn who_has_a_role_on_a_part_is_listed_that_part_and_nothing_else() {
    let server = Server::start().await;
    make_all(&server).await;
    let in_group = server
        .token_of("in-group", Role::Contributor, &group_scope("alpha"))
        .await;
    let of_cluster = server
        .token_of("of-cluster", Role::Reader, &cluster("beta", "one"))
        .await;
    let alphas = ["one", "two"].map(|name| cluster("alpha", name).to_ascii_lowercase());
    let beta_one = [cluster("beta", "one").to_ascii_lowercase()];
    let groups = list("resourceGroups", GROUPS);
    let resources = list("resources", GROUPS);
    let mut client = server.client().await;

    let found = ids(&pages(&mut client, &groups, &in_group).await);
    assert_eq!(found, [group_scope("alpha").to_ascii_lowercase()]);
    for url in [&clusters(), &resources, &clusters_in("ALPHA")] {
        assert_eq!(ids(&pages(&mut client, url, &in_group).await), alphas);
    }
    // Who may see a cluster may not see the group that it is in, nor the other clusters there.
    let found = ids(&pages(&mut client, &groups, &of_cluster).await);
    assert!(found.is_empty(), "{found:?}");
    let in_beta = list("resourceGroups/beta/resources", GROUPS);
    for url in [&clusters(), &resources, &clusters_in("beta"), &in_beta] {
        assert_eq!(ids(&pages(&mut client, url, &of_cluster).await), beta_one);
    }
    let snapshots = list("providers/Microsoft.ContainerService/snapshots", CLUSTERS);
    for token in [&in_group, &of_cluster] {
        let found = ids(&pages(&mut client, SUBSCRIPTIONS, token).await);
        assert_eq!(found, [SUBSCRIPTION]);
        let found = ids(&pages(&mut client, &snapshots, token).await);
        assert!(found.is_empty());
    }
    // A filter chooses among these only.
    let chosen = format!("{resources}&$filter=name%20eq%20'one'");
    let found = ids(&pages(&mut client, &chosen, &in_group).await);
    assert_eq!(found, alphas[..1]);
    let elsewhere = format!("{resources}&$filter=resourceGroup%20eq%20'gamma'");
    assert!(ids(&pages(&mut client, &elsewhere, &in_group).await).is_empty());
}

#[tokio::test]
async fn who_has_a_role_in_another_subscription_only_is_listed_none() {
    let server = Server::start().await;
    make_all(&server).await;
    let other = "/subscriptions/11111111-2222-3333-4444-555555555555";
    let token = server.token_of("stranger", Role::Owner, other).await;
    let answer = server.get(SUBSCRIPTIONS, &token).await;
    assert_eq!(answer.json["value"], json!([]), "{answer:?}");
    for url in [list("resourceGroups", GROUPS), clusters()] {
        let answer = server.get(&url, &token).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    }
}

#[tokio::test]
async fn what_is_on_no_list_stays_refused_and_nothing_can_be_changed_at_a_list() {
    let server = Server::start().await;
    make_all(&server).await;
    let in_group = server
        .token_of("in-group", Role::Owner, &group_scope("alpha"))
        .await;
    let of_cluster = server
        .token_of("of-cluster", Role::Owner, &cluster("beta", "one"))
        .await;
    let other = |group: &str, name: &str| cluster(group, name) + "?api-version=" + CLUSTERS;
    let both = [
        (Method::GET, group("gamma")),
        (Method::GET, other("beta", "three")),
        (Method::GET, clusters_in("gamma")),
        (Method::GET, list("resourceGroups/gamma/resources", GROUPS)),
        // Whether there is such a group is not told.
        (Method::GET, clusters_in("nowhere")),
        (Method::DELETE, group("gamma")),
        (Method::PUT, other("beta", "three")),
        (Method::PUT, clusters()),
        (Method::POST, list("resourceGroups", GROUPS)),
        (Method::DELETE, list("resources", GROUPS)),
    ];
    let of_the_group = [
        (Method::GET, group("beta")),
        (Method::GET, other("beta", "one-1")),
        (
            Method::GET,
            list(
                "resourceGroups/beta/providers/Microsoft.Resources/deployments",
                GROUPS,
            ),
        ),
        (Method::PUT, clusters_in("beta")),
    ];
    let of_cluster_only = of_the_group.iter().map(|it| (&of_cluster, it));
    let asked = [&in_group, &of_cluster]
        .into_iter()
        .flat_map(|token| both.iter().map(move |it| (token, it)));
    for (token, (method, url)) in asked.chain(of_cluster_only) {
        let answer = server.send(method.clone(), url, Some(token), "{}").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {url}");
        assert_eq!(answer.code(), "AuthorizationFailed");
    }
}

/// A path of the description with names in it: those of a group and a cluster, and others.
fn named(path: &str, group: &str, cluster: &str) -> String {
    let names = [
        ("{subscription}", "00000000-0000-0000-0000-000000000000"),
        ("{group}", group),
        ("{cluster}", cluster),
        ("{location}", "southcentralus"),
        ("{namespace}", "Microsoft.ContainerService"),
        ("{operation}", "00000000-0000-0000-0000-000000000000"),
    ];
    let mut path = path.to_owned();
    for (parameter, name) in names {
        path = path.replace(parameter, name);
    }
    while let Some((start, (_, end))) = path
        .split_once('{')
        .and_then(|(start, rest)| Some((start, rest.split_once('}')?)))
    {
        path = format!("{start}nodepool1{end}");
    }
    path
}

/// Asks all that is described, so that nothing that is added is forgotten.
#[tokio::test]
async fn nothing_that_can_be_read_tells_of_what_may_not_be_seen() {
    let server = Server::start().await;
    make_all(&server).await;
    let owner = server.owner().await;
    let tokens = [
        server
            .token_of("in-group", Role::Reader, &group_scope("gamma"))
            .await,
        server
            .token_of("of-cluster", Role::Reader, &cluster("alpha", "two"))
            .await,
    ];
    let document = server.send(Method::GET, "/openapi.json", None, "").await;
    let paths = document.json["paths"].as_object().unwrap();
    let mut lists_of_the_owner = 0;
    for (path, item) in paths {
        if item.get("get").is_none() || path == "/openapi.json" {
            continue;
        }
        for (group, cluster) in [("gamma", "two"), ("alpha", "two")] {
            for version in [CLUSTERS, GROUPS, "2021-07-01", "2022-12-01"] {
                let url = format!("{}?api-version={version}", named(path, group, cluster));
                let seen = server.get(&url, &owner).await;
                lists_of_the_owner += usize::from(seen.text.contains("one-1"));
                for token in &tokens {
                    let answer = server.get(&url, token).await;
                    for hidden in ["one", "alpha-1", "beta", "three"] {
                        let quoted = format!("/{hidden}\"");
                        let is_told = answer.text.contains(&quoted)
                            || answer.text.contains(&format!("/{hidden}/"))
                            || answer.text.contains(&format!("\"{hidden}\""));
                        assert!(!is_told, "{url} tells of {hidden}: {answer:?}");
                    }
                }
            }
        }
    }
    // All groups' clusters are told to who may see them: had they been hidden from all, nothing would have been shown here.
    assert!(lists_of_the_owner > 0);
}
