//! skep: one agent for every node of a Docker Swarm. Two products out of one process with one identity: metrics that Prometheus pulls, and log records
//! that arrive exactly once.
//!
//! ```text
//! METRICS  (pulled; nothing is cached that a scrape can read)
//!   /proc /sys  ──host::Root──▶ collect/*  ─┐
//!   cgroup v1/v2 ─────────────▶ cgroup/*   ─┼─▶ exposition::Writer ──▶ http ──▶ Prometheus
//!   docker inventory (watch) ─▶ containers ─┘        ▲
//!                                                    └─ pre-rendered label sets (identity, once)
//! LOGS     (pushed; the container's own log file is the queue)
//!   containers/*/*-json.log ─▶ files (table, spool) ─▶ tail ▶ assemble ▶ record ▶ batch ─▶ sink ──verdicts──▶ cursor
//! ```
//!
//! # Invariants
//!
//! `tests/invariants.rs` holds those that a machine can see in the source; the others have tests where they live.
//!
//!  1. Only [`host`] opens host files, and the log side those of containers ([`logs::files`]); every path is under a configurable root ([`host::Root`]);
//!     nothing needs privileges, `pid: host` or `network: host`. `<proc>/1/net/*` and `<proc>/1/mountinfo` come first, `self` is the fallback, and a metric tells
//!     which.
//!  2. [`collect`] and [`cgroup`] are synchronous, read at scrape time, and know nothing of Docker or HTTP. A container's cgroup is found by its id in
//!     the mounted tree, never from `/proc/<pid>/cgroup`, which is relative to the reader's namespace.
//!  3. No Docker or Swarm API call inside a scrape: they feed snapshots, whose age is exported.
//!  4. Identity is decided once, at start, in [`swarm`]; metrics and logs take the same. A label that a sample brings along wins over the constant one.
//!  5. A scrape has a deadline and always answers: a collector that fails, panics or hangs costs its own families only, and is not started again
//!     while it hangs. "Absent" (no such hardware) and "failed" are told apart.
//!  6. A parser returns what it could read plus its errors; one odd line or device never costs the rest.
//!  7. Routes share nothing but the inventory and the file table, which never waits for them. Each has its own cursor, so a sink that is down stalls no other.
//!  8. A cursor advances only when the sink has acknowledged, never when bytes were merely written.
//!  9. Every record has a deterministic id ([`logs::record::RecordId`]), so a resend is recognised. Assembly is a function of bytes and Docker's times,
//!     not of the wall clock.
//! 10. Every buffer has a bound in bytes. What happens at the bound is a named policy, and it is counted.
//! 11. Nothing is dropped in silence: every loss, gap, truncation and duplicate has a counter with a bounded reason.
//! 12. No log message per record or per scrape; skep never ships its own output back to itself.
//! 13. `unsafe` stands in one file, [`host::sys`], which wraps the system calls that no safe crate offers, each with its reason. No `unwrap` outside tests.
//!     No growth at rest: same input, same memory.

// In the order in which data flows.
pub mod config;

pub mod app;
pub mod check;
pub mod state;
pub mod watchdog;

pub mod host;
pub mod collect;
pub mod cgroup;
pub mod docker;
pub mod swarm;
pub mod containers;
pub mod model;
pub mod exposition;
pub mod http;
pub mod deflate;

pub mod logs;

pub mod telemetry;
