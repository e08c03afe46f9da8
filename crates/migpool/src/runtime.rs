//! The asynchronous runtime, the signals that end a long-running command, and its log.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

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

/// Writes the log to standard error. `RUST_LOG` chooses what is written; `info` otherwise.
pub(crate) fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A second subscriber in one process can't happen: each command starts the log once.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_target(false)
        // A line that can't be written (a full disk) is lost; complaining of it on the same stream would panic.
        .log_internal_errors(false)
        .try_init();
}
