//! `migpool pod`: pods on local nodes, from ordinary Pod manifests.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use local::shim::ShimArgs;
use pool::{ExecEnvironment, Pod as RunningPod, PodPhase};
use serde_json::json;

use crate::arguments::Connection;
use crate::client::Client;
use crate::command::node::from_resource;
use crate::command::scope::{ClusterScope, segment};
use crate::failure::{Failure, chain};
use crate::output::{columns, print, write_line};

/// Pods on local nodes.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    migpool pod run -f examples/single-strategy-example.yaml\n  \
    migpool pod exec nvidia-single -- nvidia-smi -L\n  \
    migpool pod delete nvidia-single")]
pub(crate) enum Pod {
    /// Run the pods of a manifest; the manifest's command runs on this machine, its image is not pulled
    Run(Run),
    /// List the pods, and why those that wait are waiting
    List(List),
    /// Run a command in a pod's view of the machine
    Exec(Exec),
    /// Print what a pod wrote
    Logs(Logs),
    /// End pods and give back their slices
    Delete(Delete),
}

/// Where the pod is.
#[derive(Debug, Args)]
pub(crate) struct Place {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    cluster: ClusterScope,
}

/// `pod run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    place: Place,
    /// The manifest: a file, or - for standard input
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,
    /// Return at once, without waiting until the pods run or it is known why they can't
    #[arg(long)]
    no_wait: bool,
}

/// `pod list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    place: Place,
}

/// `pod exec`.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    place: Place,
    /// The pod
    name: String,
    /// The container; the first one when left out
    #[arg(short, long)]
    container: Option<String>,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// `pod logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    place: Place,
    /// The pod
    name: String,
    /// The container; the first one when left out
    #[arg(short, long)]
    container: Option<String>,
}

/// `pod delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    place: Place,
    /// The pods
    #[arg(required = true)]
    names: Vec<String>,
    /// Return at once, without waiting until they are gone
    #[arg(long)]
    no_wait: bool,
}

/// `pod-shim`: the process between `migpool up` and a container.
#[derive(Debug, Args)]
pub(crate) struct PodShim {
    folder: PathBuf,
    #[arg(long)]
    generation: u64,
    #[arg(long)]
    exec: bool,
}

/// How long `run` and `delete` watch a pod before they leave it to itself and say so.
const PATIENCE: Duration = Duration::from_mins(1);

impl Pod {
    /// Runs it.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Run(run) => run.run().await,
            Self::List(list) => {
                let pods: Vec<RunningPod> = list.place.pods().await?;
                print(list.place.connection.output, &pods, |pods| table(pods))
            }
            Self::Exec(exec) => exec.run().await,
            Self::Logs(logs) => {
                let (client, path) = logs.place.pod(&logs.name).await?;
                let query = container_query(logs.container.as_deref());
                let answer = client
                    .call(Method::GET, &format!("{path}/log{query}"), None)
                    .await?;
                write_line(&answer.text)
            }
            Self::Delete(delete) => delete.run().await,
        }
    }
}

impl Place {
    async fn all(&self) -> Result<(Client, String), Failure> {
        let client = self.connection.client()?;
        let path = format!(
            "{}/providers/Migpool.Local/pods",
            self.cluster.path(&client).await?
        );
        Ok((client, path))
    }

    async fn pod(&self, name: &str) -> Result<(Client, String), Failure> {
        let (client, path) = self.all().await?;
        Ok((client, format!("{path}/{}", segment(name))))
    }

    async fn pods(&self) -> Result<Vec<RunningPod>, Failure> {
        let (client, path) = self.all().await?;
        client
            .list(&path)
            .await?
            .iter()
            .map(from_resource)
            .collect()
    }
}

impl Run {
    async fn run(&self) -> Result<(), Failure> {
        let text = self.read()?;
        // Every document is looked at before the first pod is asked for.
        let documents = local::pod::manifest::documents(&text).map_err(|error| {
            Failure::usage(format!("{}: {}", self.filename.display(), chain(&error)))
        })?;
        let (client, pods) = self.place.all().await?;
        let mut started = Vec::new();
        for document in documents {
            let path = format!("{pods}/{}", segment(&document.name));
            let body = json!({"manifest": document.text});
            let answer = client.call(Method::PUT, &path, Some(&body)).await?;
            let pod: RunningPod = from_resource(&answer.body)?;
            for notice in &pod.notices {
                anstream::eprintln!("note: {notice}");
            }
            started.push((path, pod));
        }
        if !self.no_wait {
            for (path, pod) in &mut started {
                *pod = settle(&client, path).await?;
            }
        }
        let pods: Vec<_> = started.into_iter().map(|(_, pod)| pod).collect();
        print(self.place.connection.output, &pods, |pods| table(pods))
    }

