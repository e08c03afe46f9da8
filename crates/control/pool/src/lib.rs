//! The model of node pools: what a person asks for, what is there, and what is to be done about the difference.
//!
//! The crate is the pure core of the control floor; it talks to no machine and no network. How its parts fit:
//!
//! - [`name`] and [`key`] are the identities: a resource group holds clusters, a cluster holds node pools. Names compare
//!   without case, as Azure Resource Manager does.
//! - [`resource`] has the records that are kept ([`Group`], [`Cluster`], [`NodePool`]), [`operation`] the long-running
//!   [`Operation`]s on them, [`deployment`] those that were asked for together, [`vm_size`] the table that says which board a VM size has.
//! - [`validation`] turns what somebody sent into a [`NodePoolSpec`], or into an [`Invalid`] that says what was wrong and
//!   what is allowed. Nothing unchecked is ever stored.
//! - [`reconcile()`] compares a pool with the [`ObservedNode`]s and decides what to do: a pure function. [`expected_allocatable`]
//!   says what a node advertises once its layout is in place; a pool has succeeded only when every node does.
//! - [`rollout`] is how nodes are brought to another layout, a few at a time, and back when one can't.
//! - [`transition`] is how records change when somebody asks for something.
//! - [`Store`], [`NodeProvider`], [`Workloads`] and [`Credentials`] are what a backend implements (one machine, a Kubernetes
//!   cluster), and [`Controller`] is the small loop that drives `reconcile` over them.
//!
//! With feature `memory`, `memory` is an implementation of these traits that lives in memory alone. It is for the
//! tests of this floor; no binary of the project turns it on.
#![forbid(unsafe_code)]

pub mod allocatable;
pub mod controller;
pub mod credentials;
pub mod deployment;
pub mod invalid;
pub mod key;
#[cfg(feature = "memory")]
pub mod memory;
pub mod name;
pub mod node;
pub mod node_name;
pub mod operation;
pub mod power;
pub mod provider;
pub mod reconcile;
pub mod resource;
pub mod rollout;
pub mod store;
pub mod transition;
pub mod unread;
pub mod validation;
pub mod version;
pub mod vm_size;
pub mod workload;

pub use allocatable::{expected_allocatable, expected_of};
pub use controller::{Controller, ControllerError};
pub use credentials::{CredentialKind, Credentials, CredentialsError};
pub use deployment::{Deployment, DeploymentState, DeploymentStep, StepState};
pub use invalid::Invalid;
pub use key::{ClusterKey, DeploymentKey, GroupKey, Key, OperationKey, PoolKey};
pub use name::{ClusterName, DeploymentName, GroupName, PodName, PoolName, SubscriptionId};
pub use node::{
    Condition, ConditionStatus, Holder, NodeGpu, NodePhase, NodeSlice, NodeSpec, ObservedNode,
    Taint, TaintEffect,
};
pub use node_name::NodeName;
pub use operation::{Operation, OperationError, OperationStatus, OperationTarget};
pub use power::PowerState;
pub use provider::{Action, Candidate, Candidates, NodeProvider, ProviderError, Supply};
pub use reconcile::{ClusterDecision, Decision, GroupDecision, reconcile};
pub use resource::{
    AutoScaling, Cluster, Group, Machines, NodePool, NodePoolSpec, PoolMode, ProvisioningState,
};
pub use rollout::{Drain, MaxUnavailable, PoolSummary, Reason, Refused, Rollout, Settled, Slices};
pub use store::{
    Change, Changed, Expected, Kind, Page, RawRecord, Record, Revision, Scope, Store, StoreError,
    Stored, Unreadable,
};
pub use validation::NodePoolInput;
pub use version::Versions;
pub use vm_size::{VmGpu, VmSize};
pub use workload::{ExecEnvironment, Pod, PodPhase, WorkloadError, Workloads};
