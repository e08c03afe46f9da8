//! An API server that answers what a test tells it to, and remembers what it was asked.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use migpool_cluster::NodeClient;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const NODE: &str = "mignode";

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

impl Asked {
    /// `PATCH /api/v1/nodes/mignode`
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// An answer; the server never answers after the last one of a script.
pub(crate) enum Answer {
    Json(u16, Value),
    Text(u16, &'static str),
    Never,
}

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    asked: Vec<Asked>,
}

/// The server; it ends with the test's runtime.
pub(crate) struct ApiServer {
    pub(crate) client: NodeClient,
    script: Arc<Mutex<Script>>,
    _folder: TempDir,
}

impl ApiServer {
    /// A server that gives these answers one after the other.
    pub(crate) async fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let script = Arc::new(Mutex::new(Script {
            answers: answers.into_iter().collect(),
            asked: Vec::new(),
        }));
        let app = Router::new().fallback(answer).with_state(script.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = kubeconfig(&folder, &format!("http://{address}"));
        let client = NodeClient::connect(NODE, Some(&kubeconfig)).await.unwrap();
        Self {
            client,
            script,
            _folder: folder,
        }
    }

    /// What it was asked. Every answer of the script must have been fetched.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let script = self.script.lock().unwrap();
        assert_eq!(script.answers.len(), 0, "answers that nobody fetched");
        script.asked.clone()
    }

    /// The lines of [`asked`](Self::asked).
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Asked::line).collect()
    }
}

/// A kubeconfig for a server.
pub(crate) fn kubeconfig(folder: &TempDir, server: &str) -> PathBuf {
    let path = folder.path().join("kubeconfig");
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    std::fs::write(&path, text.to_string()).unwrap();
    path
}

async fn answer(
    State(script): State<Arc<Mutex<Script>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(&'static str, &'static str); 1], String) {
    let header = |name: &str| {
        let value = headers.get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or_default().to_owned()
    };
    assert_eq!(header("authorization"), "Bearer secret");
    assert!(header("user-agent").starts_with("migpool/"));
    let next = {
        let mut script = script.lock().unwrap();
        script.asked.push(Asked {
            method,
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            content_type: header("content-type"),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        });
        script.answers.pop_front()
    };
    let (code, kind, text) = match next {
        Some(Answer::Json(code, body)) => (code, "application/json", body.to_string()),
        Some(Answer::Text(code, text)) => (code, "text/plain", text.to_owned()),
        Some(Answer::Never) | None => {
            tokio::time::sleep(Duration::from_hours(1)).await;
            unreachable!("the test is over by then")
        }
    };
    let code = StatusCode::from_u16(code).unwrap();
    (code, [("content-type", kind)], text)
}

/// The node, in a version and with a spec and a status.
pub(crate) fn node(version: &str, spec: &Value, status: &Value) -> Answer {
    Answer::Json(
        200,
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": NODE, "uid": "node-uid", "resourceVersion": version},
            "spec": spec, "status": status,
        }),
    )
}

/// The node's metadata, as an answer to a request for no more than that or to a patch.
pub(crate) fn metadata() -> Answer {
    let metadata = json!({"name": NODE, "uid": "node-uid", "resourceVersion": "7"});
    Answer::Json(
        200,
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata}),
    )
}

/// What the server made or changed, where nobody looks at it.
pub(crate) fn done(code: u16) -> Answer {
    Answer::Json(code, json!({"kind": "Whatever", "metadata": {"name": "x"}}))
}

/// A refusal.
pub(crate) fn status(code: u16, reason: &str, message: &str, details: &Value) -> Answer {
    Answer::Json(
        code,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": code, "reason": reason, "message": message, "details": details,
        }),
    )
}

/// An object that is not there.
pub(crate) fn not_found(kind: &str, name: &str) -> Answer {
    let message = format!("{kind} \"{name}\" not found");
    status(
        404,
        "NotFound",
        &message,
        &json!({"name": name, "kind": kind}),
    )
}
