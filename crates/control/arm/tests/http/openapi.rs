//! The OpenAPI document: it is whole, and it is what is served.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use pool::{ClusterName, DeploymentName, GroupName, NodeName, PodName, PoolName, SubscriptionId};
use proptest::prelude::*;
use serde_json::Value;

use crate::common::{Api, SUBSCRIPTION};
use crate::conformance::{DOCUMENT, conforms, paths, resolved};

const METHODS: [&str; 6] = ["get", "head", "put", "patch", "post", "delete"];

/// Each operation with its path and method.
pub(crate) fn operations() -> impl Iterator<Item = (&'static str, Method, &'static Value)> {
    paths().iter().flat_map(|(path, item)| {
        let operations = METHODS
            .into_iter()
            .filter_map(|method| Some((method, item.get(method)?)));
        operations.map(move |(method, operation)| {
            let method = method.to_ascii_uppercase().parse().unwrap();
            (path.as_str(), method, operation)
        })
    })
}

/// A path with a name for each of its parameters, and an api-version if the operation wants one.
pub(crate) fn filled(
    path: &str,
    operation: &'static Value,
    names: &BTreeMap<&str, &str>,
) -> String {
    let segment = |segment: &str| {
        let parameter = segment
            .strip_prefix('{')
            .and_then(|it| it.strip_suffix('}'));
        parameter.map_or(segment.to_owned(), |name| names[name].to_owned())
    };
    let segments: Vec<String> = path.split('/').map(segment).collect();
    let mut uri = segments.join("/");
    let parameters = operation["parameters"].as_array().unwrap().iter();
    let version = parameters
        .map(resolved)
        .find(|parameter| parameter["name"] == "api-version");
    if let Some(version) = version {
        write!(uri, "?api-version={}", version["example"].as_str().unwrap()).unwrap();
    }
    uri
}

/// A name for every parameter of the document's paths. Of what can be there, these are not.
pub(crate) fn strange_names() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("subscription", "00000000-0000-0000-0000-000000000000"),
        ("group", "strange"),
        ("cluster", "strange"),
        ("pool", "strange"),
        ("deployment", "strange"),
        ("pod", "strange"),
        ("node", "strange"),
        ("operation", "00000000-0000-0000-0000-000000000001"),
        ("location", "southcentralus"),
        ("namespace", "Microsoft.ContainerService"),
        ("feature", "ManagedGPUExperiencePreview"),
        ("snapshot", "strange"),
        ("role", "clusterUser"),
    ])
}

#[test]
fn the_copy_in_docs_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/openapi.json");
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    let text = format!("{}\n", serde_json::to_string_pretty(&*DOCUMENT).unwrap());
    assert!(
        kept == text,
        "docs/openapi.json is not current: cargo run --package migpool-arm --example generate"
    );
}

#[test]
fn all_references_lead_somewhere_and_every_operation_has_an_id_of_its_own() {
    fn follow(value: &'static Value, found: &mut BTreeSet<&'static str>) {
        resolved(value);
        found.extend(value["$ref"].as_str());
        match value {
            Value::Object(fields) => fields.values().for_each(|value| follow(value, found)),
            Value::Array(items) => items.iter().for_each(|value| follow(value, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    follow(&DOCUMENT, &mut found);
    let components = DOCUMENT["components"].as_object().unwrap();
    for (kind, all) in components
        .iter()
        .filter(|(kind, _)| *kind != "securitySchemes")
    {
        for name in all.as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(found.contains(&*reference), "nothing refers to {reference}");
        }
    }
    let schemas = components["schemas"].as_object().unwrap();
    for name in schemas.keys() {
        let is_one = name.chars().all(|c| c.is_ascii_alphabetic());
        assert!(is_one, "{name} is no name that a person would give");
    }
    assert!(schemas.contains_key("AgentPoolList"));
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations() {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{method} {path}: there are two {id}");
    }
}

#[test]
fn every_body_that_is_read_is_described() {
    for (path, method, operation) in operations() {
        if let Some(body) = operation.get("requestBody") {
            let schema = &body["content"]["application/json"]["schema"];
            assert!(schema["$ref"].is_string(), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn every_operation_of_the_document_is_served() {
    let api = Api::with_pool().await;
    for (path, method, operation) in operations() {
        let uri = filled(path, operation, &strange_names());
        let answer = api.send(method.clone(), &uri, &[], Body::empty()).await;
        let code = answer.header("x-ms-error-code").unwrap_or_default();
        for fallback in [
            "InvalidResourceType",
            "HttpMethodNotAllowed",
            "MissingApiVersionParameter",
            "InvalidApiVersionParameter",
            "NoRegisteredProviderFound",
        ] {
            assert_ne!(code, fallback, "{method} {uri}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn the_document_is_served_to_whoever_asks() {
    let api = Api::new();
    for path in ["/openapi.json", "/OpenAPI.json"] {
        let answer = api.send(Method::GET, path, &[], Body::empty()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.json, *DOCUMENT);
    }
}

#[tokio::test]
async fn the_api_versions_of_the_document_are_those_that_are_taken() {
    let api = Api::new();
    for (path, parameter) in [
        (
            "/providers/Microsoft.ContainerService/managedClusters",
            "ContainerService",
        ),
        ("/resourceGroups", "Resources"),
        ("/locations", "Subscriptions"),
        ("/providers/Microsoft.Features/features", "Features"),
        ("/providers/Microsoft.Compute/skus", "Compute"),
    ] {
        let parameter = &DOCUMENT["components"]["parameters"][format!("apiVersionOf{parameter}")];
        assert!(parameter.is_object(), "{path}");
        for version in versions() {
            let answer = api.get(&format!("{SUBSCRIPTION}{path}"), &version).await;
            let is_documented = conforms(&parameter["schema"], &version.clone().into()).is_ok();
            assert_eq!(
                answer.status == StatusCode::OK,
                is_documented,
                "{path} {version}: {}",
                answer.text
            );
        }
    }
}

/// Whatever could be a version.
fn versions() -> impl Iterator<Item = String> {
    let days = |year, month| {
        [1, 2, 3, 4, 5, 7, 10, 15, 31]
            .into_iter()
            .map(move |day| format!("{year}-{month:02}-{day:02}"))
    };
    (2014..=2027)
        .flat_map(|year| (0..=13).map(move |month| (year, month)))
        .flat_map(move |(year, month)| days(year, month))
        .flat_map(|day| [format!("{day}-preview"), day])
}

proptest! {
    #[test]
    fn the_patterns_of_the_document_are_the_rules_of_names(
        text in "[-a-zA-Z0-9_.()]{0,14}|[a-z0-9.-]{1,9}|[a-z]{60,95}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    ) {
        fn rule<T: std::str::FromStr>(text: &str) -> bool {
            text.parse::<T>().is_ok()
        }
        let names = [
            ("subscription", rule::<SubscriptionId> as fn(&str) -> bool),
            ("group", rule::<GroupName>),
            ("cluster", rule::<ClusterName>),
            ("pool", rule::<PoolName>),
            ("deployment", rule::<DeploymentName>),
            ("pod", rule::<PodName>),
            ("node", rule::<NodeName>),
        ];
        for (name, rule) in names {
            let parameter = &DOCUMENT["components"]["parameters"][name];
            let fits = conforms(&parameter["schema"], &text.clone().into()).is_ok();
            prop_assert_eq!(fits, rule(&text), "{} {}", name, text);
        }
    }
}
