//! `*.prom` files that cron jobs and scripts leave in a folder, and `node_textfile_mtime_seconds` and `node_textfile_scrape_error` about them.
//!
//! A file is taken whole or not at all: a script that dies half way through it must not leave half of its numbers. One with timestamps is refused, because
//! Prometheus would drop its samples as soon as they are five minutes old. What is refused, and where two files contradict each other, is told with the file
//! and the line, makes `node_textfile_scrape_error` 1, and costs nothing else. That a family has a name which skep's own families have is seen where answers
//! are put together ([`crate::exposition::merge`]).

mod parse;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use self::parse::{Body, Family, MOST_LABELS, Metric, Refusal};
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, entry};
use crate::config::{Flag, FlagKind};
use crate::exposition::Writer;
use crate::exposition::text::bound;
use crate::host::Reader;
use crate::host::user_files::utf8;
use crate::model::{Kind, LabelSet};

const DIRECTORY: Flag = Flag::new(
    "collector.textfile.directory",
    FlagKind::Many("DIR"),
    None,
    "Folder of *.prom files with metrics in Prometheus' text format; * and ? are understood; repeatable. In a container one that is not there is looked for on the host, below --path.rootfs.",
);

pub(super) const ENTRY: Entry = entry!("textfile", on, &[DIRECTORY], |settings| {
    let patterns = settings.many(DIRECTORY.name).iter().filter(|pattern| !pattern.is_empty()).map(PathBuf::from).collect();
    Ok(Box::new(TextFile { patterns }))
});

/// Bounds of all text files together.
const MOST_BYTES: u64 = 16 << 20;
const MOST_SAMPLES: usize = 50_000;
const MOST_FILES: usize = 1000;
/// What labels that are empty may add to the answer.
const MOST_PADDING: usize = 4 << 20;
/// Files that a help text names.
const FILES_IN_HELP: usize = 20;

const MTIME: (&str, &str) = ("node_textfile_mtime_seconds", "Unixtime mtime of textfiles successfully read.");
const ERROR: (&str, &str) = ("node_textfile_scrape_error", "1 if there was an error opening or reading a file, 0 otherwise");

struct TextFile {
    patterns: Vec<PathBuf>,
}

/// What is gathered from all files.
#[derive(Default)]
struct Gathered {
    families: BTreeMap<String, Merged>,
    /// Every name that a sample may have, with the family whose it is.
    names: HashMap<String, String>,
    mtimes: BTreeMap<String, i64>,
}

/// A family of one or several files.
struct Merged {
    kind: Kind,
    help: Option<String>,
    files: Vec<String>,
    metrics: Vec<Metric>,
    /// The labels of those, for no series may stand twice.
    series: HashSet<String>,
}

impl Collector for TextFile {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let mut trouble = Trouble { odd, is_any: false };
        let mut gathered = Gathered::default();
        for (name, _) in [MTIME, ERROR] {
            gathered.names.insert(name.to_owned(), name.to_owned());
        }
        let (mut bytes_left, mut samples_left, mut files_left) = (MOST_BYTES, MOST_SAMPLES, MOST_FILES);
        for file in files(host, &self.patterns, &mut files_left, &mut trouble) {
            let (changed, bytes) = match host.regular(&file.path, bytes_left) {
                Ok(read) => read,
                Err(error) => {
                    trouble.tell(&format_args!("{}: {}; the file is left out", file.shown, error.source));
                    continue;
                }
            };
            bytes_left = bytes_left.saturating_sub(bytes.len() as u64);
            let parsed =
                parse::parse(bytes, samples_left, &mut |line, what| trouble.tell(&format_args!("{}: line {line}: {what}", file.shown)));
            match parsed {
                Ok((families, samples)) => {
                    samples_left = samples_left.saturating_sub(samples);
                    gathered.mtimes.insert(file.shown.clone(), changed);
                    for family in families {
                        gathered.add(family, &file.shown, out.constant(), &mut trouble);
                    }
                }
                Err(Refusal { line, what }) => trouble.tell(&format_args!("{}: line {line}: {what}; the file is left out", file.shown)),
            }
        }
        out.guests(ERROR.0, |out| gathered.write(out));
        let mut family = out.family(MTIME.0, Kind::Gauge, MTIME.1);
        for (file, changed) in &gathered.mtimes {
            family.sample(&[("file", file)], *changed);
        }
        out.gauge(ERROR.0, ERROR.1, trouble.is_any);
        Ok(Presence::Present)
    }
}

