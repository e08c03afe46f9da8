//! The crate's promises: the pure plan over inventories made by hand, and the shell over the
//! simulated driver, with every kind of interruption.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

// The name that the workspace reads the crate by.
extern crate migpool_partition as partition;

mod by_hand;
mod crash;
mod differences;
mod failures;
mod fewest_calls;
mod node;
mod ownership;
mod plan;
mod random;
mod reports;
mod survey;
