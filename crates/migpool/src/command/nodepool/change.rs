//! What is done with a node pool of this machine beside making, scaling and deleting it: stop and start it, abort what is going
//! on, delete certain nodes.

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::{Named, table_of_one};
use crate::failure::Failure;
use crate::output::print;

/// `nodepool stop` and `nodepool start`.
#[derive(Debug, Args)]
pub(crate) struct Turn {
    #[command(flatten)]
    pub(super) pool: Named,
    /// Do not wait until it is done
    #[arg(long)]
    no_wait: bool,
}

/// `nodepool operation-abort`.
#[derive(Debug, Args)]
pub(crate) struct Abort {
    #[command(flatten)]
    pub(super) pool: Named,
}

/// `nodepool delete-machines`.
#[derive(Debug, Args)]
pub(crate) struct DeleteMachines {
    #[command(flatten)]
    pub(super) pool: Named,
    /// The names of the nodes that are to go
    #[arg(long, num_args = 1.., required = true)]
    machine_names: Vec<String>,
    /// Do not wait until it is done
    #[arg(long)]
    no_wait: bool,
}

impl Turn {
    /// Gives the pool a power state: `Running` or `Stopped`.
    pub(super) async fn run(&self, power: &str) -> Result<(), Failure> {
        let connection = &self.pool.cluster.connection;
        let client = connection.client()?;
        let path = self.pool.path();
        // az's way: the whole pool as it is, put back with another power state.
        let mut pool = client.get(&path).await?;
        if let Some(properties) = pool
            .pointer_mut("/properties")
            .and_then(Value::as_object_mut)
        {
            properties.insert("powerState".into(), json!({ "code": power }));
        }
        let doing = if power == "Stopped" {
            "stopping"
        } else {
            "starting"
        };
        let what = format!("{doing} node pool {}", self.pool.name);
        match client.put(&path, &pool, &what, self.no_wait).await? {
            Some(turned) => print(connection.output, &turned, table_of_one),
            None => Ok(()),
        }
    }
}

impl Abort {
    /// Aborts the operation in progress.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let client = self.pool.cluster.connection.client()?;
        let path = format!("{}/abort", self.pool.path());
        let started = client.call(Method::POST, &path, None).await?;
        let what = format!("aborting what is done to node pool {}", self.pool.name);
        client.wait(&started, &what).await
    }
}

impl DeleteMachines {
    /// Deletes the nodes; the pool has so many fewer then.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let client = self.pool.cluster.connection.client()?;
        let path = format!("{}/deleteMachines", self.pool.path());
        let body = json!({ "machineNames": self.machine_names });
        let started = client.call(Method::POST, &path, Some(&body)).await?;
        if self.no_wait {
            return Ok(());
        }
        let what = format!("deleting nodes of node pool {}", self.pool.name);
        client.wait(&started, &what).await
    }
}

/// What to do instead for a pool of a Kubernetes cluster.
pub(super) fn not_on_cluster(instead: &str) -> Failure {
    Failure::usage("this is for the node pools of `migpool up`").with_help(instead.to_owned())
}
