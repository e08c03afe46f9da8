//! `cargo xtask test`: everything that must hold before a change lands.

use std::process::Command;

use clap::{Args, ValueEnum};

use crate::demo;
use crate::images::Images;
use crate::step::{Error, cargo, is_root, root, run, run_reading, target_dir};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// rustfmt
    Format,
    /// clippy, warnings refused
    Lints,
    /// rustdoc, warnings refused
    Docs,
    /// cargo-deny: bans, licences, sources
    Dependencies,
    /// Every test of the workspace
    Tests,
    /// The article in all its forms
    Demo,
    /// The container images, each built twice and compared
    Images,
    /// The suites against a real Kubernetes
    Cluster,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Only these parts
    #[arg(long, value_enum)]
    only: Vec<Part>,
}

/// What has passed and what has not: tests one by one, the other parts one each.
#[derive(Debug, Default)]
struct Tally {
    passed: u64,
    failed: u64,
    reasons: Vec<String>,
}

impl Tally {
    fn part(&mut self, outcome: Result<(), Error>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(error) => {
                self.failed += 1;
                self.reasons.push(error.to_string());
            }
        }
    }

    /// Runs a command that runs tests, and adds them.
    fn tests(&mut self, command: &mut Command) {
        let failed_before = self.failed;
        match run_reading(command, |line| self.read(line)) {
            Ok(()) => {}
            // A test that failed is counted already; what did not even build is not.
            Err(error) if self.failed == failed_before => self.part(Err(error)),
            Err(error) => self.reasons.push(error.to_string()),
        }
    }

    /// Adds what a line such as `test result: ok. 12 passed; 0 failed; ...` counts.
    fn read(&mut self, line: &str) {
        let Some(counts) = line.trim_start().strip_prefix("test result:") else {
            return;
        };
        for part in counts.split(['.', ';']) {
            match part.trim().split_once(' ') {
                Some((count, "passed")) => self.passed += count.parse().unwrap_or(0),
                Some((count, "failed")) => self.failed += count.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

impl Test {
    /// Runs the parts in order; a failure does not keep the later ones from being run.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let wanted = |part| self.only.is_empty() || self.only.contains(&part);
        let mut tally = Tally::default();
        if wanted(Part::Format) {
            tally.part(run(&mut cargo(&["fmt", "--all", "--check"])));
        }
        if wanted(Part::Lints) {
            let arguments = [
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ];
            tally.part(run(&mut cargo(&arguments)));
        }
        if wanted(Part::Docs) {
            let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
            tally.part(run(doc.env("RUSTDOCFLAGS", "-D warnings")));
        }
        if wanted(Part::Dependencies) {
            dependencies(&mut tally);
        }
        let on_cluster = [Part::Images, Part::Tests, Part::Cluster]
            .into_iter()
            .any(wanted)
            && can_run_clusters();
        if on_cluster {
            // The test cluster's own tests, among all others, need these.
            tally.part(images(wanted(Part::Images)));
            tally.part(programs().and_then(|()| parts()));
        }
        if wanted(Part::Tests) {
            tally.tests(&mut cargo(&["test", "--workspace", "--no-fail-fast"]));
        }
        if wanted(Part::Demo) {
            tally.part(demo::run());
        }
        if wanted(Part::Cluster) {
            suites(&mut tally, on_cluster);
        }
        println!();
        for reason in &tally.reasons {
            println!("failed: {reason}");
        }
        println!("{} passed, {} failed", tally.passed, tally.failed);
        if tally.failed == 0 {
            Ok(())
        } else {
            Err(Error::Other("not everything passed".to_owned()))
        }
    }
}

/// Whether a Kubernetes can be started on this machine; if not, what is missing.
fn clusters_run_here() -> Result<(), String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("an x86-64 Linux".to_owned());
    }
    if !is_root() {
        return Err("the rights of root, for namespaces, mounts and cgroups".to_owned());
    }
    if Command::new("go").arg("version").output().is_err() {
        return Err("Go, to build Kubernetes".to_owned());
    }
    Ok(())
}

/// Whether what needs a cluster is to be run; where it can't be it is said aloud, but in CI it is tried all the same.
fn can_run_clusters() -> bool {
    let Err(missing) = clusters_run_here() else {
        return true;
    };
    eprintln!(
        "\nSKIPPED: THE CLUSTER SUITES AND THE IMAGES WERE NOT TRIED. This machine lacks {missing}. What migpool promises of a \
         Kubernetes cluster is untested by this run; `cargo xtask e2e` as root runs the suites."
    );
    std::env::var_os("CI").is_some()
}

/// Runs the suites; without a cluster those that need none.
fn suites(tally: &mut Tally, on_cluster: bool) {
    let mut suites = if on_cluster {
        let mut suites = program("e2e");
        // Tests wait most of the time.
        suites.arg("--clusters=2");
        suites
    } else {
        if !has_python_and_curl() && std::env::var_os("CI").is_none() {
            eprintln!(
                "\nSKIPPED: Azure's own clients were not tried against migpool: they need Python 3.11 or newer with venv, and curl"
            );
            return;
        }
        let run = ["run", "--quiet", "--package", "migpool-e2e", "--bin", "e2e"];
        let mut suites = cargo(&run);
        suites.args(["--", "--without-cluster"]);
        suites
    };
    tally.tests(&mut suites);
}

/// Whether Azure's clients, which are Python programs, can be had here.
fn has_python_and_curl() -> bool {
    let script = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";
    let python = Command::new("python3").args(["-c", script]).output();
    let curl = Command::new("curl").arg("--version").output();
    python.is_ok_and(|output| output.status.success()) && curl.is_ok()
}

/// Builds the images, each twice if that is to be checked.
fn images(check: bool) -> Result<(), Error> {
    println!(
        "\n$ cargo xtask images{}",
        if check { " --check" } else { "" }
    );
    let images = Images {
        check,
        ..Images::default()
    };
    images.ensure().map(drop)
}

/// Builds our programs, with the features that their dependencies have for the tests: those are built anyhow, and built alone a
/// program would have half of them built a second time.
fn programs() -> Result<(), Error> {
    run(&mut cargo(&[
        "build",
        "--workspace",
        "--bins",
        "--tests",
        "--quiet",
    ]))
}

/// One of our [`programs`].
fn program(name: &str) -> Command {
    let mut command = Command::new(target_dir().join("debug").join(name));
    command.current_dir(root());
    command
}

/// Builds the programs of a Kubernetes, unless they are there.
fn parts() -> Result<(), Error> {
    run(program("cluster").arg("parts"))
}

fn dependencies(tally: &mut Tally) {
    let installed = Command::new("cargo-deny").arg("--version").output().is_ok();
    if !installed && std::env::var_os("CI").is_none() {
        eprintln!(
            "\nSKIPPED: cargo-deny is not installed (`cargo install --locked cargo-deny`): bans, licences and sources were not checked"
        );
        return;
    }
    tally.part(run(&mut cargo(&[
        "deny",
        "--all-features",
        "check",
        "bans",
        "licenses",
        "sources",
    ])));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tally_adds_up_what_cargo_test_prints() {
        let mut tally = Tally::default();
        tally.read("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        tally
            .read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        tally.read("test planner::it_works ... ok");
        assert_eq!((tally.passed, tally.failed), (15, 2));
    }
}
