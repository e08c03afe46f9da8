//! A node's own side of the Kubernetes API.
//!
//! What runs on a node and knows its GPUs tells the cluster about them through a [`NodeClient`], which speaks of one
//! node alone: its [labels](NodeClient::labels), its [`NodeFeature`] object for those who run NFD, the
//! [taint](NodeClient::set_taint) that keeps pods away while GPUs are being partitioned, its
//! [conditions](NodeClient::set_conditions), [`Events`] on it, [evictions](NodeClient::evict) of the pods that hold
//! what has to go, and its [`GpuNode`](NodeClient::gpu_node), by which the operator speaks with it. What a request should say is worked out by pure functions over what the server answered before;
//! around them is a thin shell of requests, each with a time-out. [`Error`] tells a server that is away from a right
//! that is missing and from a node of another name, and [`persist`] tries until it works: a node does without the API
//! server for hours, and catches up.
//!
//! Nothing is cached, and nothing is watched but the one `GpuNode`, so a client costs little memory. The token and the certificate authority
//! of a service account are read anew when they are rotated.
//!
//! # Ownership
//! Labels and conditions are set by server-side apply, each concern under a field manager of its own: what a manager
//! set before and does not set any more is removed by the server, also when the process that set it was killed, and
//! what anybody else set stays. The taint is told by its key. A request never makes a node that is not there.
//!
//! # Rights
//! | API group | Resource | Verbs | For |
//! |---|---|---|---|
//! | core | `nodes` | get, patch | everything; labels, taint |
//! | core | `nodes/status` | patch | conditions |
//! | core | `pods` | get | evictions: whose pod it is |
//! | core | `pods/eviction` | create | evictions |
//! | `events.k8s.io` | `events` | create, patch | events, in the namespace `default` |
//! | `nfd.k8s-sigs.io` | `nodefeatures` | get, create, patch, delete | `NodeFeature`, in its own namespace: a Role is enough |
//! | `migpool.dev` | `gpunodes` | list, watch, create, patch | `GpuNode`: its own alone, an admission policy sees to that |
//! | `migpool.dev` | `gpunodes/status` | patch | what is seen on the node |
//! | `apps` | `daemonsets` | get, delete | [`retire`] alone, in its own namespace, for nobody on a node |
//!
//! Labels alone need only `nodes` get and patch. No list and no watch is ever asked for but that of the one `GpuNode`.
#![forbid(unsafe_code)]

mod client;
mod conditions;
mod connection;
mod error;
mod event_series;
mod events;
mod evict;
mod gpu_node;
mod label_syntax;
mod labels;
mod node_feature;
mod persist;
mod retire;
mod taint;
mod watch;

pub use client::NodeClient;
pub use conditions::{ConditionStatus, GPUS_HEALTHY, MIG_LAYOUT_READY, NodeCondition};
pub use error::{Access, Error};
pub use events::{Event, EventKind, Events};
pub use evict::{Eviction, PodRef};
pub use gpu_node::{GpuNodeNow, GpuNodeSnapshot, Owner};
pub use label_syntax::InvalidLabel;
pub use labels::{Applied, LabelConflict, Labels};
pub use node_feature::NodeFeature;
pub use persist::{backoff, persist};
pub use retire::{Retired, retire};
pub use taint::PARTITIONING_TAINT;
pub use watch::{GpuNodeChange, GpuNodeWatch};
