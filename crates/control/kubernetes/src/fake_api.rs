//! An API server for tests, as far as it goes without watches: resource versions, generations, conflicts, finalizers, lists,
//! and merges of lists by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::client::Program;
use crate::metrics::Metrics;

/// The server. It ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<Objects>>,
    uri: Uri,
}

#[derive(Default)]
struct Objects {
    by_path: BTreeMap<String, Value>,
    version: u64,
    requests: Vec<String>,
    /// What the clients of all requests called themselves.
    programs: Vec<String>,
    away: bool,
    forbidden: Option<&'static str>,
    /// Writes of what is refused: by their paths, with which code and word.
    refused: Option<(&'static str, u16, &'static str)>,
    /// How many more writes are answered until nothing is.
    writes_left: Option<usize>,
    /// How many writes there were.
    writes: usize,
    /// The token that every `ServiceAccount` is given.
    token: Option<&'static str>,
}

impl FakeApi {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<Objects>>::default();
        let router = Router::new().fallback(handle).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            state,
            uri: format!("http://{address}").parse().unwrap(),
        }
    }

    pub(crate) fn client(&self) -> kube::Client {
        let config = kube::Config::new(self.uri.clone());
        crate::client::client(config, Program::Front, Metrics::new()).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.with(|state| state.by_path.get(path).cloned())
    }

    /// Puts an object there, past all rules; `null` deletes it.
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.with(|state| {
            if object.is_null() {
                state.by_path.remove(path);
            } else {
                state.store(path.to_owned(), object);
            }
        });
    }

    /// The requests since the last call: `GET /api/v1/nodes/a`.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.with(|state| std::mem::take(&mut state.requests))
    }

    /// What the clients of all requests called themselves.
    pub(crate) fn programs(&self) -> Vec<String> {
        self.with(|state| state.programs.clone())
    }

    /// Answers nothing but 503 from now on, or does again.
    pub(crate) fn set_away(&self, away: bool) {
        self.with(|state| state.away = away);
    }

    /// Refuses all paths with this in it.
    pub(crate) fn forbid(&self, part: Option<&'static str>) {
        self.with(|state| state.forbidden = part);
    }

    /// Refuses writes to all paths with this in it, with a code and a word; or does not any more.
    pub(crate) fn refuse(&self, what: Option<(&'static str, u16, &'static str)>) {
        self.with(|state| state.refused = what);
    }

    /// Gives everybody this token.
    pub(crate) fn answer_tokens(&self, token: &'static str) {
        self.with(|state| state.token = Some(token));
    }

    /// Makes so many more writes, and then answers nothing but 503, as if whoever asks had been killed; `None`: answers all.
    pub(crate) fn die_after(&self, writes: Option<usize>) {
        self.with(|state| state.writes_left = writes);
    }

    /// How many writes were made so far.
    pub(crate) fn writes(&self) -> usize {
        self.with(|state| state.writes)
    }

    /// All objects of a collection.
    pub(crate) fn list(&self, collection: &str) -> Vec<Value> {
        self.with(|state| state.items(collection))
    }

    fn with<T>(&self, then: impl FnOnce(&mut Objects) -> T) -> T {
        then(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn handle(
    State(state): State<Arc<Mutex<Objects>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    };
    let how = header("content-type");
    state.programs.push(header("user-agent").to_owned());
    let is_trial = uri
        .query()
        .is_some_and(|query| query.contains("dryRun=All"));
    match state.answer(&method, uri.path(), how, &body, is_trial) {
        Ok(object) => axum::Json(object).into_response(),
        Err((code, reason)) => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                "message": format!("{method} {} met {reason}", uri.path())});
            let code = StatusCode::from_u16(code).unwrap();
            (code, axum::Json(status)).into_response()
        }
    }
}

