//! The test cluster by hand: `cluster up`, `cluster kubectl get pods`, `cluster shell mignode`, `cluster down`.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use test_cluster::{Cluster, Config, Error, Lifetime, Parts};

#[derive(Debug, Parser)]
#[command(
    name = "cluster",
    about = "A real Kubernetes of three nodes on this machine",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the cluster's programs, if the cache lacks them
    Parts,
    /// Start it; it runs until `down`
    Up {
        /// The nodes' names
        #[arg(long, value_delimiter = ',')]
        nodes: Option<Vec<String>>,
    },
    /// Stop it and delete all that is left of it
    Down,
    /// Run kubectl in it
    Kubectl(Words),
    /// Run helm in it
    Helm(Words),
    /// Open a shell on a node, or run a program there
    Shell {
        /// The node
        node: String,
        #[command(flatten)]
        words: Words,
    },
    /// Show the last lines of every log
    Logs,
}

#[derive(Debug, clap::Args)]
struct Words {
    /// What it is given, as it is
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(Arguments::parse().action) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(action: Action) -> Result<ExitCode, Error> {
    let mut config = Config::new("cluster", Lifetime::UntilStopped);
    let attach = || Cluster::attach(&config.state_dir);
    match action {
        Action::Parts => {
            Parts::ensure()?;
        }
        Action::Up { nodes } => {
            if let Some(nodes) = nodes {
                config.nodes = nodes;
            }
            Cluster::start(&Parts::ensure()?, &config)?;
        }
        Action::Down => Cluster::stop_at(&config.state_dir)?,
        Action::Kubectl(Words { words }) => return pass(attach()?.command("kubectl").args(words)),
        Action::Helm(Words { words }) => return pass(attach()?.command("helm").args(words)),
        Action::Shell { node, words } => {
            let cluster = attach()?;
            let node = cluster.node(&node)?;
            let (program, arguments) = match words.words.split_first() {
                Some((program, arguments)) => (program.clone(), arguments.to_vec()),
                None => ("sh".into(), Vec::new()),
            };
            return pass(node.command(program).args(arguments));
        }
        Action::Logs => println!("{}", attach()?.logs()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a program with our own stdin and output, and ends as it does.
fn pass(command: &mut Command) -> Result<ExitCode, Error> {
    let status = command
        .status()
        .map_err(|source| test_cluster::RunError::Start {
            command: "nsenter".to_owned(),
            source,
        })?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