    fn read(&self) -> Result<String, Failure> {
        let read = if self.filename.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            std::fs::read_to_string(&self.filename)
        };
        read.map_err(|error| {
            Failure::usage(format!(
                "cannot read the manifest {}: {error}",
                self.filename.display()
            ))
        })
    }
}

/// Waits until a pod runs or has ended, or it is known why it can't run yet.
async fn settle(client: &Client, path: &str) -> Result<RunningPod, Failure> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(5);
    loop {
        let pod: RunningPod = from_resource(&client.get(path).await?)?;
        let waiting = pod.phase == PodPhase::Pending && pod.message.is_empty();
        if !waiting || tokio::time::Instant::now() > deadline {
            return Ok(pod);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

impl Exec {
    async fn run(&self) -> Result<(), Failure> {
        let (client, path) = self.place.pod(&self.name).await?;
        let query = container_query(self.container.as_deref());
        let path = format!("{path}/execEnvironment{query}");
        let answer = client.call(Method::POST, &path, None).await?;
        let inside: ExecEnvironment = from_resource(&answer.body)?;
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(Failure::usage("no command to run"));
        };
        let mut command = std::process::Command::new(program);
        command.args(arguments).envs(&inside.environment);
        if let Some(folder) = &inside.working_directory {
            command.current_dir(folder);
        }
        // Becomes the command: its terminal, signals and exit code are then its own. Returns only on failure.
        let error = command.exec();
        Err(Failure::failed(format!(
            "cannot run {} in pod {}: {error}",
            program.to_string_lossy(),
            self.name
        )))
    }
}

impl Delete {
    async fn run(&self) -> Result<(), Failure> {
        let (client, pods) = self.place.all().await?;
        let paths: Vec<_> = self
            .names
            .iter()
            .map(|name| (name, format!("{pods}/{}", segment(name))))
            .collect();
        for (_, path) in &paths {
            client.get(path).await?;
        }
        for (_, path) in &paths {
            client.call(Method::DELETE, path, None).await?;
        }
        if self.no_wait {
            return Ok(());
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for (name, path) in &paths {
            let mut pause = Duration::from_millis(5);
            // Only the word that it is not there any more says that it is gone.
            while client.find(path).await?.is_some() {
                if tokio::time::Instant::now() > deadline {
                    return Err(Failure::failed(format!("pod {name} has not ended yet"))
                        .with_help(
                            "it goes on being ended; `migpool pod list` shows when it is gone",
                        ));
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(200));
            }
            anstream::println!("pod \"{name}\" deleted");
        }
        Ok(())
    }
}

impl PodShim {
    /// Runs one container to its end.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let arguments = ShimArgs {
            folder: self.folder,
            generation: self.generation,
            exec: self.exec,
        };
        match local::shim::run(&arguments) {
            code if code == ExitCode::SUCCESS => Ok(()),
            _ => Err(Failure::Silent(1)),
        }
    }
}

fn container_query(container: Option<&str>) -> String {
    container
        .map(|name| format!("?container={}", segment(name)))
        .unwrap_or_default()
}

fn table(pods: &[RunningPod]) -> String {
    columns(
        &["NAME", "STATUS", "NODE", "DEVICES", "MESSAGE"],
        pods.iter().map(|pod| {
            let devices: Vec<_> = pod
                .containers
                .iter()
                .flat_map(|container| container.devices.values().flatten())
                .map(String::as_str)
                .collect();
            let dash = |text: String| {
                if text.is_empty() {
                    "-".to_owned()
                } else {
                    text
                }
            };
            vec![
                pod.name.to_string(),
                format!("{:?}", pod.phase),
                dash(
                    pod.node
                        .as_ref()
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                ),
                dash(devices.join(",")),
                pod.message.clone(),
            ]
        }),
    )
}
