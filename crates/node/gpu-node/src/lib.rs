//! `GpuNode`, the custom resource through which a node's agent and the operator speak with each other.
//!
//! There is one per node with GPUs, under the node's name. The node's agent makes it and writes its status: what GPUs
//! there are, how they are cut, who holds what, what was done last. The operator writes its spec: in which pool the node
//! is, and which layout is wanted there. Neither ever calls the other, so either may be away for hours: what was asked
//! is there when the agent comes back, and what was seen last is there meanwhile.
//!
//! - [`GpuNodeSpec`] is written by the operator alone, [`GpuNodeStatus`] by the agent alone.
//! - [`Phase`] and the constants of [`reason`] are the words of both.
//! - The object belongs to the node (an owner reference), so it goes when the node is deleted.
#![forbid(unsafe_code)]

mod gpus;
mod spec;
mod status;

pub use gpus::{GpuStatus, Holder, SliceStatus};
pub use spec::{Drain, GpuNode, GpuNodeSpec, PoolReference, Strategy, WantedTaint};
pub use status::{GpuNodeStatus, Phase, reason};

/// Who writes the spec, to server-side apply.
pub const OPERATOR: &str = "migpool-operator";

/// Who writes the status, to server-side apply.
pub const AGENT: &str = "migpool-agent";
