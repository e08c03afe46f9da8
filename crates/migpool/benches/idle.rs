//! What a server takes that has nothing to do: `migpool up` with the front for Azure's clients.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Runs; the median counts.
const RUNS: usize = 3;
/// How long it is left alone before it is looked at.
const IDLE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 18443;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut memory = Vec::new();
    for _ in 0..RUNS {
        let folder = tempfile::tempdir()?;
        memory.push(resident(folder.path())?);
    }
    memory.sort_unstable();
    let median = f64::from(memory.get(RUNS / 2).copied().unwrap_or_default()) / 1024.0;
    println!(
        "an idle server's resident memory, median of {RUNS}: {median:.1} MiB, goal 20 MiB, ratio {:.2}",
        median / 20.0
    );
    Ok(())
}

/// The resident KiB of a server that has been idle for a while.
fn resident(folder: &Path) -> Result<u32, Box<dyn std::error::Error>> {
    let server = Server(
        Command::new(env!("CARGO_BIN_EXE_migpool"))
            .args(["up", "--azure", "--azure-listen"])
            .arg(format!("127.0.0.1:{PORT}"))
            .arg("--state-dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?,
    );
    let began = Instant::now();
    let answers = || {
        UnixStream::connect(folder.join("api.sock")).is_ok()
            && TcpStream::connect(("127.0.0.1", PORT)).is_ok()
    };
    while !answers() {
        if began.elapsed() > PATIENCE {
            return Err("the server does not answer".into());
        }
        sleep(Duration::from_millis(50));
    }
    sleep(IDLE);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.0.id()))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("no VmRSS")?.parse()?)
}

/// A server that does not outlive the benchmark.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