/// Oddities, and whether there were any.
struct Trouble<'o> {
    odd: &'o mut Oddities,
    is_any: bool,
}

impl Trouble<'_> {
    fn tell(&mut self, what: &dyn std::fmt::Display) {
        self.odd.tell(what);
        self.is_any = true;
    }
}

struct Found {
    /// As this process reaches it.
    path: PathBuf,
    /// As it is shown: on a mounted root, the path on the host.
    shown: String,
}

/// The files that `patterns` name, each once.
fn files(host: &Reader, patterns: &[PathBuf], left: &mut usize, trouble: &mut Trouble<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    let mut known = HashSet::new();
    let root = host.root();
    for pattern in patterns {
        let mut folders = host.folders(pattern);
        let mut is_on_host = false;
        if folders.is_empty() && !root.is_own_rootfs() {
            folders = host.folders(&root.on_rootfs(pattern));
            is_on_host = true;
        }
        if folders.is_empty() {
            let also = if is_on_host { format!(", nor on the host at {}", root.on_rootfs(pattern).display()) } else { String::new() };
            trouble.tell(&format_args!("--{}={}: there is no such folder{also}", DIRECTORY.name, pattern.display()));
        }
        for folder in folders {
            let opened = host.link_on_rootfs(folder.clone());
            let (names, are_more) = match host.names_ending(&opened, ".prom", *left) {
                Ok(names) => names,
                Err(error) => {
                    trouble.tell(&error);
                    continue;
                }
            };
            if are_more {
                trouble.tell(&format_args!("{}: there are more than {MOST_FILES} files; the others are left out", folder.display()));
            }
            *left = left.saturating_sub(names.len());
            let shown_folder = if is_on_host { root.as_on_host(folder) } else { folder };
            for name in names {
                let path = opened.join(&name);
                let Some(name) = utf8(name).filter(|_| shown_folder.to_str().is_some()) else {
                    trouble.tell(&format_args!("{}: the name is not UTF-8; the file is left out", path.display()));
                    continue;
                };
                if known.insert(path.clone()) {
                    found.push(Found { path: host.link_on_rootfs(path), shown: shown_folder.join(name).display().to_string() });
                }
            }
        }
    }
    found
}

/// The names that samples of a family may have.
fn names_of(name: &str, kind: Kind) -> Vec<String> {
    let parts: &[&str] = match kind {
        Kind::Counter | Kind::Gauge | Kind::Untyped => &[""],
        Kind::Summary => &["", "_sum", "_count"],
        Kind::Histogram => &["", "_sum", "_count", "_bucket"],
    };
    parts.iter().map(|part| format!("{name}{part}")).collect()
}

