//! What a line costs on its way from Docker's file into a batch: parsed, and parsed, assembled and encoded.
//!
//! `cargo bench --bench records`. Each way is run several times and the best is told, for another process on the machine can only add to it.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Instant;

use skep::logs::assemble::Assembler;
use skep::logs::batch::Batch;
use skep::logs::enrich::Enrichment;
use skep::logs::index::{IndexPattern, action};
use skep::logs::reader::json_file::parse;
use skep::logs::record::encode;
use skep::logs::steer::{Steering, Work};
use skep::logs::time::write_rfc3339;
use skep::logs::{ContainerId, ContainerMeta, Fingerprint, Place};

const LINES: usize = 10_000;
const ROUNDS: usize = 100;
/// Of a line without its line feed.
const LENGTH: usize = 199;
const BATCH_BYTES: usize = 5 << 20;

fn main() {
    let begin =
        r#"{"level":"info","ts":"2026-11-20T10:00:00Z","caller":"orders.go:42","http":{"status":200,"took":0.0125},"msg":"order accepted"#;
    let end = r#"","id":0,"customer":4711}"#;
    for (name, text) in [
        ("plain", "2026-11-20 10:00:00.123 INFO  [worker-7] shop.orders - order accepted, id=00000000 customer=4711 "),
        // All of it is JSON, and becomes fields; and only its beginning.
        ("json", &*format!("{begin}{}{end}", " ".repeat(LENGTH - begin.len() - end.len()))),
        ("brace", r#"{"level":"info","ts":"2026-11-20T10:00:00Z","caller":"orders.go:42","msg":"order accepted","id":0,"customer":4711}"#),
        (
            "colour",
            "\u{1b}[32mINFO\u{1b}[0m[0001] order accepted                            \u{1b}[32mid\u{1b}[0m=0 \u{1b}[32mcustomer\u{1b}[0m=4711 ",
        ),
    ] {
        measure(name, &log(text));
    }
}

/// Lines as Docker writes them, of 200 bytes of text.
fn log(text: &str) -> Vec<u8> {
    let mut message: String = text.chars().chain("lorem ipsum dolor sit amet ".chars().cycle()).take(LENGTH).collect();
    message.push('\n');
    let message = serde_json::to_string(&message).unwrap();
    let mut log = Vec::new();
    for number in 0..LINES {
        log.extend_from_slice(format!("{{\"log\":{message},\"stream\":\"stdout\",\"time\":\"").as_bytes());
        write_rfc3339(1_795_168_800_000_000_000 + i64::try_from(number).unwrap() * 1_000, &mut log);
        log.extend_from_slice(b"\"}\n");
    }
    log
}

fn measure(name: &str, log: &[u8]) {
    let mut scratch = Vec::new();
    best(name, "parse", || {
        for line in lines(log) {
            black_box(parse(line, &mut scratch).unwrap());
        }
    });

    let (mut encoder, mut batch) = (Encoder::new(), Batch::new());
    best(name, "parse, assemble, encode", || encoder.run(log, &mut scratch, &mut batch));
}

/// All that a route does between the file and the request, for Elasticsearch.
struct Encoder {
    assembler: Assembler,
    enrichment: Enrichment,
    index: IndexPattern,
    steering: Steering,
    work: Work,
}

impl Encoder {
    fn new() -> Self {
        let id = ContainerId::new(&"0123456789abcdef".repeat(4)).unwrap();
        let labels = [
            ("com.docker.stack.namespace", "shop"),
            ("com.docker.swarm.service.id", "0123456789abcdef012345678"),
            ("com.docker.swarm.service.name", "shop_orders"),
            ("com.docker.swarm.task.id", "abcdef0123456789abcdef012"),
            ("com.docker.swarm.task.name", "shop_orders.1.abcdef0123456789abcdef012"),
        ];
        let meta = ContainerMeta {
            name: "shop_orders.1.abcdef0123456789abcdef012".into(),
            image: "registry:5000/shop/orders:1.2".into(),
            labels: labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            ..ContainerMeta::default()
        };
        Self {
            assembler: Assembler::new(&id, 256 << 10),
            enrichment: Enrichment::new(&id, &meta, "node-1", Some("n0d3"), None),
            index: IndexPattern::parse("docker-logs-%Y.%m.%d").unwrap(),
            steering: Steering::of(&meta).0,
            work: Work::default(),
        }
    }

    fn run(&mut self, log: &[u8], scratch: &mut Vec<u8>, batch: &mut Batch) {
        let mut place = Place { file: Fingerprint { first_time: 0, hash: 0 }, offset: 0 };
        for line in lines(log) {
            let entry = parse(line, scratch).unwrap();
            let end = place.offset + line.len() as u64 + 1;
            self.assembler.entry(&entry, place, end, &mut |line| {
                let mut draft = batch.begin_record();
                action(&self.index, &line, draft.out());
                encode(&line, &self.enrichment, &self.steering, &mut self.work, draft.document());
                draft.commit(line.time, line.id).unwrap();
            });
            place.offset = end;
            if batch.is_full(BATCH_BYTES, usize::MAX) {
                black_box(batch.bytes());
                batch.clear();
            }
        }
        batch.clear();
    }
}

fn lines(log: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    memchr::memchr_iter(b'\n', log).map(move |at| {
        let line = log.get(from..at).unwrap_or_default();
        from = at + 1;
        line
    })
}

fn best(name: &str, way: &str, mut run: impl FnMut()) {
    run();
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        run();
        best = best.min(begin.elapsed().as_secs_f64());
    }
    let lines = f64::from(u32::try_from(LINES).unwrap());
    println!("{name:8} {way:24} {:7.0} ns a line, {:5.2} million lines a second", best / lines * 1e9, lines / best / 1e6);
}
