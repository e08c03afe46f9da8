//! Holds the answers of all these tests against the OpenAPI document: their statuses, their media types and their bodies.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use axum::http::{HeaderMap, Method, StatusCode};
use jsonschema::Validator;
use migpool_arm as arm;
use pool::memory::MemoryBackend;
use serde_json::{Map, Value, json};

/// The document.
pub(crate) static DOCUMENT: LazyLock<Value> = LazyLock::new(arm::openapi::<MemoryBackend>);

/// What an answer was given to.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
}

/// The path of the document that a request's path is one of: the one with the most words.
pub(crate) fn template(path: &str) -> Option<&'static str> {
    let segments: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let fits = |template: &&&'static str| {
        let words: Vec<&str> = template.split('/').collect();
        words.len() == segments.len()
            && words
                .iter()
                .zip(&segments)
                .all(|(word, segment)| word.starts_with('{') || word.eq_ignore_ascii_case(segment))
    };
    let paths: Vec<&'static str> = paths().keys().map(String::as_str).collect();
    let found = paths.iter().filter(fits);
    found.min_by_key(|path| path.matches('{').count()).copied()
}

pub(crate) fn paths() -> &'static Map<String, Value> {
    DOCUMENT["paths"].as_object().unwrap()
}

/// Something of the document, or what it refers to.
pub(crate) fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => DOCUMENT
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{reference} leads nowhere")),
        None => value,
    }
}

/// Whether a value is as a schema of the document says, and if not why.
pub(crate) fn conforms(schema: &Value, value: &Value) -> Result<(), String> {
    static VALIDATORS: Mutex<BTreeMap<String, Arc<Validator>>> = Mutex::new(BTreeMap::new());
    let mut validators = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    let validator = validators.entry(schema.to_string()).or_insert_with(|| {
        let whole = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "allOf": [schema],
            "components": { "schemas": DOCUMENT["components"]["schemas"] },
        });
        let options = jsonschema::options().should_validate_formats(true);
        Arc::new(options.build(&whole).unwrap())
    });
    let validator = Arc::clone(validator);
    drop(validators);
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path))
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors.join("; "))
    }
}

/// Holds an answer against the document.
pub(crate) fn check(asked: &Asked, status: StatusCode, headers: &HeaderMap, text: &str) {
    let Asked { method, path } = asked;
    let what = format!("{method} {path}: {status} {text}");
    let item = template(path).map(|path| &paths()[path]);
    let described = |name: &str| item.and_then(|item| item.get(name));
    let operation = match described(&method.as_str().to_ascii_lowercase()) {
        None if method == Method::HEAD => described("get"),
        found => found,
    };
    let Some(operation) = operation else {
        assert!(
            [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status),
            "the document does not know this: {what}"
        );
        return;
    };
    let answer = operation["responses"].get(status.as_str());
    let answer =
        resolved(answer.unwrap_or_else(|| panic!("the document has no such status: {what}")));
    if method == Method::HEAD {
        return;
    }
    let Some(content) = answer.get("content") else {
        assert!(text.is_empty(), "the document has no body here: {what}");
        return;
    };
    let (media_type, content) = content.as_object().unwrap().iter().next().unwrap();
    let is = headers["content-type"].to_str().unwrap();
    assert!(is.starts_with(media_type.as_str()), "{is}: {what}");
    if media_type == "application/json" {
        let body = serde_json::from_str(text).unwrap();
        if let Err(error) = conforms(&content["schema"], &body) {
            panic!("{error}: {what}");
        }
    }
}
