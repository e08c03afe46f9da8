//! The command line: its nouns, and the options that many of them share.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::client::Client;
use crate::command::{
    agent, azure, cluster, completions, group, node, nodepool, operator, partition, pod, profiles,
    rest, retire, serve, sim, smi, up,
};
use crate::demo;
use crate::failure::Failure;
use crate::output::Format;

/// Multi-instance GPU node pools for any Kubernetes.
///
/// A pool of nodes with a GPU instance profile: migpool partitions every NVIDIA GPU there into MIG instances,
/// advertises them to Kubernetes, labels the nodes, and a pod that asks for a slice gets exactly that slice.
#[derive(Debug, Parser)]
#[command(
    name = "migpool",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = "Start with `migpool demo`: the whole way from an empty machine to a pod with its slice, on simulated GPUs.\n\
                  Exit codes: 0 done, 1 failed, 2 misused."
)]
pub(crate) struct Arguments {
    /// The noun.
    #[command(subcommand)]
    pub(crate) noun: Noun,
}

/// What the command is about.
#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Run the whole article on this machine, on simulated GPUs, checking every promise; then clean up
    Demo(demo::Demo),
    /// Run the control plane on this machine: the ARM API, node pools, local nodes and their pods
    Up(up::Up),
    /// The front for Azure's clients: set az up for it, who may do what, who did what
    #[command(subcommand)]
    Azure(azure::Azure),
    /// Resource groups
    #[command(subcommand)]
    Group(group::Group),
    /// Clusters
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Node pools, with az's flags
    #[command(subcommand)]
    Nodepool(nodepool::Nodepool),
    /// The nodes of a cluster, and who holds which slice
    #[command(subcommand)]
    Node(node::Node),
    /// Pods on local nodes, from ordinary Pod manifests
    #[command(subcommand)]
    Pod(pod::Pod),
    /// One request to the ARM API, as `az rest`
    Rest(rest::Rest),
    /// The MIG profiles of a board or VM size
    Profiles(profiles::Profiles),
    /// Bring this machine's GPUs to a layout: plan, apply, assert, export
    #[command(subcommand)]
    Partition(partition::Partition),
    /// Advertise this node's GPUs and MIG devices to the kubelet (NVIDIA's flags and environment variables)
    DevicePlugin(agent::DevicePlugin),
    /// Write this node's GPU labels (NVIDIA's flags and environment variables)
    FeatureDiscovery(agent::FeatureDiscovery),
    /// Partition, device plugin and feature discovery in one process
    Agent(Box<agent::Agent>),
    /// Node pools on a Kubernetes cluster: bring its nodes to what the NodePools say
    Operator(Box<operator::Operator>),
    /// The front for Azure's clients on a Kubernetes cluster
    Serve(Box<serve::Serve>),
    /// Print the CustomResourceDefinitions of NodePool and GpuNode
    Crds(operator::Crds),
    /// nvidia-smi's everyday commands; also under the name `nvidia-smi`
    Smi(smi::Smi),
    /// Simulated driver roots: GPUs for any NVML program, on a machine that has none
    #[command(subcommand)]
    Sim(sim::Sim),
    /// Print the completions of a shell
    Completions(completions::Completions),
    /// Delete migpool's DaemonSets and wait for their pods; run by the charts before `helm uninstall`, not by people
    #[command(hide = true)]
    Retire(retire::Retire),
    /// One container of a pod on a local node; started by `migpool up`, not by people
    #[command(hide = true)]
    PodShim(pod::PodShim),
}

/// How to reach the control plane, and how to print what it answers.
#[derive(Debug, Clone, Args)]
pub(crate) struct Connection {
    /// The state folder of the `migpool up` to talk to
    #[command(flatten)]
    pub(crate) state: StateDir,
    /// The ARM api-version of clusters and pools. One older than 2021-08-01 does not know GPU instance profiles
    #[arg(long, value_name = "DATE", global = true)]
    pub(crate) api_version: Option<String>,
    /// The format of what is printed
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "table",
        global = true
    )]
    pub(crate) output: Format,
}

impl Connection {
    /// A client of the control plane.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.state.path()?, self.api_version.clone()))
    }
}

/// The state folder.
#[derive(Debug, Clone, Args)]
pub(crate) struct StateDir {
    /// The state folder of the control plane on this machine [default: $XDG_STATE_HOME/migpool]
    #[arg(long, value_name = "DIR", env = "MIGPOOL_STATE_DIR", global = true)]
    pub(crate) state_dir: Option<PathBuf>,
}

impl StateDir {
    /// The folder that was named, or the user's own.
    pub(crate) fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(dir) = &self.state_dir {
            return std::path::absolute(dir).map_err(|error| {
                Failure::usage(format!("{} is not a usable path: {error}", dir.display()))
            });
        }
        if let Some(base) = std::env::var_os("XDG_STATE_HOME").filter(|base| !base.is_empty()) {
            return Ok(PathBuf::from(base).join("migpool"));
        }
        match std::env::home_dir() {
            Some(home) if !home.as_os_str().is_empty() => Ok(home.join(".local/state/migpool")),
            _ => Err(
                Failure::usage("there is no home folder to keep the state in")
                    .with_help("name a state folder with --state-dir or MIGPOOL_STATE_DIR"),
            ),
        }
    }
}

/// The folder under which the NVIDIA driver is installed.
#[derive(Debug, Clone, Args)]
pub(crate) struct DriverRoot {
    /// The folder under which the NVIDIA driver is installed, or a simulated driver root
    #[arg(
        long = "driver-root",
        visible_alias = "nvidia-driver-root",
        value_name = "DIR",
        env = "NVIDIA_DRIVER_ROOT",
        default_value = "/"
    )]
    pub(crate) driver_root: PathBuf,
}

/// Reads the command line.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Arguments, Failure> {
    Ok(Arguments::try_parse_from(arguments)?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
