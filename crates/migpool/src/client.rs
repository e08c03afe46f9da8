//! The client of the ARM API on `migpool up`'s Unix socket: requests, long-running operations, errors as sentences.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use indicatif::ProgressBar;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::failure::Failure;

/// The api-version of clusters and pools when none is asked for: the one that azure-cli 2.91 sends.
pub(crate) const API_VERSION: &str = "2026-06-01";

/// The api-version of resource groups: the one that azure-cli 2.91 sends, whatever is asked of clusters and pools.
const GROUPS_API_VERSION: &str = "2024-11-01";

/// The only subscription that the command line uses.
pub(crate) const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000000";

/// A client of one `migpool up`.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
    api_version: String,
}

/// An answer: its status, headers and JSON body (`Null` when empty).
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// HTTP headers.
    pub(crate) headers: HeaderMap,
    /// The body, `Null` when there is none.
    pub(crate) body: Value,
    /// The body as it came, for what is not JSON (logs).
    pub(crate) text: String,
}

impl Client {
    /// A client of the `up` that works on this state folder.
    pub(crate) fn new(state_dir: &Path, api_version: Option<String>) -> Self {
        Self {
            socket: state_dir.join("api.sock"),
            api_version: api_version.unwrap_or_else(|| API_VERSION.to_owned()),
        }
    }

    /// Sends one request and returns the answer whatever its status.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            Failure::failed(format!(
                "no migpool answers on {}: {error}",
                self.socket.display()
            ))
            .with_help(
                "start it with `migpool up` in another terminal, or name its state folder with --state-dir or \
                 MIGPOOL_STATE_DIR",
            )
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error))?;
        let connection = tokio::spawn(connection);
        let separator = if path.contains('?') { '&' } else { '?' };
        let uri = if path.contains("api-version=") {
            path.to_owned()
        } else {
            let version = if path.contains("/providers/") {
                &self.api_version
            } else {
                GROUPS_API_VERSION
            };
            format!("{path}{separator}api-version={version}")
        };
        let payload = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(payload)))
            .map_err(|error| Failure::usage(format!("not a valid request: {error}")))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.broken(&error))?;
        let (parts, incoming) = response.into_parts();
        let bytes = incoming
            .collect()
            .await
            .map_err(|error| self.broken(&error))?
            .to_bytes();
        connection.abort();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for warning in parts.headers.get_all("x-ms-warning") {
            if let Ok(warning) = warning.to_str() {
                anstream::eprintln!("warning: {warning}");
            }
        }
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        })
    }

    /// Sends one request; anything but success becomes the service's own error as a failure.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let answer = self.send(method, path, body).await?;
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(service_failure(&answer))
        }
    }

    /// The JSON body of a GET.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        Ok(self.call(Method::GET, path, None).await?.body)
    }

    /// The JSON body of a GET; `None` when the service says that there is nothing there.
    pub(crate) async fn find(&self, path: &str) -> Result<Option<Value>, Failure> {
        let answer = self.send(Method::GET, path, None).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer.body)),
            _ => Err(service_failure(&answer)),
        }
    }

    /// The `value` arrays of a GET that lists, of all its pages.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(page) = next {
            let mut list = self.get(&page).await?;
            let Some(Value::Array(items)) = list.get_mut("value").map(Value::take) else {
                return Err(Failure::failed(format!(
                    "{path} did not answer with a list"
                )));
            };
            all.extend(items);
            let link = list.get("nextLink").and_then(Value::as_str);
            next = link.map(|url| of_this_server(url).to_owned());
        }
        Ok(all)
    }

    /// Puts a resource and gives it back as it is once that is done, or nothing when it was not to be waited for.
    pub(crate) async fn put(
        &self,
        path: &str,
        body: &Value,
        what: &str,
        no_wait: bool,
    ) -> Result<Option<Value>, Failure> {
        let started = self.call(Method::PUT, path, Some(body)).await?;
        if no_wait {
            return Ok(None);
        }
        self.wait(&started, what).await?;
        self.get(path).await.map(Some)
    }

    /// Deletes a resource. One that is not there is a failure, so that a misspelt name is noticed.
    pub(crate) async fn delete(
        &self,
        path: &str,
        what: &str,
        no_wait: bool,
    ) -> Result<(), Failure> {
        self.get(path).await?;
        let started = self.call(Method::DELETE, path, None).await?;
        if no_wait {
            Ok(())
        } else {
            self.wait(&started, what).await
        }
    }

    /// Waits for the long-running operation that an answer started, if it started one, showing `what` meanwhile.
    ///
    /// ARM has two kinds: `Azure-AsyncOperation` names an operation whose status is asked for, `Location` a result that
    /// is 202 until it is there.
    pub(crate) async fn wait(&self, started: &Answer, what: &str) -> Result<(), Failure> {
        let header = |name| {
            started
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let Some(url) = header("azure-asyncoperation").or_else(|| header("location")) else {
            return Ok(());
        };
        let path = of_this_server(url).to_owned();
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        // The first poll is at once, as azure-core does it; on a Unix socket short waits cost nothing.
        let mut pause = Duration::from_millis(10);
        let outcome = loop {
            let answer = self.call(Method::GET, &path, None).await?;
            if let Some(outcome) = ended(&answer, what) {
                break outcome;
            }
            tokio::time::sleep(pause).await;
            let limit = retry_after(&answer.headers).unwrap_or(Duration::from_secs(1));
            pause = (pause * 2).min(limit).min(Duration::from_millis(200));
        };
        bar.finish_and_clear();
        outcome
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        Failure::failed(format!(
            "the connection to {} broke: {error}",
            self.socket.display()
        ))
        .with_help("if `migpool up` was stopped meanwhile, start it again: its state is kept")
    }
}

