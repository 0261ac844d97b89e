//! The Elasticsearch sink against a server that answers by a script.

pub(in crate::logs) mod server;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::server::{Reply, Shared, count, script, serve, start};
use super::{DeadLetter, Delivery, Sink};
use crate::config::RouteSpec;
use crate::logs::batch::Batch;
use crate::logs::record::RecordId;
use crate::telemetry::{Metrics, Parts, State};

/// After this a test that waits for something that does not come has failed.
const GUARD: std::time::Duration = std::time::Duration::from_secs(60);

struct Setting {
    sink: Sink,
    parts: Parts,
    metrics: Metrics,
    state: tempfile::TempDir,
}

fn open(route: &str) -> Setting {
    let (parts, metrics, state) = (Parts::default(), Metrics::new().unwrap(), tempfile::tempdir().unwrap());
    let sink = reopen(route, &parts, &metrics, state.path()).unwrap();
    Setting { sink, parts, metrics, state }
}

fn reopen(route: &str, parts: &Parts, metrics: &Metrics, state: &Path) -> Result<Sink, String> {
    let spec = RouteSpec::parse(route).unwrap();
    let dead_letter = DeadLetter::new(Some(state), &spec.name(), metrics.route(&spec.name()));
    Sink::open(&spec, parts, metrics.route(&spec.name()), dead_letter)
}

/// Adds a record; the action line brings its line feed along, the document gets one.
pub(super) fn push(batch: &mut Batch, action: &str, document: &str) {
    let mut draft = batch.begin_record();
    draft.out().extend_from_slice(action.as_bytes());
    draft.document().extend_from_slice(document.as_bytes());
    draft.commit(0, RecordId::new(0, 0)).unwrap();
}

fn batch(numbers: std::ops::Range<u32>) -> Batch {
    let mut batch = Batch::default();
    for number in numbers {
        let action = format!("{{\"create\":{{\"_index\":\"docker-logs-2026.11.20\",\"_id\":\"{number:06}\"}}}}\n");
        push(&mut batch, &action, &format!("{{\"@timestamp\":\"2026-11-20T08:00:00.123456789Z\",\"n\":\"<{number:06}>\"}}"));
    }
    batch
}

impl Setting {
    async fn deliver(&self, numbers: std::ops::Range<u32>) -> (u64, u64, u64) {
        let count = u64::from(numbers.end - numbers.start);
        let (batch, stop) = (batch(numbers), CancellationToken::new());
        let delivery = tokio::time::timeout(GUARD, self.sink.deliver(&batch, &stop)).await;
        match delivery.expect("the delivery has no end") {
            Delivery::Done { taken, duplicates, refused } => {
                assert_eq!(taken + duplicates + refused, count, "every record has one verdict");
                (taken, duplicates, refused)
            }
            Delivery::Interrupted => panic!("nobody stopped it"),
        }
    }

