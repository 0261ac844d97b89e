//! Disk usage of containers: the writable layer, the log files, and what the file system below them has.
//!
//! A count may take minutes and is never part of a scrape. A thread of its own ([`DiskTask`]) counts one container after another and keeps what it found in a
//! table; the scrape reads the table. When a layer was counted is exported beside it.

mod layer;
mod options;
mod plan;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

pub use options::{DiskMode, DiskOptions};
pub use task::DiskTask;

use crate::collect::Pass;
use crate::docker::Container;
use crate::host::usage::{Counted, FileSystem};
use crate::logs::ContainerId;
use crate::model::{Kind, Value};

/// What is known of each container's disk usage.
#[derive(Debug, Clone, Default)]
pub struct DiskTable {
    containers: Arc<watch::Sender<BTreeMap<ContainerId, Disk>>>,
}

impl DiskTable {
    /// What is known, as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<BTreeMap<ContainerId, Disk>> {
        self.containers.subscribe()
    }
}

/// A container's disk usage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Disk {
    /// What the host calls the device, `/dev/sda1`, or else its number.
    pub device: Arc<str>,
    /// The writable layer, once it was counted.
    pub layer: Option<Layer>,
    /// The engine's directory of the container; its log files are what is marked.
    pub folder: Option<Counted>,
    /// The file system that the layer lies on.
    pub file_system: Option<FileSystem>,
}

/// A writable layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layer {
    /// Bytes that it takes.
    pub bytes: u64,
    /// Inodes that it takes; the engine does not tell them.
    pub inodes: Option<u64>,
    /// Who counted: `walk` or `engine`.
    pub source: &'static str,
    /// When, seconds since the epoch.
    pub time: f64,
}

type Figure = fn(&Disk) -> Option<u64>;

/// With the device as label, as cAdvisor has them.
const OF_DEVICE: [(&str, &str, Figure); 4] = [
    ("container_fs_inodes_free", "Number of available Inodes", |disk| told(disk.file_system, |of| of.inodes_free)),
    ("container_fs_inodes_total", "Number of Inodes", |disk| told(disk.file_system, |of| of.inodes)),
    ("container_fs_limit_bytes", "Number of bytes that can be consumed by the container on this filesystem.", |disk| {
        disk.file_system.map(|of| of.size)
    }),
    ("container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", |disk| {
        Some(disk.layer?.bytes.saturating_add(disk.folder?.bytes))
    }),
];

/// What cAdvisor has not got.
const OWN: [(&str, &str, Figure); 3] = [
    ("container_fs_layer_bytes", "Bytes that the container's writable layer takes of the disk.", |disk| Some(disk.layer?.bytes)),
    ("container_fs_layer_inodes", "Inodes that the container's writable layer takes.", |disk| disk.layer?.inodes),
    ("container_fs_log_bytes", "Bytes that the container's log files take of the disk, rotated ones too.", |disk| {
        Some(disk.folder?.marked)
    }),
];

/// btrfs makes inodes as they are needed and tells none.
fn told(file_system: Option<FileSystem>, figure: fn(FileSystem) -> u64) -> Option<u64> {
    file_system.filter(|of| of.inodes > 0).map(figure)
}

/// Writes what is known of the containers, in whatever state they are.
pub(super) fn write<'a>(containers: impl Iterator<Item = &'a Container>, table: &DiskTable, pass: &mut Pass<'_>) {
    let table = table.containers.borrow();
    if table.is_empty() {
        return;
    }
    let known: Vec<(&Container, &Disk)> = containers.filter_map(|container| Some((container, table.get(&container.id)?))).collect();
    for (families, has_device) in [(&OF_DEVICE[..], true), (&OWN[..], false)] {
        for (name, help, figure) in families {
            let mut family = pass.out.family(name, Kind::Gauge, help);
            for (container, disk) in &known {
                let Some(value) = figure(disk) else { continue };
                let labels: &[(&str, &str)] = if has_device { &[("device", &disk.device)] } else { &[] };
                family.sample_shared(&container.series, labels, value);
            }
        }
    }
    let help = "When the container's writable layer was counted, seconds since the epoch, and by whom.";
    let mut family = pass.out.family("container_fs_usage_timestamp_seconds", Kind::Gauge, help);
    for (container, disk) in &known {
        if let Some(layer) = disk.layer {
            family.sample_shared(&container.series, &[("source", layer.source)], Value::Float(layer.time));
        }
    }
}

#[cfg(test)]
mod tests;