type Refusal = (u16, &'static str);

impl Objects {
    fn answer(
        &mut self,
        method: &Method,
        path: &str,
        how: &str,
        body: &[u8],
        is_trial: bool,
    ) -> Result<Value, Refusal> {
        self.requests.push(format!("{method} {path}"));
        if self.away || self.writes_left == Some(0) {
            return Err((503, "ServiceUnavailable"));
        }
        if self.forbidden.is_some_and(|part| path.contains(part)) {
            return Err((403, "Forbidden"));
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        if *method == Method::GET {
            return if is_collection(path) {
                let items = self.items(path);
                let metadata = json!({"resourceVersion": self.version.to_string()});
                Ok(
                    json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}),
                )
            } else {
                self.by_path.get(path).cloned().ok_or((404, "NotFound"))
            };
        }
        if let Some((_, code, word)) = self.refused.filter(|(part, ..)| path.contains(part)) {
            return Err((code, word));
        }
        if is_trial {
            let before = (self.by_path.clone(), self.version);
            let written = self.write(method, path, how, body);
            (self.by_path, self.version) = before;
            return written;
        }
        let written = self.write(method, path, how, body)?;
        self.writes += 1;
        self.writes_left = self.writes_left.map(|left| left - 1);
        Ok(written)
    }

    fn items(&self, collection: &str) -> Vec<Value> {
        let within = |path: &&String| {
            let rest = path
                .strip_prefix(collection)
                .and_then(|rest| rest.strip_prefix('/'));
            rest.is_some_and(|rest| !rest.contains('/'))
        };
        let paths = self.by_path.keys().filter(within);
        paths
            .filter_map(|path| self.by_path.get(path).cloned())
            .collect()
    }

    fn write(
        &mut self,
        method: &Method,
        path: &str,
        how: &str,
        mut body: Value,
    ) -> Result<Value, Refusal> {
        if let (true, Some(token)) = (path.ends_with("/token"), self.token) {
            body["status"] = json!({"token": token, "expirationTimestamp": "2026-01-01T08:00:00Z"});
            return Ok(body);
        }
        if *method == Method::POST {
            let name = body["metadata"]["name"].as_str().unwrap_or_default();
            let path = format!("{path}/{name}");
            if self.by_path.contains_key(&path) {
                return Err((409, "AlreadyExists"));
            }
            body["metadata"]["uid"] = json!(format!("uid-{}", self.version + 1));
            body["metadata"]["generation"] = json!(1);
            body["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
            return Ok(self.store(path, body));
        }
        let (path, is_status) = match path.strip_suffix("/status") {
            Some(path) => (path, true),
            None => (path, false),
        };
        let Some(old) = self.by_path.get(path).cloned() else {
            return Err((404, "NotFound"));
        };
        let asked = match *method {
            Method::DELETE => &body["preconditions"],
            _ => &body["metadata"],
        };
        for field in ["resourceVersion", "uid"] {
            if !asked[field].is_null() && asked[field] != old["metadata"][field] {
                return Err((409, "Conflict"));
            }
        }
        let mut new = old.clone();
        match *method {
            Method::DELETE => {
                let finalizers = old["metadata"]["finalizers"].as_array();
                if finalizers.is_none_or(Vec::is_empty) {
                    self.by_path.remove(path);
                    return Ok(old);
                }
                new["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            Method::PUT => {
                // A status of its own is not written with the rest.
                let status = old["status"].clone();
                new = body;
                if path.contains("/nodepools/") && !status.is_null() {
                    new["status"] = status;
                }
            }
            _ if how.contains("apply") || how.contains("/merge-patch") => {
                for (part, value) in body.as_object().into_iter().flatten() {
                    match part.as_str() {
                        "metadata" => {
                            for (field, value) in value.as_object().into_iter().flatten() {
                                new["metadata"][field] = value.clone();
                            }
                        }
                        "data" => merge(&mut new["data"], value),
                        "status" if !is_status => {}
                        _ => new[part] = value.clone(),
                    }
                }
            }
            _ => merge(&mut new, &body),
        }
        if new["spec"] != old["spec"] {
            let generation = old["metadata"]["generation"].as_u64().unwrap_or_default();
            new["metadata"]["generation"] = json!(generation + 1);
        }
        let finalizers = new["metadata"]["finalizers"].as_array();
        if !new["metadata"]["deletionTimestamp"].is_null() && finalizers.is_none_or(Vec::is_empty) {
            self.by_path.remove(path);
            return Ok(new);
        }
        Ok(self.store(path.to_owned(), new))
    }

    fn store(&mut self, path: String, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.by_path.insert(path, object.clone());
        object
    }
}

/// Whether a path ends with a resource and not with an object.
fn is_collection(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let before = if parts.first() == Some(&"api") { 2 } else { 3 };
    let rest = parts.get(before..).unwrap_or_default();
    matches!(rest, [_] | ["namespaces", _, _])
}

/// A strategic merge, whose lists are all merged by name.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(patch)) => {
            for item in patch {
                match into.iter_mut().find(|old| old["name"] == item["name"]) {
                    Some(old) => merge(old, item),
                    None => into.push(item.clone()),
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}