    fn counter(&self, start: &str) -> u64 {
        let mut text = Vec::new();
        self.metrics.encode(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        text.lines().filter(|line| line.starts_with(start)).map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }

    fn retries(&self, code: &str) -> u64 {
        self.counter(&format!("skep_log_retries_total{{code=\"{code}\""))
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.counter(&format!("skep_log_records_dropped_total{{reason=\"{reason}\""))
    }

    fn dead_letters(&self) -> Vec<serde_json::Value> {
        let Ok(files) = std::fs::read_dir(self.state.path().join("dead-letters")) else { return Vec::new() };
        let text: String = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn degraded(&self) -> Option<String> {
        self.parts.all().into_iter().find_map(|(_, state)| if let State::Degraded(why) = state { Some(why) } else { None })
    }

    /// Waits until the part says something with this word in it; what never comes is a fault, not a test without an end.
    async fn degrades(&self, word: &str) {
        let says = async {
            while !self.degraded().is_some_and(|why| why.contains(word)) {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(GUARD, says).await.is_ok(), "the part never says {word:?}, but {:?}", self.degraded());
    }
}

#[tokio::test]
async fn everything_is_taken_compressed_and_the_template_is_first() {
    let (address, shared) = start().await;
    let setting = open(&format!("elasticsearch://{address}/es"));
    assert_eq!(setting.sink.index(), Some("docker-logs-%Y.%m.%d"));
    assert_eq!(setting.deliver(0..100).await, (100, 0, 0));
    assert_eq!(setting.deliver(50..150).await, (50, 50, 0));
    let server = shared.lock().unwrap();
    assert_eq!((server.taken.len(), server.requests, server.gzip, server.conflicts), (150, 2, 2, 50));
    assert_eq!(server.templates, ["/es/_index_template/skep-docker-logs"]);
    assert_eq!(server.authorizations.len(), 3, "nobody was asked which product it is");
    assert!(server.taken["000099"].contains("<000099>"));
    drop(server);
    assert_eq!(setting.counter("skep_log_duplicates_total"), 50);
    assert_eq!(setting.counter("skep_log_sink_up"), 1);
    assert_eq!(setting.degraded(), None);
}

#[tokio::test]
async fn a_mix_of_verdicts_sends_again_only_what_asks_for_it() {
    let (address, shared) = start().await;
    let setting = open(&format!("elasticsearch://{address}?gzip=false"));
    script(&shared, [Reply::Items(vec![201, 429, 400, 503]), Reply::Items(vec![429, 201])]);
    // 25 taken, 25 refused; of the 50 others 25 are put off once more.
    assert_eq!(setting.deliver(0..100).await, (75, 0, 25));
    let server = shared.lock().unwrap();
    assert_eq!((server.taken.len(), server.requests, server.conflicts, server.gzip), (75, 3, 0, 0));
    drop(server);
    assert_eq!((setting.retries("429"), setting.retries("503")), (50, 25));
    let letters = setting.dead_letters();
    assert_eq!(letters.len(), 25);
    assert!(letters.iter().all(|letter| letter["type"] == "mapper_parsing_exception" && letter["document"]["n"].is_string()));
    assert_eq!(setting.counter("skep_log_dead_letters_total"), 25);
}

#[tokio::test]
async fn faults_of_the_wire_repeat_nothing_and_lose_nothing() {
    let (address, shared) = start().await;
    let setting = open(&format!("elasticsearch://{address}?timeout=300ms"));
    script(&shared, [Reply::Cut]);
    assert_eq!(setting.deliver(0..10).await, (0, 10, 0));
    script(&shared, [Reply::Text("{\"errors\":false,\"items\":[]}"), Reply::Text("<html>login</html>")]);
    assert_eq!(setting.deliver(10..20).await, (0, 10, 0));
    script(&shared, [Reply::Close, Reply::Whole(503, "busy"), Reply::Whole(429, ""), Reply::Items(vec![429, 201])]);
    assert_eq!(setting.deliver(20..30).await, (0, 10, 0));
    script(&shared, [Reply::Silence]);
    assert_eq!(setting.deliver(30..40).await, (0, 10, 0));
    assert_eq!(count(&shared), 40);
    assert_eq!((setting.retries("answer"), setting.retries("503"), setting.retries("timeout")), (20, 10, 10));
    assert!(setting.retries("connect") >= 20);
    assert!(setting.dead_letters().is_empty());
    assert_eq!(setting.degraded(), None, "it works again");
}

#[tokio::test]
async fn what_is_too_large_goes_in_halves() {
    let (address, shared) = start().await;
    shared.lock().unwrap().most_records = Some(13);
    let setting = open(&format!("elasticsearch://{address}"));
    assert_eq!(setting.deliver(0..100).await, (100, 0, 0));
    assert_eq!(count(&shared), 100);
    // 100, then 50, 25 and 12 or 13 in each.
    assert_eq!(shared.lock().unwrap().requests, 1 + 2 + 4 + 8);
}

#[tokio::test]
async fn one_record_that_spoils_the_request_is_found() {
    let (address, shared) = start().await;
    shared.lock().unwrap().poison = Some("<000000>");
    let setting = open(&format!("elasticsearch://{address}"));
    // The first of all: it is found before anything was taken, and waits for the others to show that the request as such is good.
    assert_eq!(setting.deliver(0..50).await, (49, 0, 1));
    shared.lock().unwrap().poison = Some("<000077>");
    assert_eq!(setting.deliver(50..100).await, (49, 0, 1));
    let letters = setting.dead_letters();
    assert_eq!((letters.len(), count(&shared)), (2, 98));
    assert_eq!((&letters[1]["document"]["n"], &letters[1]["status"]), (&"<000077>".into(), &400.into()));
}

#[tokio::test]
async fn a_request_that_is_refused_whatever_is_in_it_drops_nothing() {
    let (address, shared) = start().await;
    shared.lock().unwrap().poison = Some("@timestamp");
    let setting = open(&format!("elasticsearch://{address}"));
    let stop = CancellationToken::new();
    let batch = batch(0..4);
    let (delivery, ()) = tokio::join!(setting.sink.deliver(&batch, &stop), async {
        setting.degrades("refuses every request").await;
        stop.cancel();
    });
    assert_eq!(delivery, Delivery::Interrupted);
    shared.lock().unwrap().poison = None;
    assert_eq!(setting.deliver(0..4).await, (4, 0, 0));
    assert!(setting.dead_letters().is_empty());
    // It worked once, and then a proxy begins to spoil everything: still nothing is buried.
    shared.lock().unwrap().poison = Some("@timestamp");
    let stop = CancellationToken::new();
    let (delivery, ()) = tokio::join!(setting.sink.deliver(&batch, &stop), async {
        setting.degrades("refuses every request").await;
        stop.cancel();
    });
    assert_eq!((delivery, setting.dead_letters().len()), (Delivery::Interrupted, 0));
}

#[tokio::test]
async fn a_fault_of_the_configuration_is_waited_for_and_told() {
    let (address, shared) = start().await;
    let setting = open(&format!("elasticsearch://{address}"));
    script(&shared, [Reply::Items(vec![404])]);
    let (delivery, ()) = tokio::join!(setting.deliver(0..3), setting.degrades("404 index_not_found_exception"));
    assert_eq!(delivery, (3, 0, 0));
    assert_eq!(setting.degraded(), None);
}

#[tokio::test]
async fn credentials_are_read_again_when_they_are_refused() {
    let (address, shared) = start().await;
    shared.lock().unwrap().credentials = Some("ApiKey right");
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    std::fs::write(&key, "wrong\n").unwrap();
    let setting = open(&format!("elasticsearch://{address}?api_key_file={}", key.display()));
    let (delivery, ()) = tokio::join!(setting.deliver(0..3), async {
        setting.degrades("401").await;
        assert!(!setting.degraded().unwrap().contains("wrong"));
        std::fs::write(&key, "\n right \r\n").unwrap();
    });
    assert_eq!(delivery, (3, 0, 0));
    shared.lock().unwrap().credentials = Some("Basic dTpwOnc=");
    let setting = open(&format!("elasticsearch://u:p%3Aw@{address}"));
    assert_eq!(setting.deliver(3..6).await, (3, 0, 0));
    std::fs::write(&key, "two\nlines").unwrap();
    let setting = open(&format!("elasticsearch://a?api_key_file={}", key.display()));
    let why = setting.degraded().unwrap();
    assert!(why.contains("line feed") && !why.contains("two"), "{why}");
}

/// A secret or a mount that comes later than the agent ends nothing, and is waited for.
#[tokio::test]
async fn files_of_secrets_may_come_later() {
    let (address, shared) = start().await;
    shared.lock().unwrap().credentials = Some("ApiKey right");
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    let setting = open(&format!("elasticsearch://{address}?api_key_file={}", key.display()));
    assert!(setting.degraded().unwrap().contains("api_key_file="), "it is told before there is a record");
    let (delivery, ()) = tokio::join!(setting.deliver(0..3), async {
        setting.degrades("records wait in their log files").await;
        std::fs::write(&key, "right").unwrap();
    });
    assert_eq!((delivery, setting.degraded()), ((3, 0, 0), None));
    assert_eq!(setting.retries("file"), 3);
    assert_eq!(shared.lock().unwrap().authorizations.iter().flatten().count(), 2, "nothing was sent without credentials");

    let (ca, stop) = (directory.path().join("ca"), CancellationToken::new());
    let setting = open(&format!("elasticsearch+https://{address}?timeout=1s&ca_file={}", ca.display()));
    let records = batch(0..1);
    let (delivery, ()) = tokio::join!(setting.sink.deliver(&records, &stop), async {
        setting.degrades("ca_file=").await;
        std::fs::write(&ca, "no certificate").unwrap();
        setting.degrades("no certificate").await;
        stop.cancel();
    });
    assert_eq!(delivery, Delivery::Interrupted);
}

#[tokio::test]
async fn credentials_that_cannot_be_read_again_stay_and_are_told() {
    let (address, shared) = start().await;
    shared.lock().unwrap().credentials = Some("ApiKey right");
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    std::fs::write(&key, "right").unwrap();
    let setting = open(&format!("elasticsearch://{address}?api_key_file={}", key.display()));
    assert_eq!(setting.deliver(0..3).await, (3, 0, 0));
    std::fs::remove_file(&key).unwrap();
    setting.sink.reload();
    assert_eq!(setting.deliver(3..6).await, (3, 0, 0));
    assert!(setting.degraded().unwrap().contains("what was read before is used"));
    std::fs::write(&key, "right").unwrap();
    assert_eq!(setting.deliver(6..9).await, (3, 0, 0));
    assert_eq!(setting.degraded(), None, "it was read again without being asked");
    // The sink refuses them meanwhile: both are told, and the new ones are taken when they are there.
    std::fs::remove_file(&key).unwrap();
    shared.lock().unwrap().credentials = Some("ApiKey newer");
    let (delivery, ()) = tokio::join!(setting.deliver(9..12), async {
        setting.degrades("cannot be read").await;
        assert!(setting.degraded().unwrap().contains("401"));
        std::fs::write(&key, "newer").unwrap();
    });
    assert_eq!((delivery, setting.degraded()), ((3, 0, 0), None));
}

#[tokio::test]
async fn a_template_that_is_refused_stops_nothing() {
    let (address, shared) = start().await;
    shared.lock().unwrap().template_status = Some(403);
    let setting = open(&format!("elasticsearch://{address}"));
    assert_eq!(setting.deliver(0..3).await, (3, 0, 0));
    assert_eq!(setting.deliver(3..6).await, (3, 0, 0));
    assert_eq!(shared.lock().unwrap().templates.len(), 1, "it is asked once");
    let setting = open(&format!("elasticsearch://{address}?manage_template=false"));
    assert_eq!(setting.deliver(6..9).await, (3, 0, 0));
    assert_eq!(shared.lock().unwrap().templates.len(), 1);
    // A server that does not understand it is asked for less.
    shared.lock().unwrap().template_status = Some(400);
    let setting = open(&format!("elasticsearch://{address}"));
    assert_eq!(setting.deliver(9..12).await, (3, 0, 0));
    assert_eq!(shared.lock().unwrap().templates.len(), 4);
}

/// The first copy may be in the backing index before a rollover, and the second in the one behind it: that cannot be helped, and is counted.
#[tokio::test]
async fn a_resend_across_a_rollover_is_counted() {
    let (address, shared) = start().await;
    let backing = |name: &str| shared.lock().unwrap().backing = Some(format!(".ds-logs-x-{name}"));
    backing("000001");
    let setting = open(&format!("elasticsearch://{address}?data_stream=logs-x"));
    let possible = || setting.counter("skep_log_possible_duplicates_total");
    assert_eq!(setting.deliver(0..10).await, (10, 0, 0));
    // Taken without an answer, and sent again to the same index: recognised.
    script(&shared, [Reply::Close]);
    assert_eq!((setting.deliver(10..20).await, possible()), ((0, 10, 0), 0));
    // A rollover between two batches repeats nothing.
    backing("000002");
    assert_eq!((setting.deliver(20..30).await, possible()), ((10, 0, 0), 0));
    // 429: nothing was taken, whatever rolls over meanwhile.
    script(&shared, [Reply::Whole(429, ""), Reply::Items(vec![429, 201])]);
    backing("000003");
    assert_eq!((setting.deliver(30..40).await, possible()), ((10, 0, 0), 0));
    script(&shared, [Reply::Roll(".ds-logs-x-000004")]);
    assert_eq!((setting.deliver(40..50).await, possible()), ((10, 0, 0), 10));
    let server = shared.lock().unwrap();
    assert!(server.taken.contains_key(".ds-logs-x-000003/000040") && server.taken.contains_key(".ds-logs-x-000004/000040"));
    let template: serde_json::Value = serde_json::from_str(&server.template_bodies[0]).unwrap();
    assert_eq!((&template["data_stream"], &template["priority"]), (&serde_json::json!({}), &150.into()));
}

#[tokio::test]
async fn a_sink_that_comes_later_gets_everything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let setting = open(&format!("elasticsearch://{address}"));
    let shared = Shared::default();
    let (delivery, ()) = tokio::join!(setting.deliver(0..10), async {
        setting.degrades("does not answer").await;
        assert_eq!(setting.counter("skep_log_sink_up"), 0);
        assert!(setting.retries("connect") >= 10, "that the template waits is counted too");
        tokio::spawn(serve(TcpListener::bind(address).await.unwrap(), Arc::clone(&shared)));
    });
    assert_eq!((delivery, count(&shared)), ((10, 0, 0), 10));
    assert_eq!(setting.degraded(), None);
}

#[tokio::test]
async fn of_two_hosts_one_is_enough() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = dead.local_addr().unwrap();
    drop(dead);
    let (address, shared) = start().await;
    let setting = open(&format!("elasticsearch://{gone},{address}"));
    for number in 0..5 {
        assert_eq!(setting.deliver(number * 10..number * 10 + 10).await, (10, 0, 0));
    }
    assert_eq!(count(&shared), 50);
    assert_eq!(shared.lock().unwrap().conflicts, 0);
    assert!(setting.degraded().unwrap().contains(&gone.to_string()), "the dead one is told");
}

/// A host that was away gets its share again when its rest is over.
#[tokio::test]
async fn a_host_that_comes_back_is_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = listener.local_addr().unwrap();
    drop(listener);
    let (address, shared) = start().await;
    let setting = open(&format!("elasticsearch://{away},{address}?manage_template=false"));
    for number in 0..2 {
        assert_eq!(setting.deliver(number * 10..number * 10 + 10).await, (10, 0, 0));
    }
    assert!(setting.degraded().unwrap().contains(&away.to_string()));
    let back = Shared::default();
    tokio::spawn(serve(TcpListener::bind(away).await.unwrap(), Arc::clone(&back)));
    let (mut number, limit) = (2, std::time::Instant::now() + GUARD);
    while count(&back) == 0 {
        assert!(std::time::Instant::now() < limit, "it is never asked again");
        assert_eq!(setting.deliver(number * 10..number * 10 + 10).await, (10, 0, 0));
        number += 1;
    }
    assert_eq!((count(&shared) + count(&back), setting.degraded()), (usize::try_from(number).unwrap() * 10, None));
}

