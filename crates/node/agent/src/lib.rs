//! Partition, device plugin and discovery over one watched inventory
#![forbid(unsafe_code)]