impl Gathered {
    /// Adds a family of a file. Where it contradicts one that is there, that one stays.
    fn add(&mut self, family: Family, file: &str, constant: &LabelSet, trouble: &mut Trouble<'_>) {
        let Family { name, kind, help, metrics, .. } = family;
        let mut refuse = |why: &dyn std::fmt::Display| trouble.tell(&format_args!("{file}: {name} {why}; it is left out"));
        if let Some(known) = self.families.get_mut(&name) {
            let first = known.files.first().map_or("", String::as_str);
            if known.kind != kind {
                return refuse(&format_args!("is a {}, and a {} in {first}", kind.as_str(), known.kind.as_str()));
            }
            match (&known.help, help) {
                (Some(known), Some(help)) if *known != help => {
                    return refuse(&format_args!("has the help text {help:?}, and {known:?} in {first}"));
                }
                (None, Some(help)) => known.help = Some(help),
                _ => {}
            }
        } else {
            let names = names_of(&name, kind);
            if let Some(other) = names.iter().find_map(|name| self.names.get(name)) {
                return refuse(&format_args!("would have samples of one name with {other}"));
            }
            self.names.extend(names.into_iter().map(|sample| (sample, name.clone())));
            let merged = Merged { kind, help, files: Vec::new(), metrics: Vec::new(), series: HashSet::new() };
            self.families.insert(name.clone(), merged);
        }
        let Some(merged) = self.families.get_mut(&name) else { return };
        let mut together = parse::label_names(&merged.metrics);
        together.extend(parse::label_names(&metrics));
        if together.len() > MOST_LABELS {
            return refuse(&format_args!("has more than {MOST_LABELS} names of labels"));
        }
        merged.files.push(file.to_owned());
        for mut metric in metrics {
            // An empty label is none to Prometheus; of the constant ones it would take the place.
            metric.labels.retain(|label, value| !(value.is_empty() && constant.contains(label)));
            let brings = constant.names().any(|label| metric.labels.contains_key(label));
            let own = LabelSet::of(metric.labels.iter().filter(|(_, value)| !value.is_empty()).map(|(label, value)| (&**label, &**value)));
            // As it will stand in the answer: `a="1"` with the constant `host="n"` is one series with `a="1",host="n"`.
            let mut pieces: Vec<LabelSet> = metric
                .labels
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(label, value)| LabelSet::of([(&**label, &**value)]))
                .collect();
            if !brings {
                pieces.push(constant.clone());
            }
            pieces.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
            let series: Vec<&str> = pieces.iter().map(LabelSet::as_str).collect();
            if merged.series.insert(series.join(",")) {
                merged.metrics.push(metric);
            } else {
                let place = if own.is_empty() { String::new() } else { format!("{{{}}}", own.as_str()) };
                trouble.tell(&format_args!("{file}: line {}: {name}{place} is there already; the first is kept", metric.line));
            }
        }
    }

    fn write(&self, out: &mut Writer) {
        let mut padding_left = MOST_PADDING;
        for (name, merged) in &self.families {
            let help = merged.help.clone().unwrap_or_else(|| {
                let mut files = merged.files.iter().take(FILES_IN_HELP).map(String::as_str).collect::<Vec<&str>>().join(", ");
                if merged.files.len() > FILES_IN_HELP {
                    files.push_str(", ...");
                }
                format!("Metric read from {files}")
            });
            // As node_exporter: every sample of a family has the same labels, though an empty one is none.
            let mut names = parse::label_names(&merged.metrics);
            names.retain(|name| !out.constant().contains(name));
            let padding = names.iter().map(|name| name.len() + 4).sum::<usize>().saturating_mul(merged.metrics.len());
            match padding_left.checked_sub(padding) {
                Some(left) => padding_left = left,
                None => names.clear(),
            }
            let mut family = out.family(name, merged.kind, &help);
            for Metric { labels, body, .. } in &merged.metrics {
                let mut set = LabelSet::new();
                for (label, value) in labels {
                    set.push(label, value);
                }
                for label in names.iter().filter(|label| !labels.contains_key(**label)) {
                    set.push(label, "");
                }
                match body {
                    Body::One(value) => {
                        family.sample_of(&set, &[], *value);
                    }
                    Body::Summary { count, sum, quantiles } => {
                        for (quantile, value) in quantiles {
                            family.sample_of(&set, &[("quantile", &bound(*quantile))], *value);
                        }
                        family.part("_sum", &set, &[], *sum).part("_count", &set, &[], *count);
                    }
                    Body::Histogram { count, sum, buckets } => {
                        for (le, below) in buckets {
                            family.part("_bucket", &set, &[("le", &bound(*le))], *below);
                        }
                        family.part("_sum", &set, &[], *sum).part("_count", &set, &[], count.unwrap_or(0));
                    }
                }
            }
        }
    }
}
