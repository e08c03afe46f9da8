//! `/healthz`, `/readyz` and `/metrics`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::pulse::Pulse;
use crate::{Status, metrics};

/// How long the driver may hang before the agent counts as dead: changing the MIG mode of many GPUs takes a while.
const LONGEST_SILENCE: Duration = Duration::from_mins(5);

#[derive(Clone)]
struct Sources {
    status: watch::Receiver<Arc<Status>>,
    pulse: Arc<Pulse>,
}

/// Answers until `stop`.
pub(crate) fn serve(
    listener: TcpListener,
    status: watch::Receiver<Arc<Status>>,
    pulse: Arc<Pulse>,
    stop: CancellationToken,
) -> impl Future<Output = std::io::Result<()>> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(Sources { status, pulse });
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .into_future()
}

async fn healthz(State(sources): State<Sources>) -> Response {
    let silence = sources.pulse.age();
    if silence < LONGEST_SILENCE {
        return "ok\n".into_response();
    }
    let reason = format!(
        "the driver has not answered for {} seconds\n",
        silence.as_secs()
    );
    (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
}

async fn readyz(State(sources): State<Sources>) -> Response {
    let status = Arc::clone(&sources.status.borrow());
    let code = if status.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        code,
        format!("{}: {}\n", status.phase.as_str(), status.message),
    )
        .into_response()
}

async fn metrics_text(State(sources): State<Sources>) -> Response {
    let status = Arc::clone(&sources.status.borrow());
    match metrics::text(&status) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