#[tokio::test]
async fn a_stop_ends_the_waiting_and_acknowledges_nothing() {
    let (address, shared) = start().await;
    let setting = open(&format!("elasticsearch://{address}"));
    script(&shared, [Reply::Silence]);
    let stop = CancellationToken::new();
    let batch = batch(0..10);
    let (delivery, ()) = tokio::join!(setting.sink.deliver(&batch, &stop), async {
        while shared.lock().unwrap().requests == 0 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    });
    assert_eq!(delivery, Delivery::Interrupted);
    assert_eq!(setting.deliver(0..10).await, (0, 10, 0), "what was taken meanwhile is recognised");
}

/// After a start the first batch is one record that the sink will not have: nothing else can show that the request as such is good.
#[tokio::test]
async fn one_record_that_is_too_large_does_not_stop_a_route_for_ever() {
    let (address, shared) = start().await;
    shared.lock().unwrap().most_records = Some(0);
    let mut setting = open(&format!("elasticsearch://{address}"));
    let (records, stop) = (batch(0..1), CancellationToken::new());
    let (delivery, ()) = tokio::join!(setting.sink.deliver(&records, &stop), async {
        setting.degrades("refuses every request (413").await;
        stop.cancel();
    });
    assert_eq!((delivery, setting.dead_letters().len()), (Delivery::Interrupted, 0), "not at once");
    let Sink::Elasticsearch(sink) = &mut setting.sink else { panic!() };
    sink.doubt = std::time::Duration::from_millis(1);
    assert_eq!(setting.deliver(0..1).await, (0, 0, 1));
    assert_eq!(setting.dead_letters()[0]["status"], 413);
    shared.lock().unwrap().most_records = None;
    assert_eq!(setting.deliver(1..3).await, (2, 0, 0));
}

