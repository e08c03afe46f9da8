//! The article, end to end.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::control_plane::{migpool, output};

fn demo(arguments: &[&str]) -> String {
    let output = output(migpool().arg("demo").args(arguments));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "the demo failed:\n{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!text.contains('✗'), "{text}");
    text
}

#[test]
fn the_demo_keeps_every_promise_with_the_single_strategy() {
    let text = demo(&[]);
    assert!(
        text.contains("Allocatable nvidia.com/gpu: 56 — 56"),
        "{text}"
    );
}

#[test]
fn the_demo_keeps_every_promise_with_the_mixed_strategy() {
    let text = demo(&["--mig-strategy", "mixed", "--gpu-instance-profile", "MIG3g"]);
    assert!(
        text.contains("Allocatable nvidia.com/mig-3g.20gb: 16 — 16"),
        "{text}"
    );
}

#[test]
fn an_nc24ads_with_mig2g_has_three_slices() {
    let text = demo(&[
        "--node-vm-size",
        "Standard_NC24ads_A100_v4",
        "--gpu-instance-profile",
        "MIG2g",
        "--mig-strategy",
        "single",
    ]);
    assert!(text.contains("Allocatable nvidia.com/gpu: 3 — 3"), "{text}");
}

#[test]
fn the_demo_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let output = output(migpool().arg("demo").env("TMPDIR", folder.path()));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_interrupted_demo_ends_its_pods_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = migpool()
        .arg("demo")
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    // A pod runs by now.
    lines
        .find(|line| line.as_ref().unwrap().contains("5. Device plugin"))
        .unwrap()
        .unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&demo),
        rustix::process::Signal::INT,
    )
    .unwrap();
    lines.for_each(drop);
    assert!(!demo.wait().unwrap().success());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let shims = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|process| {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains(folder.path().to_str().unwrap())
        });
    assert_eq!(shims.count(), 0, "no process of it is left");
}