/// The path and query of an absolute URL that the service gave.
fn of_this_server(url: &str) -> &str {
    url.find("/subscriptions/")
        .and_then(|at| url.get(at..))
        .unwrap_or(url)
}

/// How a long-running operation ended, if it has.
fn ended(answer: &Answer, what: &str) -> Option<Result<(), Failure>> {
    match answer.body.get("status").and_then(Value::as_str) {
        Some("Succeeded") => Some(Ok(())),
        Some(end @ ("Failed" | "Canceled")) => {
            let reason = answer
                .body
                .pointer("/error/message")
                .and_then(Value::as_str)
                .unwrap_or("no reason was given");
            Some(Err(Failure::failed(format!(
                "{what}: {}: {reason}",
                end.to_lowercase()
            ))))
        }
        Some(_) => None,
        None => (answer.status != StatusCode::ACCEPTED).then_some(Ok(())),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .parse()
        .ok()
        .map(Duration::from_secs)
}

/// ARM's error, in either of its two shapes, as a failure. What the caller asked wrongly is a misuse (exit 2).
fn service_failure(answer: &Answer) -> Failure {
    let error = answer.body.get("error").unwrap_or(&answer.body);
    let code = error
        .get("code")
        .and_then(Value::as_str)
        .unwrap_or("UnknownError");
    let message = match error.get("message").and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => format!("the service answered {} without saying why", answer.status),
    };
    let text = format!("({code}) {message}");
    match answer.status {
        StatusCode::BAD_REQUEST => Failure::usage(text),
        _ => Failure::failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
            text: body.to_owned(),
        }
    }

    #[test]
    fn both_shapes_of_an_arm_error_become_the_same_sentence() {
        let nested = service_failure(&answer(400, r#"{"error":{"code":"C","message":"m"}}"#));
        let flat = service_failure(&answer(400, r#"{"code":"C","message":"m","subcode":"s"}"#));
        assert_eq!(nested.to_string(), "(C) m");
        assert_eq!(flat.to_string(), "(C) m");
        assert!(matches!(nested, Failure::Usage { .. }));
    }

    #[test]
    fn an_operation_ends_by_its_status_and_a_result_by_its_http_status() {
        let at_work = ended(&answer(200, r#"{"status":"InProgress"}"#), "x");
        assert!(at_work.is_none());
        let done = ended(&answer(200, r#"{"status":"Succeeded"}"#), "x");
        assert!(done.unwrap().is_ok());
        let body = r#"{"status":"Failed","error":{"message":"GPU 3 is lost"}}"#;
        let failed = ended(&answer(200, body), "making a pool").unwrap();
        assert_eq!(
            failed.unwrap_err().to_string(),
            "making a pool: failed: GPU 3 is lost"
        );
        assert!(ended(&answer(202, ""), "x").is_none());
        assert!(ended(&answer(204, ""), "x").unwrap().is_ok());
    }

    #[test]
    fn an_answer_without_a_reason_still_says_its_status() {
        let failure = service_failure(&answer(500, "oops"));
        assert!(failure.to_string().contains("500"), "{failure}");
        assert!(matches!(failure, Failure::Failed { .. }));
    }
}