/// A state directory that cannot be written does not stop the records that the sink takes; what it refuses is tried for a while and then counted.
#[tokio::test]
async fn refused_records_do_not_stop_a_route_that_has_no_room_for_them() {
    let (address, shared) = start().await;
    let mut setting = open(&format!("elasticsearch://{address}"));
    let directory = setting.state.path().join("dead-letters");
    std::fs::write(&directory, "a file where the directory should be").unwrap();
    script(&shared, [Reply::Items(vec![201, 400])]);
    let (delivery, ()) = tokio::join!(setting.deliver(0..10), async {
        setting.degrades("it is tried for 60 s").await;
        std::fs::remove_file(&directory).unwrap();
    });
    assert_eq!((delivery, setting.dead_letters().len()), ((5, 0, 5), 5), "what can be written again in time is kept");
    assert_eq!((setting.dropped("dead_letter_failed"), setting.degraded()), (0, None));

    std::fs::remove_dir_all(&directory).unwrap();
    let Sink::Elasticsearch(sink) = &mut setting.sink else { panic!() };
    (sink.dead_letter_patience, sink.dead_letter) =
        (std::time::Duration::ZERO, DeadLetter::new(Some(&directory), "x", setting.metrics.route("x")));
    std::fs::write(&directory, "").unwrap();
    script(&shared, [Reply::Items(vec![201, 400])]);
    assert_eq!(setting.deliver(10..20).await, (5, 0, 5));
    assert_eq!((setting.dropped("dead_letter_failed"), setting.counter("skep_log_dead_letters_total")), (5, 5));
    assert_eq!(setting.deliver(20..30).await, (10, 0, 0));
}

