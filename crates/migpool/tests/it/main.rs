//! migpool as a person uses it: the program itself, with a real control plane on a folder of its own.

mod article;
mod bad_input;
mod control_plane;
mod node_components;
mod pods;
mod restart;
mod simulated;
