//! Bodies that nobody expects, over the real database: whatever is taken can be read back, listed and deleted.
#![allow(clippy::expect_used)]

#[path = "common/front.rs"]
mod front;
#[path = "common/kept.rs"]
mod kept;

use hyper::{Method, StatusCode};
use kept::{
    SUBSCRIPTION, World, a_cluster, a_deployment, a_group, a_pool, agent_pool, cluster, clusters,
    deployment, group,
};
use pool::{Kind, Scope, Store};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

/// What is sent, with a method, to one of the resources that [`World::peopled`] has, or to a deployment.
#[derive(Clone, Debug)]
struct Sent {
    target: Target,
    patches: bool,
    /// What is put into which object of a body that is taken.
    added: Vec<(Index, String, Value)>,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Group,
    Cluster,
    Pool,
    Deployment,
}

impl Target {
    fn url(self) -> String {
        match self {
            Self::Group => group(),
            Self::Cluster => cluster(),
            Self::Pool => agent_pool("one"),
            Self::Deployment => deployment("deployed"),
        }
    }

    fn body(self) -> Value {
        match self {
            Self::Group => a_group(),
            Self::Cluster => a_cluster(),
            Self::Pool => a_pool(),
            Self::Deployment => a_deployment("two"),
        }
    }
}

/// Names of fields that are read, or kept as they are, and some that mean nothing.
const FIELDS: &[&str] = &[
    "tags",
    "team",
    "location",
    "sku",
    "identity",
    "extendedLocation",
    "properties",
    "dnsPrefix",
    "networkProfile",
    "autoScalerProfile",
    "nodeLabels",
    "nodeTaints",
    "kubeletConfig",
    "linuxOSConfig",
    "upgradeSettings",
    "gpuProfile",
    "parameters",
    "variables",
    "metadata",
    "outputs",
    "whatever",
    "",
    "\u{0}",
    "\u{202e}\u{1f680}",
];

fn nested(levels: usize, is_array: bool, within: Value) -> Value {
    let wrapped = |inner: Value, _| {
        if is_array {
            json!([inner])
        } else {
            json!({"a": inner})
        }
    };
    (0..levels).fold(within, wrapped)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z\"\\\\\u{0}-\u{1f}]{0,12}".prop_map(Value::from),
    ];
    let flat = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((field(), inner), 0..4)
                .prop_map(|fields| fields.into_iter().collect::<Map<_, _>>().into()),
        ]
    });
    prop_oneof![
        2 => flat.clone(),
        // About as deep as what reads goes, and as the front takes.
        1 => (prop_oneof![20..90_usize, 118..128_usize], any::<bool>(), flat)
            .prop_map(|(levels, is_array, within)| nested(levels, is_array, within)),
    ]
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(FIELDS).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    use Target::{Cluster, Deployment, Group, Pool};
    let target = select(&[Group, Cluster, Pool, Deployment]);
    let added = vec((any::<Index>(), field(), value()), 1..3);
    let told = (target, prop::bool::weighted(0.1), added);
    told.prop_map(|(target, patches, added)| Sent {
        target,
        patches,
        added,
    })
}

/// The objects in a value, the whole among them.
fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
    if let Value::Object(fields) = value {
        found.push(at.to_owned());
        for (name, value) in fields {
            let name = name.replace('~', "~0").replace('/', "~1");
            objects(value, &format!("{at}/{name}"), found);
        }
    }
}

fn with_added(mut whole: Value, added: &[(Index, String, Value)]) -> Value {
    // Of the body as it was: what was added is not looked into.
    let mut places = Vec::new();
    objects(&whole, "", &mut places);
    for (index, name, value) in added {
        let place: &String = index.get(&places);
        if let Some(Value::Object(fields)) = whole.pointer_mut(place) {
            fields.insert(name.clone(), value.clone());
        }
    }
    whole
}

/// Every list, and what it shows by itself too. Nothing is left out.
async fn all_is_shown(world: &World) -> Result<(), TestCaseError> {
    let groups = format!("{SUBSCRIPTION}/resourcegroups");
    let pools = agent_pool("");
    let deployments = deployment("");
    let lists = [
        groups.as_str(),
        &clusters(),
        pools.trim_end_matches('/'),
        deployments.trim_end_matches('/'),
    ]
    .map(str::to_owned);
    for list in lists {
        let listed = world.get(&list).await;
        prop_assert_eq!(listed.status, StatusCode::OK, "{}: {:?}", list, listed);
        prop_assert_eq!(listed.warning(), "", "{}", list);
        let Some(shown) = listed.json["value"].as_array() else {
            return Err(TestCaseError::fail(format!(
                "{list} can't be read: {listed:?}"
            )));
        };
        for one in shown {
            let id = one["id"].as_str().unwrap_or_default();
            let shown = world.get(id).await;
            prop_assert_eq!(shown.status, StatusCode::OK, "{}: {:?}", id, shown);
            prop_assert_eq!(&shown.json["id"], id);
        }
    }
    Ok(())
}

async fn survives(all: &[Sent]) -> Result<(), TestCaseError> {
    let world = World::peopled().await;
    for sent in all {
        let url = sent.target.url();
        let body = with_added(sent.target.body(), &sent.added).to_string();
        let method = match sent.target {
            Target::Group | Target::Cluster if sent.patches => Method::PATCH,
            _ => Method::PUT,
        };
        let answer = world.send(method, &url, body.into()).await;
        prop_assert!(answer.status.as_u16() < 500, "{}: {:?}", url, answer);
        world.settle().await;
        all_is_shown(&world).await?;
    }
    for target in [Target::Deployment, Target::Pool] {
        let answer = world.delete(&target.url()).await;
        let is_taken = answer.status.is_success() || answer.status == StatusCode::NOT_FOUND;
        prop_assert!(is_taken, "{}: {:?}", target.url(), answer);
    }
    let answer = world.delete(&group()).await;
    prop_assert_eq!(answer.status, StatusCode::ACCEPTED, "{:?}", answer);
    world.settle().await;
    for kind in [Kind::Group, Kind::Cluster, Kind::NodePool, Kind::Deployment] {
        let left = world.backend.store.scan(kind, &Scope::everything()).await;
        prop_assert_eq!(left, Ok(Vec::new()));
    }
    prop_assert!(world.backend.nodes.node_names().is_empty());
    Ok(())
}

/// Fields of which whatever is sent is kept.
const KEPT: [&str; 3] = ["networkProfile", "kubeletConfig", "identity"];

#[tokio::test]
async fn a_body_is_refused_or_can_be_read_back_however_deep_it_is() {
    let world = World::peopled().await;
    let targets = [
        Target::Group,
        Target::Cluster,
        Target::Pool,
        Target::Deployment,
    ];
    let mut taken = 0;
    for levels in (50..=66).step_by(2).chain(114..=128) {
        for target in targets {
            let mut places = Vec::new();
            objects(&target.body(), "", &mut places);
            for (place, field) in places
                .iter()
                .flat_map(|place| KEPT.map(|field| (place, field)))
            {
                let mut body = target.body();
                let object = body.pointer_mut(place).expect("there");
                object[field] = nested(levels, false, json!("a"));
                let answer = world.put(&target.url(), &body).await;
                assert!(answer.status.as_u16() < 500, "{answer:?}");
                taken += usize::from(answer.status.is_success());
            }
        }
        world.settle().await;
        let shown = all_is_shown(&world).await;
        assert!(shown.is_ok(), "{levels} levels: {shown:?}");
    }
    assert!(taken > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_is_taken_can_be_read_back_listed_and_deleted(all in vec(sent(), 1..4)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(survives(&all))?;
    }
}