/// On the one thread of a runtime nothing else would run while a batch is compressed or a file of secrets is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn long_work_lets_other_tasks_go_on() {
    let (tell, told) = std::sync::mpsc::channel();
    let long = tokio::spawn(async move { super::off_the_workers(|| told.recv_timeout(GUARD)) });
    let other = tokio::spawn(async move { tell.send(()) });
    assert!(long.await.unwrap().is_ok() && other.await.unwrap().is_ok());
}

/// An answer that is longer than its bound is not read; the request is divided until it is short enough.
#[tokio::test]
async fn an_answer_that_is_too_long_divides_the_request() {
    let (address, shared) = start().await;
    let setting = open(&format!("elasticsearch://{address}"));
    script(&shared, [Reply::Long(33 << 20)]);
    assert_eq!(setting.deliver(0..5000).await, (0, 5000, 0));
    assert_eq!((shared.lock().unwrap().requests, setting.retries("200")), (3, 5000));
}

/// Fifty batches through every fault: nothing is lost, nothing is there twice.
#[tokio::test]
async fn a_long_run_through_all_faults() {
    let (address, shared) = start().await;
    let setting = open(&format!("elasticsearch://{address},{address}?timeout=1s"));
    let faults = [
        Reply::Items(vec![201, 429]),
        Reply::Cut,
        Reply::Items(vec![201]),
        Reply::Close,
        Reply::Whole(503, ""),
        Reply::Items(vec![503, 201, 201]),
        Reply::Text("{"),
        Reply::Items(vec![201]),
    ];
    script(&shared, faults.iter().cycle().take(60).cloned());
    let mut sums = (0, 0);
    for number in 0..50u32 {
        let (taken, duplicates, refused) = setting.deliver(number * 20..number * 20 + 20).await;
        assert_eq!(refused, 0);
        sums = (sums.0 + taken, sums.1 + duplicates);
    }
    assert_eq!(sums.0 + sums.1, 1000);
    let server = shared.lock().unwrap();
    assert_eq!(server.taken.len(), 1000);
    assert!(server.taken.iter().all(|(id, document)| document.contains(&format!("<{id}>"))));
}

