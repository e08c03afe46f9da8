//! One file per noun of the command line.

pub(crate) mod agent;
pub(crate) mod azure;
pub(crate) mod cluster;
pub(crate) mod completions;
pub(crate) mod group;
pub(crate) mod node;
pub(crate) mod nodepool;
pub(crate) mod operator;
pub(crate) mod partition;
pub(crate) mod pod;
pub(crate) mod profiles;
pub(crate) mod rest;
pub(crate) mod retire;
pub(crate) mod scope;
pub(crate) mod serve;
pub(crate) mod sim;
pub(crate) mod smi;
pub(crate) mod up;

use crate::arguments::{Arguments, Noun};
use crate::failure::Failure;
use crate::runtime::block_on;

/// Runs what the command line asks for.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.noun {
        Noun::Demo(demo) => demo.run(),
        Noun::Up(up) => block_on(up.run()),
        Noun::Azure(azure) => block_on(azure.run()),
        Noun::Group(group) => block_on(group.run()),
        Noun::Cluster(cluster) => block_on(cluster.run()),
        Noun::Nodepool(nodepool) => block_on(nodepool.run()),
        Noun::Node(node) => block_on(node.run()),
        Noun::Pod(pod) => block_on(pod.run()),
        Noun::Rest(rest) => block_on(rest.run()),
        Noun::Profiles(profiles) => profiles.run(),
        Noun::Partition(partition) => partition.run(),
        Noun::DevicePlugin(plugin) => block_on(plugin.run()),
        Noun::FeatureDiscovery(discovery) => block_on(discovery.run()),
        Noun::Agent(agent) => block_on(agent.run()),
        Noun::Operator(operator) => block_on(operator.run()),
        Noun::Serve(serve) => block_on(serve.run()),
        Noun::Crds(crds) => crds.run(),
        Noun::Smi(smi) => smi.run(),
        Noun::Sim(sim) => sim.run(),
        Noun::Completions(completions) => completions.run(),
        Noun::Retire(retire) => block_on(retire.run()),
        Noun::PodShim(shim) => shim.run(),
    }
}
