//! Bodies that nobody expects, for everything that has a body: nothing breaks, and what is refused has changed nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use axum::http::{Method, StatusCode};
use pool::RawRecord;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

use crate::common::{
    Answer, Api, agent_pool, cluster, group, the_articles_cluster, the_articles_pool,
};
use crate::conformance::DOCUMENT;
use crate::openapi::{filled, operations, strange_names};

/// A request with a body.
#[derive(Clone, Debug)]
struct Sent {
    operation: Index,
    /// Whether it is about what is there.
    is_known: bool,
    is_old: bool,
    body: Shape,
    damage: Damage,
}

/// What a body is before it is damaged.
#[derive(Clone, Debug)]
enum Shape {
    Anything(Value),
    /// One that the server takes, with some values changed.
    Changed(Index, Vec<(Index, Mutation)>),
    /// What the server itself says of the resource, with some values changed.
    Shown(Vec<(Index, Mutation)>),
}

#[derive(Clone, Debug)]
enum Mutation {
    Replace(Value),
    Remove,
    /// The name of a field in another case, beside the first.
    Double,
    Add(String, Value),
}

/// What is done to the text of a body.
#[derive(Clone, Debug)]
enum Damage {
    None,
    Cut(Index),
    Insert(Index, &'static [u8]),
    Nest(usize),
}

/// All names of fields that the document has.
static FIELDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    fn collect(schema: &Value, names: &mut BTreeSet<String>) {
        match schema {
            Value::Object(fields) => {
                if let Some(Value::Object(properties)) = fields.get("properties") {
                    names.extend(properties.keys().cloned());
                }
                fields.values().for_each(|value| collect(value, names));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, names)),
            _ => {}
        }
    }
    let mut names = BTreeSet::new();
    collect(&DOCUMENT["components"]["schemas"], &mut names);
    names.into_iter().collect()
});

/// Words that mean something somewhere.
const WORDS: &[&str] = &[
    "",
    "System",
    "user",
    "MIG1g",
    "mig7G",
    "MIG5g",
    "Single",
    "Mixed",
    "None",
    "Running",
    "stopped",
    "Standard_ND96asr_v4",
    "standard_nc24ads_a100_v4",
    "1g.5gb",
    "3g.20gb",
    "all=1g.5gb*7",
    "sku=gpu:NoSchedule",
    "nodepool1",
    "mignode",
    "southcentralus",
    "Spot",
    "Delete",
    "Windows",
    "1.33.1",
    "[parameters('x')]",
    "[concat(",
    "[resourceId('a')]",
    "$schema",
    "Incremental",
    "\u{0}",
    "é\u{301}",
    "\u{202e}\u{1f680}",
    "a/b",
    "../..",
    "%2e%2e",
    "\"",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-2_i64..1100).prop_map(Value::from),
        select(WORDS).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[a-z]{200,300}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((field(), inner), 0..6)
                .prop_map(|fields| fields.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(FIELDS.as_slice()),
        1 => ".{0,8}",
    ]
}

fn mutations() -> impl Strategy<Value = Vec<(Index, Mutation)>> {
    let mutation = prop_oneof![
        4 => value().prop_map(Mutation::Replace),
        2 => Just(Mutation::Remove),
        1 => Just(Mutation::Double),
        3 => (field(), value()).prop_map(|(name, value)| Mutation::Add(name, value)),
    ];
    vec((any::<Index>(), mutation), 0..4)
}

