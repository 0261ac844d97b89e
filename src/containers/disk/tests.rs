//! What is written of a table.

use std::sync::Arc;

use super::*;
use crate::docker::{Inspected, Labelling};
use crate::exposition::Writer;
use crate::host::{Reader, Root};

fn container(digit: char) -> Container {
    let told = Inspected { id: digit.to_string().repeat(64), name: digit.to_string(), ..Inspected::default() };
    Labelling::default().container(told).unwrap()
}

fn text(containers: &[Container], table: &DiskTable) -> String {
    let mut reader = Reader::new(Arc::new(Root::find(None, None, None, None)));
    let mut out = Writer::new(Arc::default());
    write(containers.iter(), table, &mut Pass::new(&mut reader, &mut out));
    String::from_utf8(out.text().to_vec()).unwrap()
}

#[test]
fn what_is_not_known_is_not_written() {
    let table = DiskTable::default();
    let all = ['a', 'b', 'c'].map(container);
    assert_eq!(text(&all, &table), "");
    let of = |inodes| FileSystem { size: 1000, inodes, inodes_free: 4, device: (8, 1) };
    let layer = Layer { bytes: 10, inodes: None, source: "engine", time: 1.5 };
    let folder = Counted { bytes: 7, inodes: 3, marked: 5 };
    let device: Arc<str> = "/dev/sda1".into();
    let disks = [
        Disk { device: device.clone(), layer: Some(layer), folder: Some(folder), file_system: Some(of(0)) },
        Disk { device: device.clone(), layer: None, folder: Some(folder), file_system: Some(of(9)) },
        Disk { device, layer: Some(layer), folder: None, file_system: None },
    ];
    table.containers.send_modify(|table| table.extend(all.iter().map(|container| container.id.clone()).zip(disks)));
    let text = text(&all, &table);
    let mut found: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (family, rest) = line.split_once('{').unwrap();
            let name = rest.split_once("name=\"").unwrap().1;
            format!(
                "{} {} {}",
                name.split('"').next().unwrap(),
                family.trim_start_matches("container_fs_"),
                line.rsplit_once(' ').unwrap().1
            )
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "a layer_bytes 10",
            "a limit_bytes 1000",
            "a log_bytes 5",
            "a usage_bytes 17",
            "a usage_timestamp_seconds 1.5",
            "b inodes_free 4",
            "b inodes_total 9",
            "b limit_bytes 1000",
            "b log_bytes 5",
            "c layer_bytes 10",
            "c usage_timestamp_seconds 1.5",
        ]
    );
    assert_eq!(text.matches("device=\"/dev/sda1\"").count(), 5);
}
