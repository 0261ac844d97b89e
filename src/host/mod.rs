//! The host's files: where its trees are mounted, how they are read, and how their fields are taken apart.
//!
//! This is the only place that opens a host file. Every path is below one of the four trees of [`Root`], so the same code reads a bare machine,
//! a host seen from inside a container, and a recorded fixture.

mod btrfs;
pub mod dbus;
mod directory;
pub mod folder;
mod list;
mod kept;
mod mounts;
pub mod netlink;
pub mod parse;
mod probe;
mod processes;
mod read;
mod root;
pub mod rtnetlink;
pub mod sys;
mod wait;

pub use btrfs::BtrfsId;
pub use directory::{Directory, Slot, files_to_keep};
pub use kept::{Kept, Process};
pub use list::Namespace;
pub use mounts::Mount;
pub use probe::{Probe, probe};
pub use processes::Task;
pub use read::{NetSource, ReadError, Reader};
pub use root::Root;
