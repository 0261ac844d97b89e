//! skep: one agent for every node of a Docker Swarm.

pub mod app;
pub mod cgroup;
pub mod check;
pub mod collect;
pub mod config;
pub mod containers;
pub mod docker;
pub mod exposition;
pub mod host;
pub mod http;
pub mod logs;
pub mod model;
pub mod swarm;
pub mod telemetry;
pub mod watchdog;
