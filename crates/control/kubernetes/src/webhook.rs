//! The validating webhook: refuses at admission what can be told to be impossible without a node.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use rustls::ServerConfig;
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::certificate::Serving;
use crate::convert;
use crate::node_pool::NodePool;

/// Where the API server asks.
pub(crate) const PATH: &str = "/validate-nodepool";

/// The largest request, in bytes.
const LARGEST: usize = 1 << 20;

/// How long a handshake, and how long a request with its body, may take.
const LIMIT: Duration = Duration::from_secs(5);

/// How long a connection is kept without a request.
const IDLE: Duration = Duration::from_mins(2);

/// How many connections there are at a time; others wait.
const CONNECTIONS: usize = 256;

/// Whether a node pool is let in: `Err` has the sentence for the person who asked.
///
/// What is being deleted is always let in, and so is what is asked as it was before: a pool that came in while the webhook was away
/// must be able to get and to lose its finalizer.
pub(crate) fn judge(new: &NodePool, old: Option<&NodePool>) -> Result<(), String> {
    let unchanged = old.is_some_and(|old| old.spec == new.spec);
    if new.metadata.deletion_timestamp.is_some() || unchanged {
        return Ok(());
    }
    match convert::spec(new) {
        Ok(_) => Ok(()),
        Err(invalid) => Err(invalid.to_string()),
    }
}

/// Answers the API server over TLS until `stop`, with whatever certificate is served at the time; without one, handshakes fail.
///
/// # Errors
/// If TLS can't be set up.
pub(crate) async fn serve(
    listener: TcpListener,
    serving: Serving,
    stop: CancellationToken,
) -> Result<(), rustls::Error> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(serving)?));
    let open = Arc::new(Semaphore::new(CONNECTIONS));
    let shutdown = GracefulShutdown::new();
    loop {
        let accept = async {
            let permit = Arc::clone(&open).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, stream) = tokio::select! {
            accepted = accept => accepted,
            () = stop.cancelled() => break,
        };
        let Ok((stream, _)) = stream else {
            // There are too many open files, for now.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let acceptor = acceptor.clone();
        let watcher = shutdown.watcher();
        let ended = stop.clone();
        tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                stream = timeout(LIMIT, acceptor.accept(stream)) => match stream {
                    Ok(Ok(stream)) => connection(stream, watcher).await,
                    Ok(Err(error)) => debug!("no handshake with the webhook's client: {error}"),
                    Err(_) => debug!("the webhook's client does not finish its handshake"),
                },
                () = ended.cancelled() => {}
            }
        });
    }
    // Whoever is left then is not the API server.
    let _ = timeout(LIMIT, shutdown.shutdown()).await;
    Ok(())
}

fn tls(serving: Serving) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(serving));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

async fn connection(stream: tokio_rustls::server::TlsStream<TcpStream>, watcher: Watcher) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router()));
    if let Err(error) = watcher.watch(connection).await {
        debug!("a connection of the webhook ended: {error}");
    }
}

fn router() -> Router {
    Router::new()
        .route(PATH, post(validate))
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(from_fn(in_time))
}

async fn in_time(request: Request, next: Next) -> Response {
    match timeout(LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

async fn validate(body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return rejection.into_response(),
    };
    match answer(&body) {
        Ok(review) => axum::Json(review).into_response(),
        Err(reason) => (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response(),
    }
}

/// The answer to a review, or why it is none.
fn answer(body: &[u8]) -> Result<AdmissionReview<DynamicObject>, String> {
    let review: AdmissionReview<DynamicObject> =
        serde_json::from_slice(body).map_err(|error| format!("not an AdmissionReview: {error}"))?;
    if review.types.api_version != kube::core::admission::META_API_VERSION_V1
        || review.types.kind != kube::core::admission::META_KIND
    {
        return Err("not an AdmissionReview of admission.k8s.io/v1".to_owned());
    }
    let request: AdmissionRequest<DynamicObject> = review
        .try_into()
        .map_err(|_| "the AdmissionReview has no request".to_owned())?;
    let response = AdmissionResponse::from(&request);
    let response = match decide(&request)? {
        Ok(()) => response,
        Err(reason) => {
            let mut response = response.deny(reason);
            // As a person reads it: `invalid` and not `forbidden`.
            response.result.code = 422;
            "Invalid".clone_into(&mut response.result.reason);
            response
        }
    };
    Ok(response.into_review())
}

fn decide(request: &AdmissionRequest<DynamicObject>) -> Result<Result<(), String>, String> {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(Ok(()));
    }
    let Some(new) = &request.object else {
        return Err("the request has no object".to_owned());
    };
    if new.metadata.deletion_timestamp.is_some() {
        return Ok(Ok(()));
    }
    // An old object that can't be read is one of another version: then the new one is judged as if it were the first.
    let old = request.old_object.as_ref().and_then(|old| typed(old).ok());
    Ok(match typed::<NodePool>(new) {
        Ok(new) => judge(&new, old.as_ref()),
        Err(error) => Err(format!(
            "This version of migpool's operator can't read the node pool: {error}."
        )),
    })
}

fn typed<T: DeserializeOwned>(object: &DynamicObject) -> Result<T, serde_json::Error> {
    serde_json::to_value(object).and_then(serde_json::from_value::<T>)
}

#[cfg(test)]
mod tests;
