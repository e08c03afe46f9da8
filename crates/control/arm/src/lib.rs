//! The ARM-compatible HTTP front: resource groups, managed clusters, agent pools and long-running operations as Azure's clients
//! know them, and migpool's own nodes and pods beside them.
//!
//! [`router`] is an axum router over any [`Backend`] (a `Store`, a `NodeProvider`, `Workloads` and `Credentials`) and for one
//! [`Account`]; [`serve`] puts it on a Unix socket. A request goes through [`path`] (whose words compare without case),
//! [`api_version`] and [`body`], to the one file of its resource: [`subscription`], [`provider`], [`resource_group`],
//! [`managed_cluster`], [`agent_pool`], [`deployment`], [`operation`], [`node`], [`pod`]. These check with `pool::validation`,
//! commit to the store and answer at once; the controller does the work, and the [`Deployer`] that of deployments. Everything
//! that goes wrong is an [`ArmError`], in one of ARM's two shapes.
//!
//! [`types`] are the bodies, for this server and for its clients alike.
//!
//! | Resource | Methods |
//! |---|---|
//! | `/tenants`, `/subscriptions[/{s}]`, `/subscriptions/{s}/locations` | GET |
//! | `/subscriptions/{s}/providers[/{ns}]` | GET; POST `register`, `unregister` (refused) |
//! | `/subscriptions/{s}/providers/Microsoft.Features/...features[/{f}]` | GET; POST `register` |
//! | `/subscriptions/{s}/providers/Microsoft.Compute/skus` | GET |
//! | `/subscriptions/{s}[/resourcegroups/{g}]/resources` | GET |
//! | `/subscriptions/{s}/resourcegroups[/{g}]` | GET (list, one), HEAD, PUT, PATCH, DELETE; POST `exportTemplate` (refused) |
//! | `/subscriptions/{s}/operationresults/{id}` | GET |
//! | `.../resourcegroups/{g}/providers/Microsoft.Resources/deployments[/{d}]` | GET (list, one), HEAD, PUT, DELETE |
//! | `.../deployments/{d}/validate`, `cancel`; `whatIf`, `exportTemplate` (refused) | POST |
//! | `.../deployments/{d}/operations`, `operationStatuses/{id}` | GET |
//! | `/subscriptions/{s}/providers/Microsoft.ContainerService/managedClusters` | GET |
//! | `/subscriptions/{s}/providers/Microsoft.ContainerService/locations/{l}/kubernetesVersions` | GET |
//! | `/subscriptions/{s}/providers/Microsoft.ContainerService/locations/{l}/operations/{id}`, `operationresults/{id}` | GET |
//! | `.../resourcegroups/{g}/providers/Microsoft.ContainerService/managedClusters[/{c}]` | GET, PUT, PATCH, DELETE |
//! | `.../managedClusters/{c}/listCluster{User,Admin,MonitoringUser}Credential` | POST |
//! | `.../managedClusters/{c}/stop`, `start`, `abort` | POST |
//! | `.../managedClusters/{c}/runCommand`, `rotate...`, `reset...`, `accessProfiles/{r}/listCredential` | POST (refused) |
//! | `.../managedClusters/{c}/upgradeProfiles/default` | GET |
//! | `.../managedClusters/{c}/availableAgentPoolVersions` | GET |
//! | `.../managedClusters/{c}/agentPools[/{p}]` | GET, PUT, DELETE |
//! | `.../agentPools/{p}/abort`, `deleteMachines`, `upgradeNodeImageVersion` | POST |
//! | `.../agentPools/{p}/machines[/{n}]`, `upgradeProfiles/default` | GET |
//! | `.../resourcegroups/{g}/providers/Microsoft.ContainerService/snapshots[/{n}]` | GET (none), PUT (refused) |
//! | `.../managedClusters/{c}/providers/Migpool.Local/nodes[/{n}]` | GET |
//! | `.../managedClusters/{c}/providers/Migpool.Local/pods[/{p}]` | GET, PUT, DELETE |
//! | `.../providers/Migpool.Local/pods/{p}/log` | GET |
//! | `.../providers/Migpool.Local/pods/{p}/execEnvironment` | POST |
#![forbid(unsafe_code)]

mod abort;
mod account;
pub mod agent_pool;
pub mod api_version;
mod backend;
pub mod body;
mod compute;
pub mod deployment;
mod error;
mod etag;
mod filter;
mod long_running;
pub mod managed_cluster;
pub mod node;
pub mod operation;
mod paging;
pub mod path;
pub mod pod;
mod properties;
pub mod provider;
mod region;
mod request_id;
pub mod resource_group;
mod resource_list;
mod routes;
mod serve;
mod snapshot;
pub mod subscription;
pub mod types;

pub use account::Account;
pub use backend::Backend;
pub use deployment::Deployer;
pub use error::ArmError;
pub use request_id::RequestIds;
pub use routes::{FrontSettings, Scheme, router};
pub use serve::serve;
