//! An interrupted demo cleans up, too.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;
use crate::runtime::{block_on, cancelled_by_signals};

static CAME: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM are only remembered.
pub(super) fn watch() -> Result<(), Failure> {
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        block_on(async {
            let cancelled = cancelled_by_signals();
            let failed = cancelled.as_ref().err().map(ToString::to_string);
            // The one who waits for this is the thread that started us.
            let _ = ready.send(failed);
            cancelled?.cancelled().await;
            CAME.store(true, Ordering::Relaxed);
            Ok(())
        })
    });
    match is_ready.recv() {
        Ok(None) => Ok(()),
        Ok(Some(error)) => Err(Failure::failed(format!(
            "cannot watch for signals: {error}"
        ))),
        Err(_) => Err(Failure::failed("cannot watch for signals")),
    }
}

/// Whether one came.
pub(super) fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}
