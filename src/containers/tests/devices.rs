//! Names of block devices, by what the kernel's uevents of them say.

use std::fs;

use crate::cgroup::DeviceIo;
use crate::collect::Pass;
use crate::docker::{Inspected, Inventory, Labelling};
use crate::exposition::Writer;
use crate::host::{Reader, Root};

use super::*;

/// Those whose names no pattern of letters and numbers foretells, too: what the kernel says is believed.
#[test]
fn devices_of_every_kind_have_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let known = [
        ((8, 0), "MAJOR=8\nMINOR=0\nDEVNAME=sda\nDEVTYPE=disk\nDISKSEQ=1\n", "/dev/sda"),
        ((259, 1), "MAJOR=259\nMINOR=1\nDEVNAME=nvme0n1p1\nDEVTYPE=partition\nPARTN=1\n", "/dev/nvme0n1p1"),
        ((9, 127), "MAJOR=9\nMINOR=127\nDEVNAME=md127\nDEVTYPE=disk\n", "/dev/md127"),
        ((179, 2), "MAJOR=179\nMINOR=2\nDEVNAME=mmcblk0p2\nDEVTYPE=partition\nPARTNAME=root DEVNAME=x\n", "/dev/mmcblk0p2"),
        ((253, 3), "MAJOR=253\nMINOR=3\nDEVNAME=dm-3\nDEVTYPE=disk\n", "/dev/dm-3"),
        ((104, 0), "MAJOR=104\nMINOR=0\nDEVNAME=cciss/c0d0\nDEVTYPE=disk\n", "/dev/cciss/c0d0"),
    ];
    for ((major, minor), uevent, _) in known {
        let device = directory.path().join(format!("dev/block/{major}:{minor}"));
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("uevent"), uevent).unwrap();
    }
    let told = Inspected { id: "a".repeat(64), ..Inspected::default() };
    let mut tracked = Tracked::new(&Arc::new(Labelling::default().container(told).unwrap()), Groups::default());
    let numbers = known.iter().map(|(number, ..)| *number).chain([(7, 7)]);
    tracked.usage.io = numbers.map(|(major, minor)| DeviceIo { major, minor, ..DeviceIo::default() }).collect();
    let inventory = watch::channel(Arc::new(Inventory::default())).1;
    let mut collector = ContainersCollector::new(inventory, ContainersOptions::default());
    collector.tracked.insert(tracked.container.id.clone(), Box::new(tracked));
    let mut reader = Reader::new(Arc::new(Root::find(None, Some(directory.path().into()), None, None)));
    collector.name_devices(&mut Pass::new(&mut reader, &mut Writer::new(Arc::default())));
    for (number, _, name) in known {
        assert_eq!(collector.devices.get(&number).map(String::as_str), Some(name));
    }
    // One that is gone has no name, and is told by its number.
    assert_eq!(collector.devices.get(&(7, 7)), None);
}
