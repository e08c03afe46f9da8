//! A real Kubernetes for tests: etcd, API server, controller manager, scheduler, and several nodes, each a kubelet and a
//! containerd of its own, all in private namespaces of one Linux machine, as root, without a container runtime or a
//! virtual machine around it.
//!
//! [`Parts`] are the programs, built once from pinned Go modules into a cache outside the checkout; [`Python`] is the
//! same for programs from `PyPI` that tests use. [`Cluster::start`] makes a process tree of nested namespaces: the
//! control plane's (pid, mount, network), and in it each [`Node`]'s, with a root file system of its own. What runs there
//! is a [`Service`], written down in a state folder, so that any process that [attaches](Cluster::attach) can stop, kill
//! and start it. Killing the first process of the outermost namespace ends all of it, which is how [`Cluster::stop`]
//! works, and how the remains of a killed test run are swept up.
#![forbid(unsafe_code)]

mod certificates;
mod cgroups;
mod cluster;
mod config;
mod control_plane;
mod namespace;
mod node;
mod packages;
mod parts;
mod process;
mod python;
mod run;
mod service;
mod state;
mod wait;

pub use cluster::{Cluster, Error};
pub use config::{Config, Lifetime, archives};
pub use node::Node;
pub use packages::{Error as PackagesError, possible};
pub use parts::{Error as PartsError, Parts};
pub use python::{Error as PythonError, Python};
pub use run::Error as RunError;
pub use service::{Error as ServiceError, Service};
pub use wait::{TimedOut, until};
