//! What the demo prints: steps, commands with their output, and promises kept or broken.

use std::process::Command;
use std::time::Duration;

use owo_colors::OwoColorize;
use serde::de::DeserializeOwned;

use super::{Expected, code_of, interrupt};
use crate::failure::Failure;

/// The demo's story as it is told.
#[derive(Debug, Default)]
pub(crate) struct Script {
    kept: u32,
    broken: u32,
}

impl Script {
    /// Nothing told yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Promises that did not hold.
    pub(crate) fn broken(&self) -> u32 {
        self.broken
    }

    /// Says how it ended.
    pub(crate) fn conclude(&self, took: Duration) {
        let kept = self.kept;
        let took = took.as_secs_f64();
        if self.broken == 0 {
            anstream::println!(
                "\n{} {kept} promises kept in {took:.1} s.",
                "Done:".green().bold()
            );
        } else {
            anstream::println!(
                "\n{} {kept} promises kept, {} broken, in {took:.1} s.",
                "Failed:".red().bold(),
                self.broken
            );
        }
    }

    /// Runs a command that must succeed.
    pub(crate) fn run_well(&mut self, command: Command) -> Result<Ran, Failure> {
        let ran = run(command)?;
        if ran.success {
            return Ok(ran);
        }
        self.promise("the command succeeds", false, &ran.status);
        Err(Failure::failed(format!(
            "a step of the article failed ({})",
            ran.status
        )))
    }

    /// What the article promises, whether it held, and what was seen.
    pub(crate) fn promise(&mut self, promise: &str, held: bool, seen: &str) {
        if held {
            self.kept += 1;
            anstream::println!("   {} {promise} — {seen}", "✓".green());
        } else {
            self.broken += 1;
            anstream::println!("   {} {promise}; seen instead: {seen}", "✗".red().bold());
        }
    }
}

/// Says what is going to happen.
pub(crate) fn introduce(expected: &Expected) {
    anstream::println!(
        "The article \"Create a multi-instance GPU node pool in AKS\", on this machine: {} SIMULATED {} per node,\n\
         cut into {} x {}, advertised as {}. No Kubernetes, no GPU, nothing left behind.",
        expected.gpus,
        expected.product,
        expected.slices,
        expected.profile,
        expected.resource
    );
}

/// A new step of the article.
pub(crate) fn step(number: u32, title: &str) {
    anstream::println!("\n{}", format!("{number}. {title}").bold());
}

/// A word between commands.
pub(crate) fn say(text: &str) {
    anstream::println!("   {}", text.dimmed());
}

/// Runs a command, printing it and what it prints. The exit code is part of what the caller gets.
pub(crate) fn run(mut command: Command) -> Result<Ran, Failure> {
    if interrupt::came() {
        return Err(Failure::failed("interrupted; everything was cleaned up"));
    }
    let words: Vec<_> = command
        .get_args()
        .map(|word| quoted(&word.to_string_lossy()))
        .collect();
    anstream::println!("   {} migpool {}", "$".cyan(), words.join(" "));
    let output = command
        .output()
        .map_err(|error| Failure::failed(format!("cannot run migpool: {error}")))?;
    let ran = Ran {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        success: output.status.success(),
        status: code_of(output.status),
    };
    for line in ran.stdout.lines().chain(ran.stderr.lines()) {
        anstream::println!("     {line}");
    }
    Ok(ran)
}

/// The JSON that a command prints, without telling of it: how the promises are checked.
pub(crate) fn ask<T: DeserializeOwned>(mut command: Command) -> Result<T, Failure> {
    let output = command
        .output()
        .map_err(|error| Failure::failed(format!("cannot run migpool: {error}")))?;
    serde_json::from_slice(&output.stdout).map_err(|error| {
        Failure::failed(format!(
            "a command that checks did not answer with JSON ({error}): {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    })
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    /// What it printed.
    pub(crate) stdout: String,
    /// What it printed as errors and warnings.
    pub(crate) stderr: String,
    /// Whether its exit code was 0.
    pub(crate) success: bool,
    /// How it ended, in words.
    pub(crate) status: String,
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{word}'")
    }
}
