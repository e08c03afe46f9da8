//! The test cluster by hand: `cluster up`, `cluster kubectl get pods`, `cluster shell mignode`, `cluster down`.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, Subcommand};
use test_cluster::{Cluster, Config, Error, Lifetime, Parts};

#[derive(Debug, Parser)]
#[command(
    name = "cluster",
    about = "A real Kubernetes of three nodes on this machine",
    disable_help_subcommand = true
)]
struct Arguments {
    /// Which cluster: the name of its state folder in the target folder
    #[arg(long, default_value = "cluster")]
    name: String,
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
        /// Another folder of image archives than target/images
        #[arg(long)]
        images: Option<PathBuf>,
        /// Leave the nodes without simulated boards
        #[arg(long)]
        no_boards: bool,
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
    let Arguments { name, action } = Arguments::parse();
    match run(&name, action) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, action: Action) -> Result<ExitCode, Error> {
    let mut config = Config::new(name, Lifetime::UntilStopped);
    let attach = || Cluster::attach(&config.state_dir);
    match action {
        Action::Parts => {
            Parts::ensure()?;
        }
        Action::Up {
            nodes,
            images,
            no_boards,
        } => {
            if let Some(nodes) = nodes {
                config.nodes = nodes;
            }
            if let Some(images) = images {
                config.images = test_cluster::archives(&images);
            }
            let cluster = Cluster::start(&Parts::ensure()?, &config)?;
            if !no_boards {
                give_boards(&cluster)?;
            }
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

/// Simulated boards for the nodes that are named after them, by our own chart.
fn give_boards(cluster: &Cluster) -> Result<(), Error> {
    for (node, board, count) in [
        ("mignode", "A100-SXM4-40GB", 8),
        ("h100node", "H100-SXM5-80GB", 2),
    ] {
        if cluster.node(node).is_err() {
            continue;
        }
        cluster.helm([
            "upgrade",
            "--install",
            &format!("boards-{node}"),
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/nvml-sim"),
            "--namespace=nvml-sim",
            "--create-namespace",
            &format!("--set=boards[0].name={board},boards[0].count={count}"),
            &format!("--set=nodeSelector.kubernetes\\.io/hostname={node}"),
        ])?;
        // helm does not wait for daemon sets whose pods are replaced by hand only.
        let pods = format!("--selector=app.kubernetes.io/instance=boards-{node}");
        test_cluster::until("the simulated boards", Duration::from_mins(1), || {
            cluster.kubectl([
                "wait",
                "pod",
                "--namespace=nvml-sim",
                &pods,
                "--for=condition=Ready",
                "--timeout=30s",
            ])
        })
        .inspect_err(|_| {
            // What keeps them away is in what they say, and in what the kubelet says of them.
            for show in ["describe", "logs"] {
                let mut command = cluster.command("kubectl");
                let pods = [&pods, "--namespace=nvml-sim"];
                let kind = (show == "describe").then_some("pod");
                let _ = command.arg(show).args(kind).args(pods).status();
            }
        })?;
        println!("{node} has {count} simulated {board}");
    }
    Ok(())
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
