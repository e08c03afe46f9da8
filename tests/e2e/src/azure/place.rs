//! Where a front is: what holds of one has to hold of the other.

use super::{CLUSTER, Front, GROUP, Shell, Up};
use crate::machine::Machine;
use crate::world::World;

/// How many nodes of the article's size a cluster has. On one machine there are as many as are asked for.
const NODES: &str = "1";

/// A front for Azure's clients, and all in which it matters where it is.
pub(crate) enum Place<'m> {
    /// Of `migpool up --azure`.
    Machine(Up<'m>),
    /// Of the chart.
    Cluster(Front<'m>),
}

impl<'m> Place<'m> {
    /// Starts `migpool up --azure` in a folder of this name.
    ///
    /// # Errors
    /// It does not come to answer.
    pub(crate) fn on(machine: &'m Machine, name: &str) -> anyhow::Result<Self> {
        Ok(Self::Machine(Up::start(machine, name)?))
    }

    /// Installs the chart with its front.
    ///
    /// # Errors
    /// It does not come to answer.
    pub(crate) fn in_cluster(world: &'m World) -> anyhow::Result<Self> {
        Ok(Self::Cluster(Front::install(world)?))
    }

    /// A shell in which Azure's clients use it, and the article's group and cluster.
    ///
    /// # Errors
    /// They can't be made.
    pub(crate) fn with_cluster(&self) -> anyhow::Result<Shell<'m>> {
        let shell = match self {
            Self::Machine(up) => up.shell()?,
            Self::Cluster(front) => {
                let mut shell = front.shell()?;
                shell.set("MIGPOOL_E2E_NODES", NODES);
                shell
            }
        };
        shell.done(&format!(
            "az group create --name {GROUP} --location southcentralus --output none &&
             az aks create --resource-group {GROUP} --name {CLUSTER} --node-count 1 --output none"
        ))?;
        Ok(shell)
    }

    /// What the front has written to its log so far.
    ///
    /// # Errors
    /// The log can't be read.
    pub(crate) fn log(&self) -> anyhow::Result<String> {
        match self {
            Self::Machine(up) => up.log(),
            Self::Cluster(front) => front.log(),
        }
    }

    /// Kills the front without a word to it, and waits until it, or another, answers at the same address.
    ///
    /// # Errors
    /// None does.
    pub(crate) fn kill_and_start(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Machine(up) => up.kill_and_start(),
            Self::Cluster(front) => front.replace(),
        }
    }
}
