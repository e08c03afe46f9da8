//! The client of the API server that operators and fronts have.

use std::path::Path;
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use http::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tower::ServiceBuilder;

use crate::metrics::Metrics;

/// What the server's audit log calls us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The operator.
    Operator,
    /// The front for ARM clients.
    Front,
    /// A person's command.
    Command,
}

impl Program {
    /// Its name and version.
    pub(crate) const fn agent(self) -> &'static str {
        match self {
            Self::Operator => concat!("migpool-operator/", env!("CARGO_PKG_VERSION")),
            Self::Front => concat!("migpool-arm/", env!("CARGO_PKG_VERSION")),
            Self::Command => concat!("migpool/", env!("CARGO_PKG_VERSION")),
        }
    }
}

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a connection is kept without a request.
const IDLE: Duration = Duration::from_mins(1);

/// How long the other end of a connection may leave unsaid that it got what was sent, and how long a watch may be silent until it
/// is asked whether it is there: a server that was cut off says nothing.
const DEAD: Duration = Duration::from_secs(30);

/// How long an answer may take to begin; a list of thousands of nodes takes a while.
const ANSWER: Duration = Duration::from_mins(1);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It can't be told where the API server is, or who we are to it.
    #[error("cannot tell how to reach the API server: {0}")]
    Config(String),
}

/// What the kubeconfig says, or where there is none what the cluster tells its pods.
///
/// # Errors
/// If the file, or the pod's service account, is not there or can't be read.
pub(crate) async fn config(kubeconfig: Option<&Path>) -> Result<Config, ClientError> {
    let Some(path) = kubeconfig else {
        return Config::incluster().map_err(|error| {
            ClientError::Config(format!(
                "{}; a pod needs its service account's token mounted (automountServiceAccountToken), and outside the \
                 cluster --kubeconfig names a kubeconfig",
                causes(&error)
            ))
        });
    };
    let of = |error: &(dyn std::error::Error + 'static)| {
        ClientError::Config(format!("kubeconfig {}: {}", path.display(), causes(error)))
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| of(&error))?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| of(&error))
}

/// A client that sends each request once under the program's name, and counts it: what the operator could not do it does in its
/// next turn, on newer knowledge.
///
/// # Errors
/// If a certificate or a key of the configuration can't be used, or it asks for a proxy.
pub(crate) fn client(
    mut config: Config,
    program: Program,
    metrics: Metrics,
) -> Result<kube::Client, ClientError> {
    if let Some(proxy) = &config.proxy_url {
        // A password may be in it.
        let host = proxy.host().unwrap_or_default();
        return Err(ClientError::Config(format!(
            "the kubeconfig's proxy-url, or HTTPS_PROXY, asks for the proxy {host}, and proxies are not supported"
        )));
    }
    let program = (USER_AGENT, HeaderValue::from_static(program.agent()));
    config.headers.push(program);
    build(&config, metrics).map_err(|error| ClientError::Config(causes(&error)))
}

fn build(config: &Config, metrics: Metrics) -> kube::Result<kube::Client> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(DEAD));
    connector.set_keepalive_interval(Some(DEAD / 3));
    connector.set_keepalive_retries(Some(3));
    connector.set_tcp_user_timeout(Some(DEAD));
    let http: Client<_, Body> = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(config.rustls_https_connector_with_connector(connector)?);
    let service = ServiceBuilder::new()
        .map_request(move |request: Request<Body>| {
            metrics.requested(verb(
                request.method(),
                request.uri().path(),
                request.uri().query(),
            ));
            request
        })
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .timeout(ANSWER)
        .map_err(tower::BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

/// The verb of a request, as a role has it.
fn verb(method: &Method, path: &str, query: Option<&str>) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ if is_watch(query) => "watch",
        _ if is_collection(path) => "list",
        _ => "get",
    }
}

fn is_watch(query: Option<&str>) -> bool {
    query.is_some_and(|query| {
        query
            .split('&')
            .any(|pair| pair == "watch=true" || pair == "watch=1")
    })
}

/// Whether a path ends with a resource and not with an object: `/apis/GROUP/VERSION/[namespaces/NAME/]RESOURCE`.
fn is_collection(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let before = if parts.next() == Some("api") { 1 } else { 2 };
    let rest: Vec<&str> = parts.skip(before).collect();
    matches!(rest.as_slice(), [_] | ["namespaces", _, _])
}

/// An error and its causes in one line, without what was said already.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_the_verb_that_a_role_needs() {
        let get = Method::GET;
        for (method, path, query, verb_of) in [
            (&get, "/api/v1/nodes", None, "list"),
            (&get, "/api/v1/nodes", Some("limit=500&watch=true"), "watch"),
            (&get, "/api/v1/nodes/mignode", None, "get"),
            (
                &get,
                "/apis/migpool.dev/v1alpha1/nodepools",
                Some("watchers=1"),
                "list",
            ),
            (
                &get,
                "/apis/migpool.dev/v1alpha1/nodepools/a/status",
                None,
                "get",
            ),
            (
                &get,
                "/apis/coordination.k8s.io/v1/namespaces/migpool/leases/l",
                None,
                "get",
            ),
            (
                &get,
                "/apis/coordination.k8s.io/v1/namespaces/migpool/leases",
                None,
                "list",
            ),
            (
                &Method::PUT,
                "/apis/coordination.k8s.io/v1/namespaces/migpool/leases/l",
                None,
                "update",
            ),
            (&Method::PATCH, "/api/v1/nodes/mignode", None, "patch"),
        ] {
            assert_eq!(verb(method, path, query), verb_of, "{method} {path}");
        }
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_named() {
        let error = config(Some(Path::new("/nowhere/kubeconfig"))).await.err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("/nowhere/kubeconfig"), "{text}");
    }

    #[tokio::test]
    async fn requests_say_which_program_they_are_of() {
        let api = crate::fake_api::FakeApi::start().await;
        let pools = kube::Api::<crate::NodePool>::all(api.client());
        pools.list(&kube::api::ListParams::default()).await.unwrap();
        let said = api.programs();
        assert!(
            said.iter().all(|it| it == Program::Front.agent()),
            "{said:?}"
        );
        assert!(!said.is_empty() && said[0].starts_with("migpool-arm/"));
    }

    #[test]
    fn a_proxy_is_refused_without_its_password() {
        let mut config = Config::new(http::Uri::from_static("https://localhost:6443"));
        config.proxy_url = Some(http::Uri::from_static("http://me:secret@proxy:3128"));
        let error = client(config, Program::Operator, Metrics::new()).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(
            text.contains("proxy proxy") && !text.contains("secret"),
            "{text}"
        );
    }
}
