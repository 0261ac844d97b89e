//! Any bytes as a container's log file: entries, lines, records, as labels may ask for them. The first byte chooses the labels.
#![no_main]

use std::time::Duration;

use skep::logs::assemble::Assembler;
use skep::logs::enrich::Enrichment;
use skep::logs::reader::json_file::{behind_tear, parse};
use skep::logs::record::encode;
use skep::logs::steer::{Settings, Steering, Work};
use skep::logs::{ContainerId, ContainerMeta, Fingerprint, Place};

const MOST: usize = 100;

const LABELS: [&[(&str, &str)]; 6] = [
    &[],
    &[("skep.logs.format", "logfmt"), ("skep.logs.multiline", "go")],
    &[("skep.logs.multiline", "java"), ("skep.logs.redact", "a+|1")],
    &[("skep.logs.format", "logfmt"), ("skep.logs.multiline", "python"), ("skep.logs.redact", "^a|b$")],
    &[("skep.logs.multiline", "^[{ab]"), ("skep.logs.ansi", "keep")],
    &[("skep.logs.redact", "(")],
];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let labels = LABELS[usize::from(*choice) % LABELS.len()];
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let meta = ContainerMeta { tty: choice & 0x80 == 0, labels, ..ContainerMeta::default() };
    let id = ContainerId::new(&"5".repeat(64)).unwrap();
    let of = Enrichment::new(&id, &meta, "host", None, None);
    let file = Fingerprint { first_time: 0, hash: 0 };
    let (mut assembler, mut scratch, mut record, mut offset) = (Assembler::new(&id, MOST), Vec::new(), Vec::new(), 0);
    let (steering, mut work) = (Steering::of(&meta).0, Work::default());
    let mut ids = std::collections::BTreeSet::new();
    let mut emit = |line: skep::logs::assemble::Line<'_>| {
        assert!(line.bytes.len() <= MOST && !line.id.as_str().is_empty());
        ids.insert(line.id.as_bytes().to_vec());
        record.clear();
        encode(&line, &of, &steering, &mut work, &mut record);
        serde_json::from_slice::<serde_json::Value>(&record).expect("a record is JSON");
    };
    assembler.group(steering.grouping(&Settings::new(Duration::from_secs(1))), &mut emit);
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
