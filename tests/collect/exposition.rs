//! Text files of users: the rules by which they are taken, and what comes of them in the answer.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skep::collect::{self, Collector, Pass};
use skep::exposition::{Format, Group, Manner, Scraper, Writer, openmetrics};
use skep::host::{Reader, Root};
use skep::model::LabelSet;
use skep::telemetry::{Metrics, Parts};

use crate::support::{Collected, at, check_exposition, golden, run, settings};

const FLAG: &str = "collector.textfile.directory";
const ERROR: &str = "# HELP node_textfile_scrape_error 1 if there was an error opening or reading a file, 0 otherwise\n\
                     # TYPE node_textfile_scrape_error gauge\nnode_textfile_scrape_error ";

fn collector(patterns: &[&str]) -> Box<dyn Collector> {
    let mut settings = settings(&[("collector.disable-defaults", "true"), ("collector.textfile", "true")]);
    settings.set(FLAG, patterns.iter().map(|pattern| (*pattern).to_owned()).collect());
    collect::build(&settings).unwrap().remove(0).1
}

/// What comes of files in one folder: without the times of change and the folder's own name, and with `error` the value of the last family.
struct Taken {
    text: String,
    error: bool,
    files: Vec<String>,
    odd: Vec<String>,
}

fn taken(files: &[(&str, &str)]) -> Taken {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    of(&run(&mut *collector(&[directory.path().to_str().unwrap()]), at(Path::new("/nonexistent"))), directory.path())
}

