//! Brings a node's GPUs to a layout: plan, apply, verify
#![forbid(unsafe_code)]
