//! Node pools on a Kubernetes cluster: custom resources, and an operator that brings nodes to what they say.
//!
//! A person writes a [`NodePool`]; the agents of the nodes write [`gpu_node::GpuNode`] objects; the operator compares the two
//! with the very same reconcile as on one machine and writes what is wanted of each node into its `GpuNode`. How the parts
//! fit:
//!
//! - `node_pool` is the custom resource, [`convert`] turns it into the model's record, `status` turns the record's outcome
//!   into conditions.
//! - `view` says what the cluster's objects mean for the model: which nodes a pool has, and which it may take. Pure.
//! - `backend`, `store` and `provider` are [`pool::Store`] and [`pool::NodeProvider`] over what is watched; `cluster_api` is
//!   the provider whose machines come in sets.
//! - `operator` is the shell: watches, leadership, one pool at a time.
//! - For clients of Azure Resource Manager there is a front ([`serve`]), which only writes down what is asked: [`records`] are what
//!   it keeps, as objects of [`record_object`]; `parents` is the operator's side of them.
#![forbid(unsafe_code)]

mod backend;
mod certificate;
mod client;
mod cluster_api;
pub mod convert;
mod crds;
mod credentials;
mod events;
#[cfg(test)]
mod fake_api;
mod front;
mod http;
mod leader;
mod metrics;
pub mod node_pool;
mod operator;
mod parents;
mod people;
mod provider;
pub mod record_object;
pub mod records;
mod secret_storage;
mod serve;
pub mod status;
mod store;
pub mod view;
mod watched;
mod webhook;

pub use backend::{Arm, Caches, KubernetesBackend};
pub use client::ClientError;
pub use crds::{custom_resource_definitions, reference};
pub use credentials::CredentialsConfig;
pub use front::Front;
pub use node_pool::{NodePool, NodePoolSpec, NodePoolStatus};
pub use operator::{OperatorConfig, OperatorError, WebhookConfig, run};
pub use people::{PoolClient, PoolClientError, is_free, progress_of, state_of};
pub use secret_storage::SecretStorage;
pub use serve::{ServeConfig, ServeError, serve};
