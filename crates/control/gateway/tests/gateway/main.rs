//! The gateway as its clients, and its attackers, meet it: over real TLS, before the real ARM front.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod access;
mod audit;
mod common;
mod end;
mod issuer;
mod limits;
mod lists;
mod noise;
mod pods;
mod sign_in;
mod signed;