fn damage() -> impl Strategy<Value = Damage> {
    let inserted: &[&[u8]] = &[
        b"\xff",
        b"\xed\xa0\x80",
        b"\0",
        b"1e400",
        b"-",
        b"99999999999999999999999999",
        b"\"\\ud800\"",
        b"{",
        b"}",
        b"[",
        b",",
        b"/* */",
        b"// x\n",
        b"'",
        b"\xef\xbb\xbf",
        b"\"properties\":{},",
        b"\"location\":\"westus\",",
    ];
    prop_oneof![
        8 => Just(Damage::None),
        1 => any::<Index>().prop_map(Damage::Cut),
        3 => (any::<Index>(), select(inserted)).prop_map(|(at, what)| Damage::Insert(at, what)),
        1 => prop_oneof![100_usize..200, Just(100_000)].prop_map(Damage::Nest),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let shape = prop_oneof![
        1 => value().prop_map(Shape::Anything),
        4 => (any::<Index>(), mutations()).prop_map(|(which, how)| Shape::Changed(which, how)),
        4 => mutations().prop_map(Shape::Shown),
    ];
    let told = (
        any::<Index>(),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.2),
        shape,
        damage(),
    );
    told.prop_map(|(operation, is_known, is_old, body, damage)| Sent {
        operation,
        is_known,
        is_old,
        body,
        damage,
    })
}

/// Bodies that some operation takes.
fn taken() -> Vec<Value> {
    let mut whole = the_articles_cluster();
    whole["properties"]["agentPoolProfiles"][0]["vmSize"] = "Standard_ND96asr_v4".into();
    vec![
        the_articles_pool(),
        the_articles_cluster(),
        whole,
        json!({"location": "southcentralus", "tags": {"team": "vision"}}),
        json!({"tags": {"team": "vision"}}),
        json!({"machineNames": ["aks-mignode-00000000-vmss000000"]}),
        json!({"manifest": "{\"kind\": \"Pod\"}"}),
        json!({"properties": {
            "count": 2, "mode": "User", "nodeLabels": {"a": "b"}, "nodeTaints": ["sku=gpu:NoSchedule"], "minCount": 1, "maxCount": 3,
            "enableAutoScaling": true, "gpuProfile": {"driver": "Install", "nvidia": {"migStrategy": "Mixed", "migProfiles": ["3g.20gb"]}},
        }}),
        json!({"properties": {"mode": "Incremental", "parameters": {"name": {"value": "deployed"}}, "template": {
            "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            "contentVersion": "1.0.0.0",
            "parameters": {"name": {"type": "string"}},
            "variables": {"size": "Standard_ND96asr_v4"},
            "resources": [{
                "type": "Microsoft.ContainerService/managedClusters/agentPools", "apiVersion": "2024-09-01",
                "name": "[concat('myAKSCluster/', parameters('name'))]",
                "properties": {"count": 1, "vmSize": "[variables('size')]", "gpuInstanceProfile": "MIG1g"},
            }],
            "outputs": {"id": {"type": "string", "value": "[resourceGroup().id]"}},
        }}}),
    ]
}

/// The values in a value, the whole among them, in a fixed order.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(value, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (place, value) in items.iter().enumerate() {
                pointers(value, &format!("{at}/{place}"), found);
            }
        }
        _ => {}
    }
}

fn mutated(mut whole: Value, mutations: &[(Index, Mutation)]) -> Value {
    for (index, mutation) in mutations {
        let mut all = Vec::new();
        pointers(&whole, "", &mut all);
        let pointer = index.get(&all).clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
        let name = name.replace("~1", "/").replace("~0", "~");
        match mutation {
            Mutation::Replace(value) => {
                if let Some(place) = whole.pointer_mut(&pointer) {
                    *place = value.clone();
                }
            }
            Mutation::Remove => {
                if let Some(Value::Object(fields)) = whole.pointer_mut(parent) {
                    fields.remove(&name);
                }
            }
            Mutation::Double => {
                if let Some(Value::Object(fields)) = whole.pointer_mut(parent) {
                    fields.insert(name.to_ascii_uppercase(), json!("again"));
                }
            }
            Mutation::Add(name, value) => {
                if let Some(Value::Object(fields)) = whole.pointer_mut(&pointer) {
                    fields.insert(name.clone(), value.clone());
                }
            }
        }
    }
    whole
}

