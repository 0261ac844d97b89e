//! Prometheus' text format 0.0.4 as users write it into files: <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.
//!
//! As in Prometheus' own parser (`expfmt` of `prometheus/common`) a file is taken whole or refused whole, with the line and what is wrong with it. What a line
//! says twice, or a histogram that contradicts itself, costs that series only and is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::{Kind, Value};

/// A longer line is refused.
const LONGEST_LINE: usize = 64 << 10;
/// A longer name of a family or a label is refused.
const LONGEST_NAME: usize = 256;
/// Labels of one sample, and names of labels in one family.
pub(super) const MOST_LABELS: usize = 64;

/// Why a file is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The line, counted from 1; 0 where it is the whole file.
    pub(super) line: usize,
    /// What is wrong, in words.
    pub(super) what: String,
}

/// A family of a file.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// `None` where the file says nothing, or nothing behind the name.
    pub(super) help: Option<String>,
    pub(super) metrics: Vec<Metric>,
    kind_told: bool,
}

/// One set of labels with what is measured under it.
#[derive(Debug)]
pub(super) struct Metric {
    /// By name; without `le` of a histogram and `quantile` of a summary.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) body: Body,
    /// Where it begins.
    pub(super) line: usize,
}

#[derive(Debug)]
pub(super) enum Body {
    /// A counter, a gauge, or untyped.
    One(Value),
    /// By quantile.
    Summary { count: u64, sum: Value, quantiles: Vec<(f64, Value)> },
    /// By bound; when it is read through, in their order, each with what is not above it, the last without bound.
    Histogram { count: Option<u64>, sum: Value, buckets: Vec<(f64, u64)> },
}

/// Which sample of its family a line is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Sum,
    Count,
    Bucket,
}

/// Reads a file of at most `most` samples; gives its families, and how many samples they are. What is odd and costs only itself goes to `odd`, with its line.
///
/// # Errors
/// [`Refusal`] of the whole file.
pub(super) fn parse(bytes: &[u8], most: usize, odd: &mut dyn FnMut(usize, &str)) -> Result<(Vec<Family>, usize), Refusal> {
    let mut reading = Reading { families: Vec::new(), by_name: HashMap::new(), compounds: HashMap::new(), samples: 0, most, odd };
    let mut lines = bytes.split(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let refuse = |what: String| Refusal { line: index + 1, what };
        let line = trim_start(line);
        if lines.peek().is_none() && !line.is_empty() {
            return Err(refuse("the last line has no line feed at its end, so the file may be cut".to_owned()));
        }
        if line.len() > LONGEST_LINE {
            return Err(refuse(format!("the line is longer than {LONGEST_LINE} bytes")));
        }
        match line.first() {
            None => {}
            Some(b'#') => reading.comment(line).map_err(refuse)?,
            Some(_) => {
                let line = std::str::from_utf8(line).map_err(|_| refuse("the line is not UTF-8".to_owned()))?;
                reading.sample(line, index + 1).map_err(refuse)?;
            }
        }
    }
    let samples = reading.samples;
    Ok((reading.finish(), samples))
}

struct Reading<'o> {
    families: Vec<Family>,
    by_name: HashMap<String, usize>,
    /// Summaries and histograms by family and labels.
    compounds: HashMap<(usize, BTreeMap<String, String>), usize>,
    samples: usize,
    most: usize,
    odd: &'o mut dyn FnMut(usize, &str),
}

