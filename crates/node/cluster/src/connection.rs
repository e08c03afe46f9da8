//! Where the API server is, who we are to it, and the HTTP client that knows both.

use std::path::Path;
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tower::ServiceBuilder;

use crate::error::{Error, causes};

/// What the server's audit log calls us.
const PROGRAM: &str = concat!("migpool/", env!("CARGO_PKG_VERSION"));

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a connection is kept without a request.
const IDLE: Duration = Duration::from_mins(1);

/// What the kubeconfig says, or where there is none what the cluster tells its pods.
pub(crate) async fn config(kubeconfig: Option<&Path>) -> Result<Config, Error> {
    match kubeconfig {
        Some(path) => {
            let of = |error: &(dyn std::error::Error + 'static)| Error::Config {
                reason: format!("kubeconfig {}: {}", path.display(), causes(error)),
            };
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| of(&error))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(|error| of(&error))
        }
        None => Config::incluster().map_err(|error| Error::Config {
            reason: format!(
                "{}; a pod needs its service account's token mounted (automountServiceAccountToken), and outside \
                 the cluster --kubeconfig names a kubeconfig",
                causes(&error)
            ),
        }),
    }
}

/// A client that sends each request once: kube's own one waits a quarter of an hour and more before it shows a 429,
/// which is how a disruption budget says no.
pub(crate) fn client(mut config: Config) -> Result<kube::Client, Error> {
    if let Some(proxy) = &config.proxy_url {
        // A password may be in it.
        let proxy = proxy.authority().map_or("", |authority| {
            let authority = authority.as_str();
            authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host)
        });
        return Err(Error::Config {
            reason: format!(
                "the kubeconfig's proxy-url, or HTTPS_PROXY, asks for the proxy {proxy}, and proxies are not supported"
            ),
        });
    }
    let program = (USER_AGENT, HeaderValue::from_static(PROGRAM));
    config.headers.push(program);
    build(&config).map_err(|error| Error::Config {
        reason: causes(&error),
    })
}

fn build(config: &Config) -> kube::Result<kube::Client> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(IDLE));
    let http: Client<_, Body> = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(1)
        .build(config.rustls_https_connector_with_connector(connector)?);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(tower::BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}