/// Asks a real server, past the sink.
async fn ask(address: &str, method: elasticsearch::http::Method, path: &str) -> serde_json::Value {
    let url = elasticsearch::http::Url::parse(&format!("http://{address}")).unwrap();
    let pool = elasticsearch::http::transport::SingleNodeConnectionPool::new(url);
    let transport = elasticsearch::http::transport::TransportBuilder::new(pool).disable_proxy().build().unwrap();
    let headers = elasticsearch::http::headers::HeaderMap::new();
    transport.send::<Bytes, ()>(method, path, headers, None, None, None).await.unwrap().json().await.unwrap()
}

async fn get(address: &str, path: String) -> serde_json::Value {
    ask(address, elasticsearch::http::Method::Get, &path).await
}

/// Records for an index, by number.
fn batch_for(index: &str, numbers: std::ops::Range<u32>, document: &dyn Fn(u32) -> String) -> Batch {
    let mut batch = Batch::default();
    for number in numbers {
        push(&mut batch, &format!("{{\"create\":{{\"_index\":\"{index}\",\"_id\":\"{number:06}\"}}}}\n"), &document(number));
    }
    batch
}

fn good(number: u32) -> String {
    format!(
        "{{\"@timestamp\":\"2026-11-20T08:00:00.123456789Z\",\"message\":\"line {number}\",\"host\":\"h\",\"log\":{{\"offset\":{number}}}}}"
    )
}

