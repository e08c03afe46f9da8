//! Ends the agent when its parent dies.

use std::io::{self, Read};
use std::thread;

use tokio_util::sync::CancellationToken;

/// Cancels `stop` when standard input is closed, as happens when the process at its other end dies, however it dies.
pub(crate) fn watch(stop: CancellationToken) -> io::Result<()> {
    thread::Builder::new()
        .name("lifeline".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || {
            wait_for_end(io::stdin().lock());
            tracing::info!("standard input was closed: ending");
            stop.cancel();
        })
        .map(|_| ())
}

/// Reads to the end; what is read does not matter.
fn wait_for_end(mut input: impl Read) {
    let mut buffer = [0; 64];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn input_that_is_open_is_waited_on_and_its_end_is_noticed() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let waiting = thread::spawn(move || wait_for_end(ours));
        theirs.write_all(b"still here").unwrap();
        assert!(!waiting.is_finished());
        drop(theirs);
        waiting.join().unwrap();
    }
}
