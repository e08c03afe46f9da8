//! A disk that is full: what cannot be done is said, nothing that was stored is lost, and all goes on once there is room.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::control_plane::{CLUSTER, GROUP, failure, stdout};

/// A file system of 16 MiB, in a mount namespace of its own that lasts as long as the process that holds it.
struct SmallDisk {
    folder: TempDir,
    holder: Child,
    up: Option<Child>,
}

impl SmallDisk {
    /// `None` where the system does not let its users mount anything.
    fn mount() -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("mp-").tempdir().unwrap();
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
            .arg("mount -t tmpfs -o size=16m none \"$0\" && echo mounted && exec cat")
            .arg(folder.path())
            // Held open: at its end the process ends, also when the test was killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take()?)
            .read_line(&mut said)
            .ok()?;
        if said.trim() != "mounted" {
            let _ = holder.wait();
            return None;
        }
        let disk = Self {
            folder,
            holder,
            up: None,
        };
        let entered = disk.command("true", &[]).status();
        entered.is_ok_and(|status| status.success()).then_some(disk)
    }

    /// The same file seen from outside.
    fn outside(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        PathBuf::from(format!("/proc/{}/root{}", self.holder.id(), path.display()))
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--user", "--preserve-credentials", "--mount", "--target"])
            .arg(self.holder.id().to_string())
            .args(["--", program])
            .args(arguments)
            .env("MIGPOOL_STATE_DIR", self.folder.path().join("s"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    fn migpool(&self, arguments: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_migpool"), arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let mut words = arguments.to_vec();
        words.extend(["-o", "json"]);
        serde_json::from_str(&stdout(&mut self.migpool(&words))).unwrap()
    }

    fn up(&mut self) {
        // The log lies on the small disk, too: what cannot be logged must not end anything.
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.outside("up.log"))
            .unwrap();
        let mut up = self
            .migpool(&["up"])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = up.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        self.up = Some(up);
        assert!(line.contains("migpool is up"), "{line}");
    }

    fn kill_up(&mut self) {
        let mut up = self.up.take().unwrap();
        up.kill().unwrap();
        up.wait().unwrap();
    }

    fn fill(&self) {
        let filled = self
            .command("sh", &["-c", "cat /dev/zero > \"$0\"/fill"])
            .arg(self.folder.path())
            .stderr(Stdio::null())
            .status();
        assert!(!filled.unwrap().success(), "the disk is full");
    }

    fn free(&self) {
        std::fs::remove_file(self.outside("fill")).unwrap();
    }

    fn eventually(&self, what: &str, mut check: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !check(self) {
            let log = std::fs::read_to_string(self.outside("up.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "never: {what}\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn phase(&self, pod: &str) -> String {
        let pods = self.json(&["pod", "list"]);
        let pods = pods.as_array().unwrap();
        let found = pods.iter().find(|found| found["name"] == pod);
        found.unwrap()["phase"].as_str().unwrap().to_owned()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Some(mut up) = self.up.take() {
            // Takes the pods along.
            let _ = std::fs::remove_file(self.outside("fill"));
            let delete = ["group", "delete", "--name", GROUP, "--yes"];
            let _ = self.migpool(&delete).output();
            let _ = up.kill();
            let _ = up.wait();
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn a_full_disk_is_named_loses_nothing_and_is_forgotten_once_there_is_room() {
    let Some(mut disk) = SmallDisk::mount() else {
        #[allow(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!(
                "SKIPPED: no small disk to fill: unshare, nsenter or mounts are not allowed here"
            );
        }
        return;
    };
    disk.up();
    let create = ["group", "create", "--location", "here", "--name"];
    stdout(disk.migpool(&create).arg(GROUP));
    let cluster = [
        "cluster",
        "create",
        "-g",
        GROUP,
        "--node-count",
        "1",
        "--name",
    ];
    stdout(disk.migpool(&cluster).arg(CLUSTER));
    let manifest = disk.outside("pod.yaml");
    let go = disk.folder.path().join("go");
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: job}}\nspec:\n  restartPolicy: Never\n  containers:\n  \
         - name: main\n    command: [sh, -c, 'until [ -e {} ]; do sleep 0.05; done']\n",
        go.display()
    );
    std::fs::write(&manifest, text).unwrap();
    let manifest = disk.folder.path().join("pod.yaml");
    stdout(disk.migpool(&["pod", "run", "-f"]).arg(manifest));
    assert_eq!(disk.phase("job"), "Running");

    disk.fill();
    let (code, said) = failure(disk.migpool(&create).arg("second"));
    assert_eq!(code, 1, "{said}");
    let folder = disk.folder.path().to_str().unwrap();
    let words = said.replace(' ', "");
    assert!(words.contains(folder), "names the folder: {said}");
    assert!(
        said.contains("full") && said.contains("free some space"),
        "{said}"
    );
    let full = std::fs::File::create("/dev/full").unwrap();
    let unheard = disk.migpool(&create).arg("second").stderr(full).status();
    assert_eq!(
        unheard.unwrap().code(),
        Some(1),
        "an error that cannot be written is no panic"
    );
    // An empty file needs no room: the job ends while its end cannot be written down.
    std::fs::write(disk.outside("go"), "").unwrap();
    let pods = disk.json(&["pod", "list"]);
    let pid = pods[0]["containers"][0]["pid"].as_u64();
    if let Some(pid) = pid {
        let process = PathBuf::from(format!("/proc/{pid}"));
        disk.eventually("the job has ended", |_| !process.exists());
    }
    // Killed on a full disk, and started again when there is room.
    disk.kill_up();
    disk.free();
    disk.up();

    let groups = disk.json(&["group", "list"]);
    let names: Vec<_> = groups
        .as_array()
        .unwrap()
        .iter()
        .map(|group| &group["name"])
        .collect();
    assert_eq!(
        names,
        [GROUP],
        "what was stored is there, what was refused is not"
    );
    disk.eventually("the job's good end is known", |disk| {
        disk.phase("job") == "Succeeded"
    });
    disk.eventually("the node is ready again", |disk| {
        disk.json(&["node", "list"])[0]["ready"] == true
    });
    stdout(disk.migpool(&create).arg("second"));
    stdout(&mut disk.migpool(&["group", "delete", "--name", "second", "--yes"]));
}