const fn done(taken: u64, duplicates: u64, refused: u64) -> Delivery {
    Delivery::Done { taken, duplicates, refused }
}

/// What a real server says, 7.17 for one: the document is taken once, the template came first, times keep their nanoseconds.
#[tokio::test]
#[ignore = "asks a real Elasticsearch or OpenSearch at SKEP_TEST_ELASTICSEARCH=host:port"]
async fn a_real_server() {
    let address = std::env::var("SKEP_TEST_ELASTICSEARCH").unwrap();
    let index = format!("skep-test-{:x}", super::retry::random());
    for (gzip, schema) in [(true, "ecs"), (false, "logstash")] {
        let pattern = format!("{index}-{gzip}-%25Y");
        let setting = open(&format!("elasticsearch://{address}?index={pattern}&manage_template=true&gzip={gzip}&schema={schema}"));
        let index = format!("{index}-{gzip}-2026");
        let stop = CancellationToken::new();
        let who = setting.sink.probe().await.unwrap();
        assert!(who.contains(&address) && !who.contains("unknown"), "{who}");
        println!("{who}");
        assert_eq!(setting.sink.deliver(&batch_for(&index, 0..1000, &good), &stop).await, done(1000, 0, 0));
        assert_eq!(setting.sink.deliver(&batch_for(&index, 500..1500, &good), &stop).await, done(500, 500, 0));
        let one_bad = |number| if number == 1501 { "{\"@timestamp\":\"no time\"}".to_owned() } else { good(number) };
        assert_eq!(setting.sink.deliver(&batch_for(&index, 1500..1503, &one_bad), &stop).await, done(2, 0, 1));
        let letters = setting.dead_letters();
        assert_eq!((letters.len(), &letters[0]["document"]["@timestamp"]), (1, &"no time".into()));
        assert!(letters[0]["reason"].as_str().unwrap().contains("@timestamp"), "{}", letters[0]);
        let garbage = |number| if number == 1504 { "{\"@timestamp\":".to_owned() } else { good(number) };
        assert_eq!(setting.sink.deliver(&batch_for(&index, 1503..1506, &garbage), &stop).await, done(2, 0, 1));
        println!("{:#?}", setting.dead_letters());

        let mapping = get(&address, format!("{index}/_mapping")).await;
        let properties = &mapping[&index]["mappings"]["properties"];
        assert_eq!(properties["@timestamp"]["type"], "date_nanos");
        assert_eq!((&properties["message"]["type"], &properties["log"]["properties"]["offset"]["type"]), (&"text".into(), &"long".into()));
        let host = &properties["host"];
        let expected = if schema == "ecs" { ("keyword", None) } else { ("text", Some("keyword")) };
        assert_eq!((host["type"].as_str().unwrap(), host["fields"]["keyword"]["type"].as_str()), expected);
        get(&address, format!("{index}/_refresh")).await;
        assert_eq!(get(&address, format!("{index}/_count")).await["count"], 1504);
    }
}

