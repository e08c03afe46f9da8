//! Processes that are made to hang.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How often it is looked for new ones: before one gets far.
const LOOK: Duration = Duration::from_millis(2);

/// The processes whose command lines have a word are stopped as they come, and go on when this is dropped.
pub(crate) struct Held {
    over: Arc<AtomicBool>,
    holds: Option<JoinHandle<BTreeSet<i32>>>,
}

impl Held {
    pub(super) fn start(word: String) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let holds = thread::spawn(move || {
            let mut held = BTreeSet::new();
            while !ends.load(Ordering::Relaxed) {
                for process in processes(&word) {
                    if held.insert(process) {
                        signal(process, Signal::STOP);
                    }
                }
                thread::sleep(LOOK);
            }
            held
        });
        Self {
            over,
            holds: Some(holds),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let held = self.holds.take().and_then(|holds| holds.join().ok());
        for process in held.into_iter().flatten() {
            signal(process, Signal::CONT);
        }
    }
}

fn signal(process: i32, signal: Signal) {
    if let Some(process) = Pid::from_raw(process) {
        // It may have ended meanwhile.
        let _ = kill_process(process, signal);
    }
}

/// The processes whose command line has `word`.
fn processes(word: &str) -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line)
            .contains(word)
            .then_some(process)
    })
}
