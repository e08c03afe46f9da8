//! An API server for tests, as far as single objects go: resource versions, conflicts, and merges of lists by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

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
    away: bool,
    forbidden: Option<&'static str>,
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
        crate::client::client(config, Metrics::new()).unwrap()
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

    /// Answers nothing but 503 from now on, or does again.
    pub(crate) fn set_away(&self, away: bool) {
        self.with(|state| state.away = away);
    }

    /// Refuses all paths with this in it.
    pub(crate) fn forbid(&self, part: Option<&'static str>) {
        self.with(|state| state.forbidden = part);
    }

    fn with<T>(&self, then: impl FnOnce(&mut Objects) -> T) -> T {
        then(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn handle(
    State(state): State<Arc<Mutex<Objects>>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    match state.answer(&method, uri.path(), &body) {
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
    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> Result<Value, Refusal> {
        self.requests.push(format!("{method} {path}"));
        if self.away {
            return Err((503, "ServiceUnavailable"));
        }
        if self.forbidden.is_some_and(|part| path.contains(part)) {
            return Err((403, "Forbidden"));
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        if *method == Method::POST {
            let name = body["metadata"]["name"].as_str().unwrap_or_default();
            let path = format!("{path}/{name}");
            if self.by_path.contains_key(&path) {
                return Err((409, "AlreadyExists"));
            }
            return Ok(self.store(path, body));
        }
        let Some(old) = self.by_path.get(path).cloned() else {
            return Err((404, "NotFound"));
        };
        match *method {
            Method::PUT => {
                let version = &body["metadata"]["resourceVersion"];
                if !version.is_null() && *version != old["metadata"]["resourceVersion"] {
                    return Err((409, "Conflict"));
                }
                Ok(self.store(path.to_owned(), body))
            }
            Method::PATCH => {
                let mut new = old;
                merge(&mut new, &body);
                Ok(self.store(path.to_owned(), new))
            }
            _ => Ok(old),
        }
    }

    fn store(&mut self, path: String, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.by_path.insert(path, object.clone());
        object
    }
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