fn damaged(text: String, damage: &Damage) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    match damage {
        Damage::None => {}
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len().max(1))),
        Damage::Insert(at, what) => {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, what.iter().copied());
        }
        Damage::Nest(depth) => {
            bytes = [
                &b"{\"properties\":{\"mode\":\"Incremental\",\"template\":{},\"tags\":"[..],
                "[".repeat(*depth).as_bytes(),
                "]".repeat(*depth).as_bytes(),
                &b"}}"[..],
            ]
            .concat();
        }
    }
    bytes
}

/// All that is kept.
async fn kept(api: &Api) -> Vec<String> {
    let records = api.records().await;
    let told = |record: &RawRecord| format!("{} {record:?}", record.kind);
    records.iter().map(told).collect()
}

/// An error is in one of ARM's shapes, and says something.
fn is_in_arms_shape(answer: &Answer) -> Result<(), TestCaseError> {
    let keys = |value: &Value| -> BTreeSet<String> {
        let fields = value.as_object().into_iter().flatten();
        fields.map(|(name, _)| name.clone()).collect()
    };
    let is_only = |value: &Value, needed: &[&str], possible: &[&str]| {
        let there = keys(value);
        let known = |name: &String| needed.contains(&&**name) || possible.contains(&&**name);
        needed.iter().all(|name| there.contains(*name)) && there.iter().all(known)
    };
    let gateway = is_only(&answer.json, &["error"], &[])
        && is_only(
            &answer.json["error"],
            &["code", "message"],
            &["target", "details"],
        );
    let provider = is_only(
        &answer.json,
        &["code", "message", "details", "subcode"],
        &["target"],
    );
    prop_assert!(gateway || provider, "{:?}", answer);
    prop_assert!(answer.code().chars().all(|c| c.is_ascii_alphanumeric()));
    prop_assert!(!answer.message().is_empty());
    prop_assert_eq!(answer.header("x-ms-error-code"), Some(answer.code()));
    Ok(())
}

async fn send(api: &Api, sent: &Sent) -> Result<(), TestCaseError> {
    let changing: Vec<_> = operations()
        .filter(|(_, method, _)| [Method::PUT, Method::PATCH, Method::POST].contains(method))
        .collect();
    let (path, method, operation) = sent.operation.get(&changing);
    let node = api.backend.node_names().first().map(ToString::to_string);
    let mut names = strange_names();
    if sent.is_known {
        let node = node.as_deref().unwrap_or("aks-node");
        names.extend(BTreeMap::from([
            ("group", "myResourceGroup"),
            ("cluster", "myAKSCluster"),
            ("pool", "mignode"),
            ("node", node),
        ]));
    }
    let mut uri = filled(path, operation, &names);
    if sent.is_old {
        uri = uri.replace("2026-08-01", "2020-11-01");
    }
    let body = match &sent.body {
        Shape::Anything(value) => value.clone(),
        Shape::Changed(which, how) => mutated(which.get(&taken()).clone(), how),
        Shape::Shown(how) => {
            let shown = api.send(Method::GET, &uri, &[], "").await;
            mutated(shown.json, how)
        }
    };
    let before = kept(api).await;
    let bytes = damaged(body.to_string(), &sent.damage);
    let answer = api.send(method.clone(), &uri, &[], bytes).await;
    prop_assert!(
        answer.status.as_u16() < 500,
        "{} {}: {:?}",
        method,
        uri,
        answer
    );
    if answer.status.is_client_error() {
        is_in_arms_shape(&answer)?;
        let after = kept(api).await;
        prop_assert_eq!(
            before,
            after,
            "{} {} was refused: {:?}",
            method,
            uri,
            answer
        );
    } else {
        // What is taken can be worked with.
        api.settle().await;
        for path in [group(), cluster(), agent_pool("mignode")] {
            let version = if path == group() {
                "2024-11-01"
            } else {
                "2026-06-01"
            };
            let shown = api.get(&path, version).await;
            prop_assert_eq!(shown.status, StatusCode::OK, "{}: {:?}", path, shown);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_body_breaks_anything_and_what_is_refused_changes_nothing(all in vec(sent(), 1..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let api = Api::with_pool().await;
            for sent in &all {
                send(&api, sent).await?;
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}
