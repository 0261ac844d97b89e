//! The Swarm: who this node is.
