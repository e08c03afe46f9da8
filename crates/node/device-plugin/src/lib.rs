//! Advertises MIG slices to the kubelet and allocates them
#![forbid(unsafe_code)]
