//! Taking a `DaemonSet` away while its pods still have their rights.

use std::path::Path;
use std::time::Duration;

use kube::core::params::{DeleteParams, GetParams};
use kube::core::request;
use serde_json::Value;

use crate::client::NodeClient;
use crate::error::{Access, Error, Failure, is_missing};

const DELETE: Access = Access::new("delete", "daemonsets.apps");
const GET: Access = Access::new("get", "daemonsets.apps");

/// How often is looked whether it is gone.
const PAUSE: Duration = Duration::from_millis(300);

/// What became of a `DaemonSet` that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    /// It is gone, and so are its pods.
    Gone,
    /// There was none.
    Absent,
    /// It goes, and some of its pods have not ended in time.
    Ending,
}

/// Deletes a `DaemonSet` and waits until its pods have ended, for at most `wait`. The cluster deletes in the foreground:
/// the object itself goes last.
///
/// # Errors
/// When the API server can't be reached, or the right to delete or get the `DaemonSet` is missing.
pub async fn retire(
    kubeconfig: Option<&Path>,
    namespace: &str,
    name: &str,
    wait: Duration,
) -> Result<Retired, Error> {
    // The client is made for a node; these requests are about none.
    let client = NodeClient::connect("none", kubeconfig).await?;
    let path = format!("/apis/apps/v1/namespaces/{namespace}/daemonsets");
    let requests = || request::Request::new(path.as_str());
    let object = format!("DaemonSet {namespace}/{name}");
    let delete = requests().delete(name, &DeleteParams::foreground());
    match client.send::<Value>(DELETE, delete).await {
        Ok(_) => {}
        Err(Failure::Status(status)) if is_missing(&status, name) => return Ok(Retired::Absent),
        Err(failure) => return Err(client.error(failure, DELETE, &object)),
    }
    let gone = async {
        loop {
            let get = requests().get_metadata(name, &GetParams::default());
            match client.send::<Value>(GET, get).await {
                Err(Failure::Status(status)) if is_missing(&status, name) => return Ok(()),
                Ok(_) => {}
                Err(failure) => {
                    let error = client.error(failure, GET, &object);
                    if !error.is_transient() {
                        return Err(error);
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(wait, gone).await {
        Ok(outcome) => outcome.map(|()| Retired::Gone),
        Err(_) => Ok(Retired::Ending),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::extract::State;
    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    use axum::{Json, Router, routing};
    use serde_json::json;

    use super::*;

    const PATH: &str = "/apis/apps/v1/namespaces/gpu/daemonsets/agent";

    /// A server whose `DaemonSet` answers so many times after it was deleted.
    async fn server(answers: usize) -> (tempfile::NamedTempFile, Arc<AtomicUsize>) {
        let left = Arc::new(AtomicUsize::new(answers));
        let missing = || {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "reason": "NotFound", "message": "not found", "code": 404,
                "details": {"name": "agent", "group": "apps", "kind": "daemonsets"}});
            (StatusCode::NOT_FOUND, Json(status)).into_response()
        };
        let delete = move |State(left): State<Arc<AtomicUsize>>, body: String| async move {
            if left.load(Ordering::SeqCst) == 0 {
                return missing();
            }
            assert!(body.contains("Foreground"), "{body}");
            Json(json!({})).into_response()
        };
        let get = move |State(left): State<Arc<AtomicUsize>>| async move {
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                return missing();
            }
            Json(json!({"metadata": {"name": "agent"}})).into_response()
        };
        let router = Router::new()
            .route(PATH, routing::delete(delete).get(get))
            .with_state(left.clone());
        (serve(router).await, left)
    }

    async fn serve(router: Router) -> tempfile::NamedTempFile {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]\n\
             users: [{{name: u, user: {{}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        );
        std::fs::write(kubeconfig.path(), text).unwrap();
        kubeconfig
    }

    #[tokio::test]
    async fn it_is_waited_for_until_its_pods_are_gone() {
        let (kubeconfig, left) = server(3).await;
        let wait = Duration::from_mins(1);
        let retired = retire(Some(kubeconfig.path()), "gpu", "agent", wait).await;
        assert_eq!(retired.unwrap(), Retired::Gone);
        assert_eq!(left.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn one_that_is_not_there_is_no_failure() {
        let (kubeconfig, _) = server(0).await;
        let wait = Duration::from_mins(1);
        let retired = retire(Some(kubeconfig.path()), "gpu", "agent", wait).await;
        assert_eq!(retired.unwrap(), Retired::Absent);
    }

    #[tokio::test]
    async fn something_else_behind_the_address_is_not_taken_for_the_end_of_it() {
        let kubeconfig = serve(Router::new()).await;
        let wait = Duration::from_mins(1);
        let retired = retire(Some(kubeconfig.path()), "gpu", "agent", wait).await;
        assert!(
            matches!(retired, Err(Error::Unintelligible { .. })),
            "{retired:?}"
        );
    }

    #[tokio::test]
    async fn pods_that_do_not_end_in_time_are_told() {
        let (kubeconfig, _) = server(usize::MAX).await;
        let wait = Duration::from_millis(50);
        let retired = retire(Some(kubeconfig.path()), "gpu", "agent", wait).await;
        assert_eq!(retired.unwrap(), Retired::Ending);
    }
}