fn of(collected: &Collected, directory: &Path) -> Taken {
    assert!(collected.result.is_ok());
    let text = collected.text.replace(&format!("{}/", directory.display()), "");
    let (text, error) = text.split_once(ERROR).unwrap();
    let (text, times) = text.split_once("# HELP node_textfile_mtime_seconds").unwrap_or((text, ""));
    let files = times.lines().filter_map(|line| line.strip_prefix("node_textfile_mtime_seconds{file=\"")?.split('"').next());
    check_exposition(
        &text
            .lines()
            .filter(|line| !line.contains("_bucket") && !line.contains("_sum") && !line.contains("_count"))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    Taken {
        text: text.to_owned(),
        error: error == "1\n",
        files: files.map(str::to_owned).collect(),
        odd: (collected.oddities > 0).then(|| collected.example.replace(&format!("{}/", directory.display()), "")).into_iter().collect(),
    }
}

#[test]
fn the_files_of_two_folders() {
    let root = "tests/fixtures/host/by-hand-exposition";
    // Relative paths, so that the golden file knows no machine.
    let pattern = format!("{root}/root/var/lib/textfile/*");
    let found = run(&mut *collector(&[&pattern]), at(Path::new("/nonexistent")));
    assert_eq!((found.oddities, found.example.as_str()), (0, ""));
    let stable = |text: &str| -> String {
        let lines = text.lines().map(|line| match line.strip_prefix("node_textfile_mtime_seconds{") {
            Some(_) => format!("{} TIME\n", line.rsplit_once(' ').unwrap().0),
            None => format!("{line}\n"),
        });
        lines.collect()
    };
    golden("by-hand-exposition/textfile.prom", &stable(&found.text));
    let open = String::from_utf8(openmetrics::of_text(found.text.as_bytes())).unwrap();
    golden("by-hand-exposition/textfile.openmetrics", &stable(&open));
}

#[test]
fn a_bad_file_is_left_out_whole_and_costs_no_other() {
    let good = ("good.prom", "a 1\n");
    for (bad, why) in [
        ("b 1\nc 2 1441205977284\n", "bad.prom: line 2: c has a timestamp, which a file may not have; the file is left out"),
        ("b 1\nc{\n", "bad.prom: line 2: the brace of c is not closed"),
        ("b 1\nc 2", "bad.prom: line 2: the last line has no line feed"),
    ] {
        let taken = taken(&[("bad.prom", bad), good, ("ignored.txt", "{"), (".prom.tmp", "{")]);
        assert_eq!((taken.text.as_str(), taken.error), ("# HELP a Metric read from good.prom\n# TYPE a untyped\na 1\n", true));
        assert_eq!(taken.files, ["good.prom"]);
        assert!(taken.odd[0].starts_with(why), "{:?}", taken.odd);
    }
    let taken = taken(&[good]);
    assert_eq!((taken.error, taken.odd.len()), (false, 0));
}

#[test]
fn no_folder_is_no_error_and_a_missing_one_is() {
    let nothing = run(&mut *collector(&[]), at(Path::new("/nonexistent")));
    assert_eq!((nothing.text, nothing.oddities), (format!("{ERROR}0\n"), 0));
    let empty = tempfile::tempdir().unwrap();
    let missing = empty.path().join("missing");
    let found = run(&mut *collector(&[missing.to_str().unwrap(), empty.path().to_str().unwrap()]), at(Path::new("/nonexistent")));
    assert_eq!((found.text, found.oddities), (format!("{ERROR}1\n"), 1));
    assert!(found.example.contains("missing: there is no such folder"), "{}", found.example);
}

#[test]
fn one_help_and_one_type_for_a_family() {
    let file = |help: &str, kind: &str, label: &str| format!("{help}# TYPE a {kind}\na{{f=\"{label}\"}} 1\n");
    let one = |help: &str| file(help, "counter", "1");
    let samples = "# TYPE a counter\na{f=\"1\"} 1\na{f=\"2\"} 1\n";
    for (first, second, help) in [
        ("", "", "Metric read from 1.prom, 2.prom"),
        ("# HELP a \n", "# HELP a\n", "Metric read from 1.prom, 2.prom"),
        ("# HELP a Same.\n", "# HELP a Same.\n", "Same."),
        // node_exporter drops the second here; nothing contradicts.
        ("# HELP a One.\n", "", "One."),
        ("", "# HELP a Two.\n", "Two."),
    ] {
        let taken = taken(&[("1.prom", &one(first)), ("2.prom", &file(second, "counter", "2"))]);
        assert_eq!((taken.text, taken.error), (format!("# HELP a {help}\n{samples}"), false), "{first}{second}");
    }
    let first = "# HELP a One.\n# TYPE a counter\na{f=\"1\"} 1\na{f=\"3\"} 1\n";
    let third = ("3.prom", file("# HELP a One.\n", "counter", "3"));
    for (second, why) in [
        (file("# HELP a Two.\n", "counter", "2"), "2.prom: a has the help text \"Two.\", and \"One.\" in 1.prom"),
        (file("", "gauge", "2"), "2.prom: a is a gauge, and a counter in 1.prom"),
    ] {
        let taken = taken(&[("1.prom", &one("# HELP a One.\n")), ("2.prom", &second), (third.0, &third.1)]);
        assert_eq!((taken.text.as_str(), taken.error), (first, true));
        assert_eq!(taken.files, ["1.prom", "2.prom", "3.prom"]);
        assert!(taken.odd[0].starts_with(why), "{:?}", taken.odd);
    }
}

#[test]
fn no_series_stands_twice() {
    let one = "# HELP a A.\n# TYPE a gauge\na{x=\"1\"} 1\n";
    for (second, what) in
        [("a{x=\"1\",y=\"\"} 2\n", "2.prom: line 2: a{x=\"1\"} is there already"), ("a{x=\"1\"} 2\n", "2.prom: line 2: a{x=\"1\"}")]
    {
        let taken = taken(&[("1.prom", one), ("2.prom", &format!("# TYPE a gauge\n{second}"))]);
        assert_eq!((taken.text.as_str(), taken.error), (one, true));
        assert!(taken.odd[0].starts_with(what), "{:?}", taken.odd);
    }
    // Names that a summary's samples have, and the collector's own.
    for other in ["# TYPE s summary\ns_sum 1\n", "node_textfile_scrape_error 1\n", "node_textfile_mtime_seconds{file=\"x\"} 1\n"] {
        let taken = taken(&[("1.prom", "s_count 1\n"), ("2.prom", other)]);
        assert_eq!(
            (taken.text.as_str(), taken.error),
            ("# HELP s_count Metric read from 1.prom\n# TYPE s_count untyped\ns_count 1\n", true)
        );
        assert!(taken.odd[0].contains("would have samples of one name with"), "{:?}", taken.odd);
    }
}

#[test]
fn samples_of_a_family_have_the_same_labels() {
    let taken = taken(&[("1.prom", "a{x=\"1\"} 1\na{y=\"2\"} 2\na 3\n")]);
    assert!(taken.text.ends_with("a{x=\"1\",y=\"\"} 1\na{y=\"2\",x=\"\"} 2\na{x=\"\",y=\"\"} 3\n"), "{}", taken.text);
}

#[test]
fn what_is_no_file_is_told() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("folder.prom")).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, directory.path().join("pipe.prom"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    std::os::unix::fs::symlink("nowhere", directory.path().join("link.prom")).unwrap();
    fs::write(directory.path().join("z.prom"), "a 1\n").unwrap();
    let found = run(&mut *collector(&[directory.path().to_str().unwrap()]), at(Path::new("/nonexistent")));
    assert!(
        found.oddities == 3 && found.example.ends_with("folder.prom: it is no regular file; the file is left out"),
        "{}",
        found.example
    );
    assert!(of(&found, directory.path()).text.ends_with("a 1\n"));
}

