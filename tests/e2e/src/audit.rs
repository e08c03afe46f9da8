//! What service accounts asked of the API server, as it has written it down.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::Context;
use serde::Deserialize;

use crate::world::World;

/// The API server's log of requests, from some moment on.
pub(crate) struct Audit {
    path: PathBuf,
    from: u64,
}

/// A request that was answered.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Whose: `system:serviceaccount:NAMESPACE:NAME`.
    pub(crate) user: String,
    /// What the program calls itself: `migpool-operator/VERSION`.
    pub(crate) program: String,
    /// The pod that asked, where its token says so.
    pub(crate) pod: String,
    /// `get`, `list`, `watch`, `create`, `patch` ..
    pub(crate) verb: String,
    /// The API group; empty for the core.
    pub(crate) group: String,
    /// The resource, with its subresource: `nodes/status`.
    pub(crate) resource: String,
    /// The object's name, where one was named.
    pub(crate) name: String,
    /// The path without its query.
    pub(crate) path: String,
    /// The HTTP status.
    pub(crate) code: u16,
    /// When it came, in microseconds since 1970.
    pub(crate) received: i64,
    /// When it was answered.
    pub(crate) answered: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: Status,
    request_received_timestamp: jiff::Timestamp,
    stage_timestamp: jiff::Timestamp,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    extra: Extra,
}

#[derive(Default, Deserialize)]
struct Extra {
    #[serde(default, rename = "authentication.kubernetes.io/pod-name")]
    pod: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    name: String,
    api_group: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
}

impl Audit {
    /// What is asked from now on.
    ///
    /// # Errors
    /// The cluster does not write it down, since an earlier run that kept it did not ask for that.
    pub(crate) fn from_now_on(world: &World) -> anyhow::Result<Self> {
        let path = world.cluster().audit_log();
        let data = path.metadata().with_context(|| {
            format!(
                "there is no {}: the cluster that was kept is an older one, stop it with --stop",
                path.display()
            )
        })?;
        Ok(Self {
            path,
            from: data.len(),
        })
    }

    /// The requests until now of users who are `whose`, in the order in which they were answered. Those of `kubectl` with
    /// a token of theirs are left out.
    ///
    /// # Errors
    /// The log can't be read.
    pub(crate) fn requests(&self, whose: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Request>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut requests = Vec::new();
        // Line by line: with thousands of nodes there is much of it.
        for line in BufReader::new(file).lines() {
            let line = line?;
            // The last line may be half a one.
            let Ok(line) = serde_json::from_str::<Line>(&line) else {
                continue;
            };
            if whose(&line.user.username) && !line.user_agent.starts_with("kubectl") {
                requests.push(Request::of(line));
            }
        }
        Ok(requests)
    }
}

impl Request {
    fn of(line: Line) -> Self {
        let of = line.object_ref;
        let resource = match of.subresource.as_str() {
            "" => of.resource,
            subresource => format!("{}/{subresource}", of.resource),
        };
        let path = line.request_uri.split('?').next().unwrap_or_default();
        Self {
            user: line.user.username,
            program: line.user_agent,
            pod: line.user.extra.pod.into_iter().next().unwrap_or_default(),
            verb: line.verb,
            group: of.api_group,
            resource,
            name: of.name,
            path: path.to_owned(),
            code: line.response_status.code,
            received: line.request_received_timestamp.as_microsecond(),
            answered: line.stage_timestamp.as_microsecond(),
        }
    }

    /// It was to change something.
    pub(crate) fn writes(&self) -> bool {
        !matches!(&*self.verb, "get" | "list" | "watch")
    }

    /// In a few words.
    pub(crate) fn line(&self) -> String {
        format!("{} {} ({}): {}", self.verb, self.path, self.user, self.code)
    }
}

/// The user that a service account is.
pub(crate) fn user(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

/// How often something was asked, by verb and resource, the most frequent first.
pub(crate) fn counted(requests: &[Request]) -> Vec<(usize, String)> {
    let kind = |request: &Request| format!("{} {}", request.verb, request.resource);
    let kinds: BTreeSet<String> = requests.iter().map(kind).collect();
    let count = |what: &String| requests.iter().filter(|it| kind(it) == *what).count();
    let mut counted: Vec<_> = kinds.into_iter().map(|what| (count(&what), what)).collect();
    counted.sort_by(|a, b| b.cmp(a));
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_read() {
        let line = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"x",
            "stage":"ResponseComplete","requestURI":"/api/v1/nodes/n/status?fieldManager=m","verb":"patch",
            "user":{"username":"system:serviceaccount:default:migpool","extra":
            {"authentication.kubernetes.io/pod-name":["migpool-x"]}},"sourceIPs":["10.0.0.1"],"userAgent":"migpool/0.1.0",
            "objectRef":{"resource":"nodes","name":"n","apiVersion":"v1","subresource":"status"},
            "responseStatus":{"metadata":{},"code":200},
            "requestReceivedTimestamp":"2026-11-28T16:16:57.000001Z","stageTimestamp":"2026-11-28T16:16:57.000003Z"}"#;
        let request = Request::of(serde_json::from_str(line).unwrap());
        assert_eq!(request.user, user("default", "migpool"));
        assert_eq!(
            (&*request.program, &*request.pod, &*request.resource),
            ("migpool/0.1.0", "migpool-x", "nodes/status")
        );
        assert_eq!(request.answered - request.received, 2);
        assert!(request.writes());
        assert_eq!(
            request.line(),
            "patch /api/v1/nodes/n/status (system:serviceaccount:default:migpool): 200"
        );
    }
}