/// The first record makes the data stream, by the template that was put before it; its newest backing index knows what it has.
#[tokio::test]
#[ignore = "asks a real Elasticsearch or OpenSearch at SKEP_TEST_ELASTICSEARCH=host:port"]
async fn a_real_servers_data_stream() {
    let address = std::env::var("SKEP_TEST_ELASTICSEARCH").unwrap();
    let name = format!("logs-skep.test-{:x}", super::retry::random());
    let setting = open(&format!("elasticsearch://{address}?data_stream={name}"));
    let stop = CancellationToken::new();
    assert_eq!(setting.sink.deliver(&batch_for(&name, 0..1000, &good), &stop).await, done(1000, 0, 0));
    assert_eq!(setting.sink.deliver(&batch_for(&name, 500..1500, &good), &stop).await, done(500, 500, 0));
    let no_time = |number| if number == 1501 { "{\"message\":\"x\"}".to_owned() } else { good(number) };
    assert_eq!(setting.sink.deliver(&batch_for(&name, 1500..1503, &no_time), &stop).await, done(2, 0, 1));
    println!("{:#?}", setting.dead_letters());
    let rolled = ask(&address, elasticsearch::http::Method::Post, &format!("{name}/_rollover")).await;
    assert_eq!(rolled["rolled_over"], true, "{rolled}");
    assert_eq!(setting.sink.deliver(&batch_for(&name, 2000..2010, &good), &stop).await, done(10, 0, 0));
    assert_eq!(setting.counter("skep_log_possible_duplicates_total"), 0, "every answer was there");
    // The limit that is told: the newest backing index does not know the ids of the one before.
    assert_eq!(setting.sink.deliver(&batch_for(&name, 0..10, &good), &stop).await, done(10, 0, 0));
    let mapping = get(&address, format!("{name}/_mapping")).await;
    let backing: Vec<&String> = mapping.as_object().unwrap().keys().collect();
    assert!(backing.len() == 2 && backing.iter().all(|index| index.starts_with(&format!(".ds-{name}-"))), "{backing:?}");
    assert_eq!(mapping[backing[0]]["mappings"]["properties"]["@timestamp"]["type"], "date_nanos");
    get(&address, format!("{name}/_refresh")).await;
    assert_eq!(get(&address, format!("{name}/_count")).await["count"], 1522);
}