impl Reading<'_> {
    /// `# HELP name text`, `# TYPE name type`, or any other comment.
    fn comment(&mut self, line: &[u8]) -> Result<(), String> {
        let rest = trim_start(line.get(1..).unwrap_or_default());
        let (keyword, rest) = word(rest);
        if !matches!(keyword, b"HELP" | b"TYPE") {
            return Ok(());
        }
        let rest = trim_start(rest);
        let (name, rest) = if rest.first() == Some(&b'"') {
            let text = String::from_utf8_lossy(rest);
            let mut cursor = Cursor(&text);
            let name = cursor.quoted()?;
            (name, cursor.0.as_bytes().to_vec())
        } else {
            let (name, rest) = word(rest);
            (String::from_utf8_lossy(name).into_owned(), rest.to_vec())
        };
        let rest = trim_start(&rest);
        // A head without anything behind the name says nothing.
        if rest.is_empty() {
            return Ok(());
        }
        check_metric_name(&name)?;
        let family = self.family_named(&name, None);
        let Some(family) = self.families.get_mut(family) else { return Ok(()) };
        if keyword == b"HELP" {
            if family.help.is_some() {
                return Err(format!("a second HELP of {name}"));
            }
            family.help = Some(unescape_help(&String::from_utf8_lossy(rest))?);
            return Ok(());
        }
        if family.kind_told || !family.metrics.is_empty() {
            return Err(format!("a second TYPE of {name}, or one behind its samples"));
        }
        let kind = rest.trim_ascii();
        family.kind_told = true;
        family.kind = match &*kind.to_ascii_lowercase() {
            b"counter" => Kind::Counter,
            b"gauge" => Kind::Gauge,
            b"untyped" => Kind::Untyped,
            b"summary" => Kind::Summary,
            b"histogram" => Kind::Histogram,
            _ => {
                let kind = String::from_utf8_lossy(kind);
                return Err(format!("TYPE {name} is {kind:?}; there are counter, gauge, histogram, summary and untyped"));
            }
        };
        Ok(())
    }

    /// The family of a name. A new one is untyped unless it is said what it is.
    fn family_named(&mut self, name: &str, kind: Option<Kind>) -> usize {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        self.by_name.insert(name.to_owned(), self.families.len());
        let kind = kind.unwrap_or(Kind::Untyped);
        self.families.push(Family { name: name.to_owned(), kind, help: None, metrics: Vec::new(), kind_told: false });
        self.families.len() - 1
    }

    /// The family that a sample of this name belongs to: its own, or a summary or histogram that it is a part of.
    fn family_of(&mut self, name: &str) -> (usize, Part) {
        if !self.by_name.contains_key(name) {
            for (suffix, part) in [("_sum", Part::Sum), ("_count", Part::Count), ("_bucket", Part::Bucket)] {
                let index = name.strip_suffix(suffix).and_then(|base| self.by_name.get(base)).copied();
                let kind = index.and_then(|index| self.families.get(index)).map(|family| family.kind);
                match (index, kind) {
                    (Some(index), Some(Kind::Histogram)) => return (index, part),
                    (Some(index), Some(Kind::Summary)) if part != Part::Bucket => return (index, part),
                    _ => {}
                }
            }
        }
        (self.family_named(name, None), Part::Whole)
    }

    /// `name{label="value",...} number`.
    fn sample(&mut self, line: &str, number: usize) -> Result<(), String> {
        let mut cursor = Cursor(line);
        let (name, mut labels) = cursor.series()?;
        check_metric_name(&name)?;
        cursor.blanks();
        let (value, rest) = cursor.0.split_once([' ', '\t']).unwrap_or((cursor.0, ""));
        let value = self::value(value).ok_or_else(|| match value {
            "" => format!("{name} has no value"),
            _ => format!("{value:?} is no number{}", if value.ends_with('\r') { "; the line ends in a carriage return" } else { "" }),
        })?;
        let rest = rest.trim_matches([' ', '\t']);
        if !rest.is_empty() {
            return Err(match rest.parse::<i64>() {
                Ok(_) => format!("{name} has a timestamp, which a file may not have"),
                Err(_) => format!("behind the value of {name} stands {rest:?}"),
            });
        }
        self.samples += 1;
        if self.samples > self.most {
            return Err(format!("with it there are more than {} samples in text files", super::MOST_SAMPLES));
        }
        let (index, part) = self.family_of(&name);
        let Some(family) = self.families.get_mut(index) else { return Ok(()) };
        let bound = match family.kind {
            Kind::Counter | Kind::Gauge | Kind::Untyped => {
                family.metrics.push(Metric { labels, body: Body::One(value), line: number });
                return Ok(());
            }
            Kind::Summary => labels.remove("quantile"),
            Kind::Histogram => labels.remove("le"),
        };
        let metric = match self.compounds.get(&(index, labels.clone())) {
            Some(known) => *known,
            None => {
                let body = match family.kind {
                    Kind::Summary => Body::Summary { count: 0, sum: Value::Unsigned(0), quantiles: Vec::new() },
                    _ => Body::Histogram { count: None, sum: Value::Unsigned(0), buckets: Vec::new() },
                };
                self.compounds.insert((index, labels.clone()), family.metrics.len());
                family.metrics.push(Metric { labels, body, line: number });
                family.metrics.len() - 1
            }
        };
        let Some(metric) = family.metrics.get_mut(metric) else { return Ok(()) };
        let bounded = |label: &str| -> Result<f64, String> {
            let text =
                bound.as_deref().ok_or_else(|| format!("{name} has no label {label}, or is no name of a sample of {}", family.name))?;
            self::value(text)
                .map(float)
                .filter(|bound| !bound.is_nan())
                .ok_or_else(|| format!("{label} of {name} is {text:?}, which is no number"))
        };
        let whole = || count(value).ok_or_else(|| format!("{name} is no whole number"));
        let mut is_second = false;
        match (&mut metric.body, part) {
            (Body::Summary { count, .. }, Part::Count) => *count = whole()?,
            (Body::Histogram { count, .. }, Part::Count) => *count = Some(whole()?),
            (Body::Summary { sum, .. } | Body::Histogram { sum, .. }, Part::Sum) => *sum = value,
            (Body::Summary { quantiles, .. }, _) => {
                let quantile = bounded("quantile")?;
                is_second = quantiles.iter().any(|(known, _)| *known == quantile);
                if !is_second {
                    quantiles.push((quantile, value));
                }
            }
            (Body::Histogram { buckets, .. }, Part::Bucket) => {
                let bound = bounded("le")?;
                let below = whole()?;
                // Mostly they come in their order.
                is_second = buckets.last().is_some_and(|(last, _)| *last >= bound) && buckets.iter().any(|(known, _)| *known == bound);
                if !is_second {
                    buckets.push((bound, below));
                }
            }
            (Body::Histogram { .. }, _) => return Err(format!("{name} is a histogram, whose samples are named _bucket, _sum and _count")),
            (Body::One(_), _) => {}
        }
        if is_second {
            (self.odd)(number, &format!("{name} has this bound already; the first is kept"));
        }
        Ok(())
    }

    /// Families with samples, their summaries and histograms in order. A histogram whose buckets contradict each other is left out.
    fn finish(self) -> Vec<Family> {
        let odd = self.odd;
        let mut families = self.families;
        for family in &mut families {
            let name = &family.name;
            family.metrics.retain_mut(|metric| match &mut metric.body {
                Body::One(_) => true,
                Body::Summary { quantiles, .. } => {
                    quantiles.sort_by(|(one, _), (other, _)| one.total_cmp(other));
                    true
                }
                Body::Histogram { count, buckets, .. } => {
                    buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
                    let last = buckets.last().copied();
                    let total = match (last, *count) {
                        (Some((f64::INFINITY, below)), _) => below,
                        (_, Some(count)) => count,
                        (Some((_, below)), None) => below,
                        (None, None) => 0,
                    };
                    if last.is_none_or(|(bound, _)| bound != f64::INFINITY) {
                        buckets.push((f64::INFINITY, total));
                    }
                    let is_right = count.is_none_or(|count| count == total) && buckets.is_sorted_by_key(|(_, below)| *below);
                    *count = Some(total);
                    if !is_right {
                        odd(metric.line, &format!("the buckets of {name} go down, or do not end in its count; the histogram is left out"));
                    }
                    is_right
                }
            });
        }
        families.retain(|family| !family.metrics.is_empty());
        families
    }
}

