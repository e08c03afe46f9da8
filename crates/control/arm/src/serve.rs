//! The front on a Unix socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::ServiceExt;
use axum::extract::Request;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::account::Account;
use crate::backend::Backend;
use crate::routes::{Front, FrontSettings, Scheme};

/// How long requests that are under way at the end may take.
const GRACE: Duration = Duration::from_secs(5);

/// Serves `backend` on `listener` until `cancel`. Who may connect is the business of the socket's file mode.
///
/// # Errors
/// If the listener fails.
pub async fn serve<B: Backend>(
    listener: UnixListener,
    backend: Arc<B>,
    account: Account,
    cancel: CancellationToken,
) -> io::Result<()> {
    let settings = FrontSettings {
        scheme: Scheme::Http,
        account,
    };
    let front = ServiceExt::<Request>::into_make_service(Front::new(backend, settings));
    let server =
        axum::serve(listener, front).with_graceful_shutdown(cancel.clone().cancelled_owned());
    let too_long = async {
        cancel.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = server => result,
        () = too_long => Ok(()),
    }
}
