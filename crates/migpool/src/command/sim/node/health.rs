//! `/healthz` and `/readyz`, for the kubelet's probes.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::machine::Gpus;
use crate::failure::Failure;

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Readiness {
    driver: Result<Gpus, String>,
    labels: Result<(), String>,
}

impl Readiness {
    /// Nothing is there yet; labels matter only where there are to be some.
    pub(super) fn new(with_labels: bool) -> Readiness {
        let labels = if with_labels {
            Err("the node is not labelled yet".to_owned())
        } else {
            Ok(())
        };
        Readiness {
            driver: Err("the simulated driver is not there yet".to_owned()),
            labels,
        }
    }

    /// The GPUs, once they are there.
    pub(super) fn gpus(&self) -> Option<&Gpus> {
        self.driver.as_ref().ok()
    }

    /// Says whether that is news.
    pub(super) fn set_driver(&mut self, driver: Result<Gpus, String>) -> bool {
        let news = self.driver != driver;
        self.driver = driver;
        news
    }

    /// Says whether that is news.
    pub(super) fn set_labels(&mut self, labels: Result<(), String>) -> bool {
        let news = self.labels != labels;
        self.labels = labels;
        news
    }

    /// What is still wrong.
    fn answer(&self) -> (StatusCode, String) {
        let wrong: Vec<&str> = [self.driver.as_ref().err(), self.labels.as_ref().err()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        if wrong.is_empty() {
            (
                StatusCode::OK,
                "ready: every GPU here is simulated\n".to_owned(),
            )
        } else {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{}\n", wrong.join("\n")),
            )
        }
    }
}

/// Answers in the background until `stop`.
pub(super) async fn serve(
    address: SocketAddr,
    readiness: watch::Receiver<Readiness>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(format!("cannot listen on {address}: {error}"))
            .with_help("give another address with --listen, or end what listens there")
    })?;
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(readiness);
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!("no longer answering probes on {address}: {error}");
        }
    });
    Ok(())
}

async fn readyz(State(readiness): State<watch::Receiver<Readiness>>) -> (StatusCode, String) {
    readiness.borrow().answer()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_nothing_is_wrong_and_says_all_that_is() {
        let mut readiness = Readiness::new(true);
        let (code, text) = readiness.answer();
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(readiness.set_labels(Ok(())));
        assert!(readiness.set_driver(Err("no right to mount".to_owned())));
        assert!(!readiness.set_driver(Err("no right to mount".to_owned())));
        assert_eq!(readiness.answer().1, "no right to mount\n");
    }
}
