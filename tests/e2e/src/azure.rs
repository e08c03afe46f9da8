//! migpool's front for Azure's clients, and those clients: the real az and Python SDK, as `tests/e2e/azure` pins them.
//!
//! [`Shell`] is a person's shell in which they use migpool, and [`Up`] a `migpool up --azure`
//! for it to talk to, or [`Front`] the one that the chart brings to a cluster. A test of both has a [`Place`].

mod clients;
mod front;
mod held;
mod place;
mod shell;
mod up;

pub(crate) use front::{FRONT, Front, sweep};
pub(crate) use place::Place;
pub(crate) use shell::Shell;
pub(crate) use up::Up;

/// The article's names.
pub(crate) const GROUP: &str = "myResourceGroup";
/// The cluster of that group.
pub(crate) const CLUSTER: &str = "myAKSCluster";
