//! The ARM-compatible HTTP front: resource groups, managed clusters, agent pools and long-running operations as Azure's clients
//! know them, and migpool's own nodes and pods beside them.
//!
//! A [`Front`] is a service over any [`Backend`] (a `Store`, a `NodeProvider`, `Workloads` and `Credentials`) and for one
//! [`Account`]; [`serve`] puts it on a Unix socket. A request goes through [`path`] (whose words compare without case),
//! [`api_version`] and [`body`], to the one file of its resource: [`subscription`], [`provider`], [`resource_group`],
//! [`managed_cluster`], [`agent_pool`], [`deployment`], [`operation`], [`node`], [`pod`]. These check with `pool::validation`,
//! commit to the store and answer at once; the controller does the work, and the [`Deployer`] that of deployments. Everything
//! that goes wrong is an [`ArmError`], in one of ARM's two shapes.
//!
//! Who may see only a part of what there is has a [`View`] of lists, which whoever stands before the front hands on to it.
//!
//! [`types`] are the bodies, for this server and for its clients alike.
//!
//! What there is, and what can be done with it, is told by the [`openapi`](openapi()) document, which is made from the routes
//! themselves; a copy is `docs/openapi.json`.
#![forbid(unsafe_code)]

mod abort;
mod account;
pub mod agent_pool;
mod answer_cache;
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
mod nesting;
pub mod node;
mod openapi;
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
mod unread;
mod view;

pub use account::Account;
pub use backend::Backend;
pub use deployment::Deployer;
pub use error::ArmError;
pub use openapi::openapi;
pub use request_id::RequestIds;
pub use routes::{Front, FrontSettings, Scheme};
pub use serve::serve;
pub use view::View;
