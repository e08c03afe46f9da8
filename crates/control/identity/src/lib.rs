//! Who may do what at the ARM front.
#![forbid(unsafe_code)]
