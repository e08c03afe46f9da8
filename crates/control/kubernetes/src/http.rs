//! `/healthz`, `/readyz` and `/metrics`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::leader::Mandate;
use crate::metrics::{self, Metrics};

/// How long the operator's loop may take for a turn until it counts as hung.
const LONGEST_SILENCE: Duration = Duration::from_mins(1);

/// The sign of life of the operator's loop. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat(Arc<Beats>);

#[derive(Debug)]
struct Beats {
    start: Instant,
    /// When the last one was, in milliseconds since `start`.
    last: AtomicU64,
}

impl Heartbeat {
    /// One that begins with a beat.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Beats {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }))
    }

    /// Says that the loop turns. A loop that waits for something has to wake up for it at least twice a minute.
    pub(crate) fn beat(&self) {
        let now = u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(now, Ordering::Relaxed);
    }

    /// How long ago the last beat was.
    pub(crate) fn age(&self) -> Duration {
        let last = Duration::from_millis(self.0.last.load(Ordering::Relaxed));
        self.0.start.elapsed().saturating_sub(last)
    }
}

/// What the answers are made of.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    /// Whether the operator's loop turns.
    pub(crate) heartbeat: Heartbeat,
    /// Whether the caches are filled.
    pub(crate) synced: watch::Receiver<bool>,
    /// Whether this replica acts.
    pub(crate) mandate: Mandate,
    /// The figures.
    pub(crate) metrics: Metrics,
}

/// Answers until `stop`.
///
/// # Errors
/// If the listener can't be used any more.
pub(crate) fn serve(
    listener: TcpListener,
    sources: Sources,
    stop: CancellationToken,
) -> impl Future<Output = std::io::Result<()>> {
    axum::serve(listener, router(sources))
        .with_graceful_shutdown(stop.cancelled_owned())
        .into_future()
}

fn router(sources: Sources) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(sources)
}

async fn healthz(State(sources): State<Sources>) -> Response {
    let silence = sources.heartbeat.age();
    if silence < LONGEST_SILENCE {
        return "ok\n".into_response();
    }
    let reason = format!(
        "the operator has not come round for {} seconds\n",
        silence.as_secs()
    );
    (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
}

async fn readyz(State(sources): State<Sources>) -> Response {
    if !*sources.synced.borrow() {
        let reason = "not everything was read from the API server yet\n";
        return (StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    }
    if sources.mandate.holds() {
        "leader\n".into_response()
    } else {
        "standby\n".into_response()
    }
}

async fn metrics_text(State(sources): State<Sources>) -> Response {
    match sources.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get(sources: &Sources, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(sources.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn sources(synced: bool, leads: bool, heartbeat: Heartbeat) -> Sources {
        Sources {
            heartbeat,
            synced: watch::channel(synced).1,
            mandate: Mandate::fixed(leads),
            metrics: Metrics::new(),
        }
    }

    #[tokio::test]
    async fn a_standby_is_ready_once_it_has_read_everything() {
        for (synced, leads, code, text) in [
            (true, true, 200, "leader"),
            (true, false, 200, "standby"),
            (false, false, 503, "not everything"),
        ] {
            let (status, body) = get(&sources(synced, leads, Heartbeat::new()), "/readyz").await;
            assert_eq!(status.as_u16(), code);
            assert!(body.starts_with(text), "{body}");
        }
    }

    #[tokio::test]
    async fn a_loop_that_hangs_is_not_healthy() {
        let Some(start) = Instant::now().checked_sub(Duration::from_secs(90)) else {
            return;
        };
        let heartbeat = Heartbeat(Arc::new(Beats {
            start,
            last: AtomicU64::new(0),
        }));
        let sources = sources(true, true, heartbeat.clone());
        let (status, body) = get(&sources, "/healthz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("90 seconds"), "{body}");
        heartbeat.beat();
        assert_eq!(get(&sources, "/healthz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn the_figures_are_told() {
        let sources = sources(true, true, Heartbeat::new());
        let (status, body) = get(&sources, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("migpool_operator_leader 0"), "{body}");
    }
}