/// What is left of a line.
struct Cursor<'l>(&'l str);

impl Cursor<'_> {
    fn blanks(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn take(&mut self, character: char) -> bool {
        self.0.strip_prefix(character).map(|rest| self.0 = rest).is_some()
    }

    /// Takes what stands before the first character that no name has.
    fn bare(&mut self) -> String {
        let end =
            self.0.find(|character: char| !(character.is_ascii_alphanumeric() || matches!(character, '_' | ':'))).unwrap_or(self.0.len());
        let (name, rest) = self.0.split_at_checked(end).unwrap_or((self.0, ""));
        self.0 = rest;
        name.to_owned()
    }

    /// Takes a quoted text: `\\`, `\"` and `\n` are what is escaped.
    fn quoted(&mut self) -> Result<String, String> {
        if !self.take('"') {
            return Err(format!("a quote is missing before {:?}", start_of(self.0)));
        }
        let mut text = String::new();
        let mut characters = self.0.chars();
        loop {
            match characters.next() {
                None => return Err(format!("the quote before {:?} is not closed", start_of(self.0))),
                Some('"') => break,
                Some('\\') => match characters.next() {
                    Some(escaped @ ('\\' | '"')) => text.push(escaped),
                    Some('n') => text.push('\n'),
                    other => return Err(escape_error(other)),
                },
                Some(other) => text.push(other),
            }
        }
        self.0 = characters.as_str();
        Ok(text)
    }

    /// Takes `name{label="value",...}`, or `{"name",label="value",...}`.
    fn series(&mut self) -> Result<(String, BTreeMap<String, String>), String> {
        let mut name = if self.0.starts_with('"') { self.quoted()? } else { self.bare() };
        let mut labels = BTreeMap::new();
        self.blanks();
        if !self.take('{') {
            return Ok((name, labels));
        }
        loop {
            self.blanks();
            if self.take('}') {
                return Ok((name, labels));
            }
            if self.0.is_empty() {
                return Err(format!("the brace of {name} is not closed"));
            }
            let is_quoted = self.0.starts_with('"');
            let label = if is_quoted { self.quoted()? } else { self.bare() };
            self.blanks();
            if self.take('=') {
                check_label_name(&label)?;
                self.blanks();
                let value = self.quoted()?;
                if labels.insert(label.clone(), value).is_some() {
                    return Err(format!("the label {label} stands twice"));
                }
                if labels.len() > MOST_LABELS {
                    return Err(format!("{name} has more than {MOST_LABELS} labels"));
                }
            } else if is_quoted && name.is_empty() {
                name = label;
            } else {
                return Err(format!("behind the label {label:?} stands no '='"));
            }
            self.blanks();
            if !self.take(',') && !self.0.starts_with('}') {
                return Err(format!("behind a label stands {:?}, neither ',' nor '}}'", start_of(self.0)));
            }
        }
    }
}

