//! The ARM-compatible HTTP front
#![forbid(unsafe_code)]
