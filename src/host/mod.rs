//! The host's files: where its trees are mounted, how they are read, and how their fields are taken apart.
//!
//! This is the only place that opens a host file. Every path is below one of the four trees of [`Root`], so the same code reads a bare machine,
//! a host seen from inside a container, and a recorded fixture.
//!
//! - Where the trees are: [`Root`]; whose namespaces they show: `namespaces`; what of them is there at all, for `skep check`: [`probe()`].
//! - One file at a time, into a buffer that is kept: `read` ([`Reader`]); names in directories and links: `list`.
//! - Kept open between scrapes: files of cgroups and of processes in `kept`, directories of sysfs with their attributes in `directory`.
//! - More than a file: `mounts` (mountinfo), `processes`, `btrfs`, [`user_files`], [`usage`] (what a directory takes of the disk).
//! - What is asked for and not read: [`netlink`] and on it [`rtnetlink`], [`dbus`], both of which wait as `wait` says, and the system calls of [`sys`].
//! - What tells by itself that it changed: [`Watches`].
//! - Fields of what was read: [`parse`].

mod btrfs;
pub mod dbus;
mod directory;
mod list;
mod kept;
mod mounts;
mod namespaces;
pub mod netlink;
pub mod parse;
mod probe;
mod processes;
mod read;
mod root;
pub mod rtnetlink;
pub mod sys;
pub mod usage;
pub mod user_files;
mod wait;
mod watches;

pub use btrfs::BtrfsId;
pub use directory::{Directory, Slot, files_to_keep};
pub use kept::{Kept, Process};
pub use mounts::Mount;
pub use namespaces::Namespace;
pub use probe::{Probe, probe};
pub use processes::{OpenFiles, Task};
pub use read::{NetSource, ReadError, Reader};
pub use root::Root;
pub use watches::{Watched, Watches};