/// The begin of a text, as much of it as a message may hold.
fn start_of(text: &str) -> String {
    text.chars().take(20).collect()
}

fn escape_error(character: Option<char>) -> String {
    format!("a backslash before {:?}: only \\\\, \\\" and \\n are known", character.map(String::from).unwrap_or_default())
}

fn trim_start(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    line.get(blanks..).unwrap_or_default()
}

/// What stands before the first blank, and the rest.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at_checked(text.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(text.len())).unwrap_or((text, b""))
}

fn check_metric_name(name: &str) -> Result<(), String> {
    let is_first = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':');
    let is_right = name.as_bytes().first().is_some_and(is_first) && name.bytes().all(|byte| is_first(&byte) || byte.is_ascii_digit());
    match () {
        () if !is_right => Err(format!("{:?} is no name of a metric", start_of(name))),
        () if name.len() > LONGEST_NAME => Err(format!("the name {}... is longer than {LONGEST_NAME} bytes", start_of(name))),
        () => Ok(()),
    }
}

fn check_label_name(name: &str) -> Result<(), String> {
    match () {
        () if name == "__name__" => Err("the label __name__ is Prometheus' own".to_owned()),
        () if name.contains(':') => Err(format!("{:?} is no name of a label", start_of(name))),
        () => check_metric_name(name).map_err(|why| why.replace("a metric", "a label")),
    }
}

/// `\\`, `\"` and `\n` as what they stand for.
fn unescape_help(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | '"')) => out.push(escaped),
                Some('n') => out.push('\n'),
                other => return Err(escape_error(other)),
            },
            other => out.push(other),
        }
    }
    Ok(out)
}

/// A number as Go's `ParseFloat` takes it, whole ones as such. One too large for a float is none.
fn value(text: &str) -> Option<Value> {
    if let Ok(number) = text.parse::<u64>() {
        return Some(Value::Unsigned(number));
    }
    // Minus zero is a float.
    if let Ok(number) = text.parse::<i64>()
        && number != 0
    {
        return Some(Value::Signed(number));
    }
    let number: f64 = text.parse().ok()?;
    let is_spelled = text.bytes().all(|byte| !byte.is_ascii_digit());
    let is_right = match () {
        () if number.is_nan() => text.eq_ignore_ascii_case("nan"),
        () if number.is_infinite() => is_spelled,
        () => true,
    };
    is_right.then_some(Value::Float(number))
}

#[allow(clippy::cast_precision_loss, reason = "a bound is a float, whatever it is written as")]
const fn float(value: Value) -> f64 {
    match value {
        Value::Unsigned(number) => number as f64,
        Value::Signed(number) => number as f64,
        Value::Float(number) => number,
    }
}

/// A whole number that is not negative, however it is written: `1.412839e+06`.
fn count(value: Value) -> Option<u64> {
    match value {
        Value::Unsigned(number) => Some(number),
        // The standard library writes a whole float as digits, at most 20 of them where it fits.
        Value::Float(number) if number >= 0.0 && number.fract() == 0.0 && number < 1.8e19 => number.to_string().parse().ok(),
        Value::Signed(_) | Value::Float(_) => None,
    }
}

/// The names of labels that the metrics of a family have.
pub(super) fn label_names(metrics: &[Metric]) -> BTreeSet<&str> {
    metrics.iter().flat_map(|metric| metric.labels.keys()).map(String::as_str).collect()
}

#[cfg(test)]
mod tests;
