//! Any bytes as a container's log file: entries, lines, records.
#![no_main]

use skep::logs::assemble::Assembler;
use skep::logs::enrich::Enrichment;
use skep::logs::reader::json_file::{behind_tear, parse};
use skep::logs::record::encode;
use skep::logs::steer::{Steering, Work};
use skep::logs::{ContainerId, ContainerMeta, Fingerprint, Place};

const MOST: usize = 100;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let id = ContainerId::new(&"5".repeat(64)).unwrap();
    let of = Enrichment::new(&id, &ContainerMeta { tty: true, ..ContainerMeta::default() }, "host", None, None);
    let file = Fingerprint { first_time: 0, hash: 0 };
    let (mut assembler, mut scratch, mut record, mut offset) = (Assembler::new(&id, MOST), Vec::new(), Vec::new(), 0);
    let (steering, mut work) = (Steering::default(), Work::default());
    let mut ids = std::collections::BTreeSet::new();
    let mut emit = |line: skep::logs::assemble::Line<'_>| {
        assert!(line.bytes.len() <= MOST);
        ids.insert(line.id.as_bytes().to_vec());
        record.clear();
        encode(&line, &of, &steering, &mut work, &mut record);
        serde_json::from_slice::<serde_json::Value>(&record).expect("a record is JSON");
    };
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let start = Place { file, offset };
        offset += line.len() as u64;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = if parse(line, &mut scratch).is_ok() { Some(line) } else { behind_tear(line) };
        if let Some(Ok(entry)) = line.map(|line| parse(line, &mut scratch)) {
            assembler.entry(&entry, start, offset, &mut emit);
        }
    }
    assembler.end(&mut emit);
});