#[test]
fn a_folder_that_is_not_there_is_looked_for_on_the_host() {
    let host = tempfile::tempdir().unwrap();
    fs::create_dir_all(host.path().join("root/nonexistent/text")).unwrap();
    fs::write(host.path().join("root/nonexistent/text/a.prom"), "a 1\n").unwrap();
    fs::write(host.path().join("root/b"), "b 1\n").unwrap();
    std::os::unix::fs::symlink("/b", host.path().join("root/nonexistent/text/b.prom")).unwrap();
    let found = of(&run(&mut *collector(&["/nonexistent/text"]), at(host.path())), host.path());
    assert_eq!((found.files, found.error), (vec!["/nonexistent/text/a.prom".to_owned(), "/nonexistent/text/b.prom".to_owned()], false));
    assert!(found.text.contains("\nb 1\n"), "{}", found.text);
    let missing = run(&mut *collector(&["/nonexistent/x"]), at(host.path()));
    assert!(missing.example.contains("there is no such folder, nor on the host at "), "{}", missing.example);
}

#[test]
fn the_label_of_a_sample_wins_over_the_constant_one() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.prom"), "a{host=\"other\"} 1\na{host=\"\",x=\"1\"} 2\na{x=\"1\"} 3\na{host=\"n\",x=\"1\"} 4\n")
        .unwrap();
    let mut reader = Reader::new(Arc::new(at(Path::new("/nonexistent"))));
    let mut writer = Writer::new(Arc::new(LabelSet::of([("host", "n")])));
    let mut pass = Pass::new(&mut reader, &mut writer);
    collector(&[directory.path().to_str().unwrap()]).collect(&mut pass).unwrap();
    assert_eq!(pass.oddities().0, 2, "two would have been the series with host=\"n\"");
    let text = std::str::from_utf8(writer.text()).unwrap();
    assert!(text.contains("\na{host=\"other\",x=\"\"} 1\na{x=\"1\",host=\"n\"} 2\n# HELP"), "{text}");
}

#[test]
fn bounds_of_all_files() {
    let long: String = (0..60_000).map(|series| format!("a{{x=\"{series}\"}} 1\n")).collect();
    let taken = taken(&[("1.prom", &long), ("2.prom", "b 1\n")]);
    assert!(taken.odd[0].contains("more than 50000 samples"), "{:?}", taken.odd);
    assert_eq!(taken.files, ["2.prom"]);
}

#[tokio::test]
async fn families_that_skep_has_itself_stay_skep_s() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.prom"), "node_load1 7\nmine 1\n").unwrap();
    fs::create_dir_all(directory.path().join("proc")).unwrap();
    fs::write(directory.path().join("proc/loadavg"), "0.5 0.4 0.3 1/100 1\n").unwrap();
    let built = collect::build(&settings(&[("collector.disable-defaults", "true"), ("collector.loadavg", "true")])).unwrap();
    let mut members: Vec<_> = built.into_iter().map(|(name, collector)| (name, Group::Node, collector)).collect();
    members.push(("textfile", Group::Node, collector(&[directory.path().to_str().unwrap()])));
    let root: Arc<Root> = Arc::new(at(directory.path()));
    let metrics = Metrics::new().unwrap();
    let scraper = Scraper::start(
        members,
        &root,
        &Arc::new(LabelSet::of([("host", "n")])),
        Manner { patience: std::time::Duration::from_secs(600), tells_presence: true },
        metrics.clone(),
        &Parts::default(),
    )
    .unwrap();
    let limit = Duration::from_secs(60);
    let answer = scraper.scrape(scraper.select(|_, _| true), limit).await.unwrap();
    let text = std::str::from_utf8(&answer).unwrap();
    check_exposition(text);
    assert!(text.contains("node_load1{host=\"n\"} 0.5\n") && text.contains("mine{host=\"n\"} 1\n") && !text.contains(" 7\n"), "{text}");
    assert!(text.contains("node_textfile_scrape_error{host=\"n\"} 1\n"), "{text}");
    assert_eq!(metrics.collector_oddities.with_label_values(&["textfile"]).get(), 1);
    let open = Format::OpenMetrics100.encoded(answer);
    assert!(open.ends_with(b"# EOF\n"));
    // Alone it is nobody's.
    let answer = scraper.scrape(scraper.select(|name, _| name == "textfile"), limit).await.unwrap();
    let text = std::str::from_utf8(&answer).unwrap();
    assert!(text.contains("node_load1{host=\"n\"} 7\n") && text.contains("node_textfile_scrape_error{host=\"n\"} 0\n"), "{text}");
}
