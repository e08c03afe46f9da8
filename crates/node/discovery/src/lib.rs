//! GPU feature discovery: the node's labels
#![forbid(unsafe_code)]
