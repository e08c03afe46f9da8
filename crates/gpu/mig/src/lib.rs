//! What a MIG-capable GPU is and how it can be cut up, as pure data and pure functions: no I/O, no
//! driver, no unsafe.
//!
//! A [`Board`] lists its GPU instance [`Profile`]s and where in the GPU's memory units each may lie;
//! [`boards`] are the fifteen that migpool ships as data, and a `Board` can just as well be built from
//! what a live driver reports. People name what they want as a [`LayoutSpec`] (for one GPU) or a
//! [`NodeLayout`] (for a node's GPUs); resolved against a board it becomes a [`Layout`], a multiset of
//! GPU instances that is known to fit. [`plan`] then compares a layout with what is on the GPU and says
//! what to keep, what to destroy and what to create at which [`Placement`]. The names that Kubernetes
//! sees, [`ResourceName`], follow from a [`MigProfile`].
#![forbid(unsafe_code)]

mod aks;
mod board;
mod catalogue;
mod compute;
mod fit;
mod layout;
mod layout_spec;
mod nearest;
mod node_layout;
pub mod placement;
mod planner;
mod profile;
mod resource;
mod text;

pub use aks::{GpuInstanceProfile, ParseGpuInstanceProfileError};
pub use board::{Architecture, Board, BoardProfile, Confidence};
pub use catalogue::{UnknownBoard, board, boards};
pub use compute::{ComputeInstanceProfile, compute_instance_profiles};
pub use layout::{GpuInstanceSpec, Layout, LayoutError, Misfit};
pub use layout_spec::{LayoutSpec, ParseLayoutError};
pub use node_layout::{GpuSelector, NodeLayout, NodeLayoutError, ParseNodeLayoutError};
pub use placement::{IllegalPlacement, PlacedInstance, Placement};
pub use planner::{Existing, PlacementPlan, PlanError, plan};
pub use profile::{Attribute, MigProfile, MigProfileError, ParseProfileError, Profile};
pub use resource::{MigStrategy, ParseMigStrategyError, ParseResourceNameError, ResourceName};
