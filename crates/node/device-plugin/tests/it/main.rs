//! The plugin against a small kubelet, over real sockets, and its CDI specifications against those who read such; the
//! node's GPUs are simulated ones.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod cdi;
mod elf;
mod kubelet;
mod node;
mod nvidia_ctk;
mod plugin;
