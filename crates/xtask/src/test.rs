//! `cargo xtask test`: everything that must hold before a change lands.

use std::process::Command;

use clap::{Args, ValueEnum};

use crate::demo;
use crate::step::{Error, cargo, run, run_reading};

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
        if wanted(Part::Tests) {
            let mut tests = cargo(&["test", "--workspace", "--no-fail-fast"]);
            let failed_before = tally.failed;
            let outcome = run_reading(&mut tests, |line| tally.read(line));
            match outcome {
                Ok(()) => {}
                // A test that failed is counted already; what did not even build is not.
                Err(error) if tally.failed == failed_before => tally.part(Err(error)),
                Err(error) => tally.reasons.push(error.to_string()),
            }
        }
        if wanted(Part::Demo) {
            tally.part(demo::run());
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
