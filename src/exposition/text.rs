//! The writer of Prometheus' text format 0.0.4, and the only way in which a collector says a number.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::answer::{MOST_SETS, expand, push_mark};
use super::merge::names;
use crate::model::{Kind, LabelSet, Value, escape_help, escape_label};

/// How much of the buffer is kept between scrapes: more than a host has families for.
const MOST_KEPT: usize = 256 << 10;

/// A buffer of text into which collectors write families.
///
/// The buffer is kept between scrapes, so a scrape of the same size allocates nothing. Constant labels (the identity, decided once) go onto
/// every sample that does not bring a label of the same name itself.
#[derive(Debug)]
pub struct Writer {
    text: Vec<u8>,
    constant: Arc<LabelSet>,
    /// Of the constant labels, whose text would have to be searched for them at every sample.
    constant_names: Vec<String>,
    /// What follows a mark that is the only one of its line: the constant labels, and the end of all.
    behind_mark: String,
    scratch: String,
    samples: u64,
    heads: Vec<u64>,
    guests: Option<Guests>,
    shared: Option<Shared>,
}

/// Families whose names others chose: of two of one name skep's own stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guests {
    /// Where they stand in the text.
    pub families: Range<usize>,
    /// The gauge of the same text that becomes 1 when one of them has to go.
    pub verdict: &'static str,
}

impl Writer {
    /// A writer that puts `constant` on every sample.
    #[must_use]
    pub fn new(constant: Arc<LabelSet>) -> Self {
        let constant_names = constant.names().map(str::to_owned).collect();
        let behind_mark = format!(",{}}} ", constant.as_str());
        Self {
            text: Vec::new(),
            constant,
            constant_names,
            behind_mark,
            scratch: String::new(),
            samples: 0,
            heads: Vec::new(),
            guests: None,
            shared: None,
        }
    }

    /// The same writer, but that sets which [`Family::sample_shared`] gets are not copied into the text: it has marks in their places, as in an
    /// [`Answer`](super::Answer).
    #[must_use]
    pub fn with_marks(mut self) -> Self {
        self.shared = Some(Shared::default());
        self
    }

