//! Node pools on one machine: SQLite, a process per node, pods as processes
#![forbid(unsafe_code)]
