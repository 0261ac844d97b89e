//! The Swarm: who this node is.

pub mod identity;
pub mod node;