    /// Starts a family. Its head is written with its first sample, so a family without samples leaves no trace.
    pub fn family<'w>(&'w mut self, name: &'w str, kind: Kind, help: &'w str) -> Family<'w> {
        Family { writer: self, name, kind, help, begun: false }
    }

    /// A gauge with one sample without labels of its own.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Into<Value>) {
        self.family(name, Kind::Gauge, help).sample(&[], value);
    }

    /// A counter with one sample without labels of its own.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Into<Value>) {
        self.family(name, Kind::Counter, help).sample(&[], value);
    }

    /// Families that are in the format already, constant labels included.
    pub fn encoded(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        write(&mut self.text);
        self.heads.extend(names(self.text.get(start..).unwrap_or_default()).map(head_of));
    }

    /// Writes families whose names others chose, so that another collector may have them too. Once in a text; `verdict` is the gauge, written by the same
    /// collector, that tells of trouble with them.
    pub fn guests(&mut self, verdict: &'static str, write: impl FnOnce(&mut Self)) {
        let start = self.text.len();
        write(self);
        let families = start..self.text.len();
        self.guests = (!families.is_empty()).then_some(Guests { families, verdict });
    }

    /// Where the families of [`Writer::guests`] are.
    #[must_use]
    pub const fn guest_families(&self) -> Option<&Guests> {
        self.guests.as_ref()
    }

    /// The labels that every sample gets which brings none of their names.
    #[must_use]
    pub fn constant(&self) -> &LabelSet {
        &self.constant
    }

    /// What the marks in the text stand for. Empty where there are none.
    #[must_use]
    pub fn sets(&self) -> &[Arc<LabelSet>] {
        self.shared.as_ref().map_or(&[], |shared| &shared.sets)
    }

    /// Appends what was written, the sets in their places.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        expand(&self.text, self.sets(), out);
    }

    /// What was written.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// A number for the name of each family that was begun, the same for the same name and else hardly ever: whether a name stands twice in an answer is then a
    /// question of a few microseconds. What [`Writer::truncate`] took back may be among them.
    #[must_use]
    pub fn heads(&self) -> &[u64] {
        &self.heads
    }

    /// The number of samples written.
    #[must_use]
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// Takes back everything behind the first `length` bytes: what a collector wrote before it failed half way through a family.
    pub fn truncate(&mut self, length: usize) {
        self.text.truncate(length);
        if self.guests.as_ref().is_some_and(|guests| guests.families.end > length) {
            self.guests = None;
        }
    }

    /// Makes room for so many bytes more.
    pub fn make_room(&mut self, length: usize) {
        self.text.reserve_exact(length);
    }

    /// Gives what was written away; all else stays until [`Writer::clear`].
    pub(super) fn take_text(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text)
    }

    /// Forgets what was written and keeps the memory, but for what only the containers of a large node take.
    pub fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(MOST_KEPT);
        self.samples = 0;
        self.heads.clear();
        self.guests = None;
        if let Some(shared) = &mut self.shared {
            *shared = Shared::default();
        }
    }

    fn head(&mut self, name: &str, kind: Kind, help: &str) {
        self.heads.push(head_of(name.as_bytes()));
        self.text.extend_from_slice(b"# HELP ");
        self.text.extend_from_slice(name.as_bytes());
        self.text.push(b' ');
        escape_help(help, &mut self.text);
        self.text.extend_from_slice(b"\n# TYPE ");
        self.text.extend_from_slice(name.as_bytes());
        self.text.push(b' ');
        self.text.extend_from_slice(kind.as_str().as_bytes());
        self.text.push(b'\n');
    }

    fn line(&mut self, (name, suffix): (&str, &str), set: &LabelSet, mark: Option<Mark>, labels: &[(&str, &str)], value: Value) {
        let text = &mut self.text;
        // Most of what is written are marks: what is the same in all lines of their family goes in as few pieces as it can.
        if let (Some(Mark { number, has_constant: false }), "", [], false) = (mark, suffix, labels, self.constant.is_empty()) {
            text.extend_from_slice(name.as_bytes());
            text.push(b'{');
            push_mark(number, text);
            text.extend_from_slice(self.behind_mark.as_bytes());
            write_value(value, text);
            text.push(b'\n');
            self.samples += 1;
            return;
        }
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(suffix.as_bytes());
        let mut separator = b'{';
        for (label, value) in labels {
            text.push(separator);
            separator = b',';
            text.extend_from_slice(label.as_bytes());
            text.extend_from_slice(b"=\"");
            if value.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
                self.scratch.clear();
                escape_label(value, &mut self.scratch);
                text.extend_from_slice(self.scratch.as_bytes());
            } else {
                text.extend_from_slice(value.as_bytes());
            }
            text.push(b'"');
        }
        if !set.is_empty() {
            text.push(separator);
            separator = b',';
            match mark {
                Some(mark) => push_mark(mark.number, text),
                None => text.extend_from_slice(set.as_str().as_bytes()),
            }
        }
        let names = &self.constant_names;
        let in_set = || mark.map_or_else(|| names.iter().any(|name| set.contains(name)), |mark| mark.has_constant);
        let in_labels = || labels.iter().any(|(label, _)| names.iter().any(|name| name == label));
        if !self.constant.is_empty() && !in_labels() && !in_set() {
            text.push(separator);
            separator = b',';
            text.extend_from_slice(self.constant.as_str().as_bytes());
        }
        if separator == b',' {
            text.push(b'}');
        }
        text.push(b' ');
        write_value(value, text);
        text.push(b'\n');
        self.samples += 1;
    }
}

/// The sets that have marks in the text.
#[derive(Debug, Default)]
struct Shared {
    sets: Vec<Arc<LabelSet>>,
    /// Of each whether it has a label of the constant ones' names.
    have_constant: Vec<bool>,
    /// Their numbers by where they are in memory.
    numbers: HashMap<usize, usize>,
    /// The number behind that of the last one: the samples of a family are in the order of those of the family before.
    next: usize,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    number: usize,
    has_constant: bool,
}

impl Shared {
    /// The mark for this set; `None` when there are no more.
    fn mark(&mut self, set: &Arc<LabelSet>, constant: &[String]) -> Option<Mark> {
        let number = if self.sets.get(self.next).is_some_and(|next| Arc::ptr_eq(next, set)) {
            self.next
        } else {
            // The sets are held, so that no other comes to be where one was.
            let place = Arc::as_ptr(set).addr();
            match self.numbers.get(&place) {
                Some(number) => *number,
                None if self.sets.len() >= MOST_SETS => return None,
                None => {
                    self.sets.push(Arc::clone(set));
                    self.have_constant.push(constant.iter().any(|name| set.contains(name)));
                    self.numbers.insert(place, self.sets.len() - 1);
                    self.sets.len() - 1
                }
            }
        };
        self.next = number + 1;
        Some(Mark { number, has_constant: self.have_constant.get(number).copied().unwrap_or(false) })
    }
}

fn head_of(name: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name)
}

/// A family being written: its samples follow each other, as the format asks.
#[derive(Debug)]
pub struct Family<'w> {
    writer: &'w mut Writer,
    name: &'w str,
    kind: Kind,
    help: &'w str,
    begun: bool,
}

