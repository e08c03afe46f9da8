//! The asynchronous runtime, the signals that end a long-running command, and its log.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::failure::Failure;

/// Runs one future to its end on a single-threaded runtime: none of the commands needs more than one core.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))?
        .block_on(future)
}

/// A token that is cancelled by SIGINT or SIGTERM. Must be called within the runtime.
pub(crate) fn cancelled_by_signals() -> Result<CancellationToken, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        }
        cancel.cancel();
    });
    Ok(token)
}

/// Writes the log to standard error. `RUST_LOG` chooses what is written (`debug`, `agent=debug,warn`); `info` otherwise.
pub(crate) fn start_log() {
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    let (filter, refused) = match asked.trim() {
        "" => (Targets::new().with_default(LevelFilter::INFO), None),
        text => match text.parse::<Targets>() {
            Ok(filter) => (filter, None),
            Err(error) => (Targets::new().with_default(LevelFilter::INFO), Some(error)),
        },
    };
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_target(false)
        // A line that can't be written (a full disk) is lost; complaining of it on the same stream would panic.
        .log_internal_errors(false);
    // A second subscriber in one process can't happen: each command starts the log once.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    if let Some(error) = refused {
        tracing::warn!(%error, RUST_LOG = asked, "RUST_LOG is not understood, so info is logged; write LEVEL or TARGET=LEVEL,..");
    }
}
