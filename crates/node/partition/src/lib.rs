//! Brings a node's GPUs from the layout that is observed to the layout that is wanted, in the
//! fewest driver calls, and survives being killed at any of them.
//!
//! The core is pure: [`plan()`] compares an [`nvml::Inventory`] with a [`mig::NodeLayout`] and
//! answers with a [`Plan`] of driver calls with explicit placements, or with every reason why it
//! refuses; [`assert`](fn@assert) and [`export`](fn@export) read the same two values. The shell is
//! [`Partitioner`]: it takes the node's lock, reads one snapshot, writes down which instances it is
//! about to create (so that after a kill they are known to be ours, see [`Ownership`]), makes the
//! calls, reads one snapshot more, and gives back a [`Report`] of every call, which also goes to the
//! [`Journal`].
//!
//! What is not ours is not touched: an instance that somebody else created is kept where it fits
//! the layout, and is a refusal where it would have to go, unless [`Options::replace_all`] is set.
//! A slice in use is never destroyed.
#![forbid(unsafe_code)]

mod apply;
mod difference;
mod export;
mod holder;
mod journal;
mod lock;
mod ownership;
mod plan;
mod refusal;
mod report;
mod state;

pub use apply::{Error, Partitioner};
pub use difference::{Difference, assert};
pub use export::{ExportError, export};
pub use holder::{Held, Holder};
pub use journal::Journal;
pub use lock::{LockError, NodeLock};
pub use ownership::{Intent, Ownership};
pub use plan::{Action, GpuPlan, InUse, Options, Plan, SkippedGpu, Target, plan, survey};
pub use refusal::{PlanError, Refusal};
pub use report::{CallRecord, Outcome, Problem, ProblemKind, Report};
pub use state::StateError;