impl Family<'_> {
    /// Writes a sample with its own labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Value>) -> &mut Self {
        self.sample_of(&EMPTY, labels, value)
    }

    /// Writes a sample of an entity whose labels are rendered already, with `labels` before them. The two must not share a name.
    pub fn sample_of(&mut self, entity: &LabelSet, labels: &[(&str, &str)], value: impl Into<Value>) -> &mut Self {
        self.part("", entity, labels, value)
    }

    /// As [`Family::sample_of`], for an entity with many samples: where the writer has [marks](Writer::with_marks) its labels are kept once.
    pub fn sample_shared(&mut self, entity: &Arc<LabelSet>, labels: &[(&str, &str)], value: impl Into<Value>) -> &mut Self {
        let mark = match &mut self.writer.shared {
            Some(shared) if !entity.is_empty() => shared.mark(entity, &self.writer.constant_names),
            _ => None,
        };
        self.begin();
        self.writer.line((self.name, ""), entity, mark, labels, value.into());
        self
    }

    /// As [`Family::sample_of`], of a sample whose name is the family's with `suffix` behind it: `_sum`, `_count` and `_bucket` of summaries and histograms.
    pub fn part(&mut self, suffix: &str, entity: &LabelSet, labels: &[(&str, &str)], value: impl Into<Value>) -> &mut Self {
        self.begin();
        self.writer.line((self.name, suffix), entity, None, labels, value.into());
        self
    }

    fn begin(&mut self) {
        if !self.begun {
            self.writer.head(self.name, self.kind, self.help);
            self.begun = true;
        }
    }
}

static EMPTY: LabelSet = LabelSet::new();

/// A number as Go's `%g` has it (`0.5`, `100`, `1.6384e+06`, `+Inf`): the form of `le` and `quantile`, whose text tells one series from another.
#[must_use]
pub fn bound(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        }
        .to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => number.to_string(),
    }
}

fn write_value(value: Value, text: &mut Vec<u8>) {
    match value {
        Value::Unsigned(number) => text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        Value::Signed(number) => text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        Value::Float(number) if number.is_nan() => text.extend_from_slice(b"NaN"),
        Value::Float(number) if number.is_infinite() => {
            text.extend_from_slice(if number > 0.0 { b"+Inf" } else { b"-Inf" });
        }
        Value::Float(number) => {
            // Whole floats without the ".0" that Rust's writers put behind them: shorter, and what Prometheus' own clients write.
            let mut buffer = zmij::Buffer::new();
            let digits = buffer.format_finite(number);
            text.extend_from_slice(digits.strip_suffix(".0").unwrap_or(digits).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(constant: LabelSet, write: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer::new(Arc::new(constant));
        write(&mut writer);
        String::from_utf8(writer.text().to_vec()).unwrap()
    }

    #[test]
    fn head_stands_once_and_only_with_samples() {
        let text = written(LabelSet::of([("host", "n1")]), |out| {
            out.family("empty", Kind::Gauge, "Nothing.");
            let mut family = out.family("node_cpu_seconds_total", Kind::Counter, "Seconds\nof \\ cpu.");
            family.sample(&[("cpu", "0")], 1.25).sample(&[("cpu", "1")], 2u64);
        });
        assert_eq!(
            text,
            "# HELP node_cpu_seconds_total Seconds\\nof \\\\ cpu.\n# TYPE node_cpu_seconds_total counter\n\
             node_cpu_seconds_total{cpu=\"0\",host=\"n1\"} 1.25\nnode_cpu_seconds_total{cpu=\"1\",host=\"n1\"} 2\n"
        );
    }

    #[test]
    fn a_label_of_the_sample_wins_over_the_constant_one() {
        let text = written(LabelSet::of([("host", "n1")]), |out| {
            out.family("a", Kind::Gauge, "").sample(&[("host", "mine\"")], true);
        });
        assert!(text.ends_with("a{host=\"mine\\\"\"} 1\n"), "{text}");
    }

    #[test]
    fn bounds_are_written_as_go_writes_them() {
        for (number, text) in [
            (0.0, "0"),
            (100.0, "100"),
            (409_600.0, "409600"),
            (1_638_400.0, "1.6384e+06"),
            (26_214_400.0, "2.62144e+07"),
            (0.000_1, "0.0001"),
            (0.000_022_083, "2.2083e-05"),
            (-2.5, "-2.5"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(bound(number), text);
        }
    }

    #[test]
    fn values() {
        let text = written(LabelSet::new(), |out| {
            let mut family = out.family("v", Kind::Untyped, "");
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.1, 3.0, 1e300] {
                family.sample(&[], value);
            }
            family.sample(&[], u64::MAX).sample(&[], -1i64);
        });
        let values: Vec<&str> = text.lines().skip(2).map(|line| line.trim_start_matches("v ")).collect();
        assert_eq!(values, ["NaN", "+Inf", "-Inf", "0.1", "3", "1e+300", "18446744073709551615", "-1"]);
    }
}
