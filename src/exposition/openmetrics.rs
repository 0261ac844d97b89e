//! OpenMetrics 1.0 out of the text format that the scrape makes: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
//!
//! The two differ in the heads of families and in little else. A family of counters is named without `_total`, and a family claims the names of all
//! samples that its type may have (`foo_total` and `foo_created` of a counter `foo`), which no other family may bear. So what families there are is looked
//! at first, and then everything is copied once: gauges and counters a family at a time, histograms and summaries line by line.
//!
//! Where a family cannot be what it is in the text format, its samples are kept and its type is let go: a counter without `_total`, one beside a family of
//! its name without `_total`, and one with a sample that is negative or no number are `unknown`, as from Prometheus' own client libraries. What the format
//! cannot hold in any way is left out: quantiles that are negative or not between 0 and 1, and sum and count of a histogram with a bucket below zero.
//!
//! Prometheus' client for Python writes a gauge `foo_created` beside a counter, histogram or summary into text files. In OpenMetrics that is a sample of the
//! family itself and stands there; where its labels are not those of the family, a counter's type is let go, and beside the other two it is left out.

use std::collections::HashMap;

use memchr::{memchr, memchr_iter, memchr2_iter, memrchr};

use super::merge::before_head;
use super::text::bound;

const TOTAL: &[u8] = b"_total";
const CREATED: &[u8] = b"_created";

/// What a family is in OpenMetrics.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Named without `_total`.
    Counter,
    /// As it is.
    Gauge,
    Unknown,
    Summary,
    Histogram,
    /// Its name is another family's.
    None,
}

/// The families of a text.
struct Families<'t> {
    text: &'t [u8],
    /// By name: the word behind `# TYPE`, and where the samples begin.
    by_name: HashMap<&'t [u8], (&'t [u8], usize)>,
}

impl<'t> Families<'t> {
    fn of(text: &'t [u8]) -> Self {
        let mut by_name = HashMap::with_capacity(512);
        // `#` is rare: in help texts and labels it does not stand at the begin of a line.
        for start in memchr_iter(b'#', text).filter(|start| *start == 0 || text.get(start - 1) == Some(&b'\n')) {
            let (line, _) = cut(text.get(start..).unwrap_or_default());
            if let Some((name, kind)) = head(line, b"# TYPE ") {
                by_name.insert(name, (kind, start + line.len() + 1));
            }
        }
        Self { text, by_name }
    }

    fn kind(&self, name: &[u8]) -> Option<&'t [u8]> {
        self.by_name.get(name).map(|(kind, _)| *kind)
    }

    fn samples(&self, name: &[u8]) -> &'t [u8] {
        self.by_name.get(name).and_then(|(_, start)| self.text.get(*start..)).map_or(b"", |rest| samples(rest).0)
    }

    /// Whether there is a family `base` with `suffix` behind it. The name is put together on the stack.
    fn has(&self, base: &[u8], suffix: &[u8]) -> bool {
        let mut buffer = [0; 512];
        let Some(name) = buffer.get_mut(..base.len() + suffix.len()) else { return false };
        for (place, byte) in name.iter_mut().zip(base.iter().chain(suffix)) {
            *place = *byte;
        }
        self.by_name.contains_key(&*name)
    }

    /// Whether there is a family of one of `kinds` whose name is `name` without one of `suffixes`.
    fn is_part(&self, name: &[u8], suffixes: &[&[u8]], kinds: &[&[u8]]) -> bool {
        suffixes
            .iter()
            .filter_map(|suffix| name.strip_suffix(*suffix))
            .any(|base| self.kind(base).is_some_and(|kind| kinds.contains(&kind)))
    }

    /// The values of the gauge `base_created` by labels, where each belongs to a sample of the family `base` or of the counter `base_total`.
    fn created(&self, base: &[u8]) -> Option<Created<'t>> {
        if !self.has(base, CREATED) {
            return None;
        }
        let name = [base, CREATED].concat();
        let total = [base, TOTAL].concat();
        let (owner, suffix) = match (self.kind(base), self.kind(&total)) {
            (Some(b"histogram" | b"summary"), _) => (base, &b"_count"[..]),
            (None, Some(b"counter")) if counts(self.samples(&total)) => (&*total, TOTAL),
            _ => return None,
        };
        if self.kind(&name) != Some(b"gauge") {
            return None;
        }
        let created: Created<'t> = lines(self.samples(&name)).filter_map(|line| labels(line, &name, b"")).collect();
        let owned =
            lines(self.samples(owner)).filter_map(|line| labels(line, base, suffix)).filter(|(labels, _)| created.contains_key(labels));
        (owned.count() == created.len()).then_some(created)
    }
}

/// Values by what stands between braces, these included.
type Created<'t> = HashMap<&'t [u8], &'t [u8]>;

/// The text format as OpenMetrics.
#[must_use]
pub fn of_text(text: &[u8]) -> Vec<u8> {
    let families = Families::of(text);
    let mut out = Vec::with_capacity(text.len() + 64);
    let mut rest = text;
    let mut help: Option<(&[u8], &[u8])> = None;
    while !rest.is_empty() {
        let (line, behind) = cut(rest);
        rest = behind;
        if let Some(told) = head(line, b"# HELP ") {
            help = Some(told);
        } else if let Some((name, kind)) = head(line, b"# TYPE ") {
            let (samples, behind) = samples(rest);
            rest = behind;
            let help = help.take().filter(|(of, _)| *of == name).map_or(&b""[..], |(_, help)| help);
            family(name, help, fate(name, kind, &families), samples, &families, &mut out);
        }
    }
    out.extend_from_slice(b"# EOF\n");
    out
}

/// The samples at the begin of `text`, and what follows them.
fn samples(text: &[u8]) -> (&[u8], &[u8]) {
    let length = before_head(text);
    text.split_at_checked(length).unwrap_or((text, b""))
}

fn lines(samples: &[u8]) -> impl Iterator<Item = &[u8]> {
    samples.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The labels and the value of a sample, when its name is `name` with `suffix` behind it.
fn labels<'t>(line: &'t [u8], name: &[u8], suffix: &[u8]) -> Option<(&'t [u8], &'t [u8])> {
    let rest = line.strip_prefix(name)?.strip_prefix(suffix)?;
    let (labels, value) = rest.split_at_checked(memrchr(b' ', rest)?)?;
    (labels.is_empty() || labels.starts_with(b"{")).then_some((labels, value.get(1..)?))
}

/// The line at the begin of `text`, and what follows it.
fn cut(text: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr(b'\n', text).unwrap_or(text.len());
    let (line, rest) = text.split_at_checked(end).unwrap_or((text, b""));
    (line, rest.get(1..).unwrap_or_default())
}

/// The name and what stands behind it in a head.
fn head<'t>(line: &'t [u8], keyword: &[u8]) -> Option<(&'t [u8], &'t [u8])> {
    let rest = line.strip_prefix(keyword)?;
    let (name, rest) = rest.split_at_checked(memchr(b' ', rest)?)?;
    Some((name, rest.get(1..)?))
}

fn fate(name: &[u8], kind: &[u8], families: &Families<'_>) -> Fate {
    let compound: [&[u8]; 2] = [b"histogram", b"summary"];
    let parts: [&[u8]; 4] = [b"_count", b"_sum", b"_bucket", CREATED];
    if families.is_part(name, &parts, &compound) {
        return Fate::None;
    }
    match kind {
        b"counter" => match name.strip_suffix(TOTAL) {
            Some(base) if !base.is_empty() && is_free(base, families) && !families.is_part(base, &parts, &compound) => Fate::Counter,
            _ => Fate::Unknown,
        },
        // It stands with the counter.
        b"gauge" if name.strip_suffix(CREATED).is_some_and(|base| is_counted(base, families)) => Fate::None,
        b"gauge" => Fate::Gauge,
        b"histogram" => Fate::Histogram,
        b"summary" => Fate::Summary,
        _ => Fate::Unknown,
    }
}

/// Whether there is a counter `base_total` that is one in OpenMetrics, and `base_created` belongs to it.
fn is_counted(base: &[u8], families: &Families<'_>) -> bool {
    families.has(base, TOTAL) && families.created(base).is_some() && fate(&[base, TOTAL].concat(), b"counter", families) == Fate::Counter
}

/// Whether a counter may be named `base`: no other family has that name or one of those that become the counter's with it.
fn is_free(base: &[u8], families: &Families<'_>) -> bool {
    !families.has(base, b"")
        && (!families.has(base, CREATED) || families.created(base).is_some())
        && !families.has(base, b"_created_total")
        && !base.strip_suffix(CREATED).is_some_and(|other| families.has(other, TOTAL))
}

fn family(name: &[u8], help: &[u8], mut fate: Fate, samples: &[u8], families: &Families<'_>, out: &mut Vec<u8>) {
    if fate == Fate::Counter && !counts(samples) {
        fate = Fate::Unknown;
    }
    let (name, kind) = match fate {
        Fate::Counter => (name.strip_suffix(TOTAL).unwrap_or(name), &b"counter"[..]),
        Fate::Gauge => (name, &b"gauge"[..]),
        Fate::Unknown => (name, &b"unknown"[..]),
        Fate::Summary => (name, &b"summary"[..]),
        Fate::Histogram => (name, &b"histogram"[..]),
        Fate::None => return,
    };
    out.extend_from_slice(b"# TYPE ");
    out.extend_from_slice(name);
    out.push(b' ');
    out.extend_from_slice(kind);
    out.push(b'\n');
    if !help.is_empty() {
        out.extend_from_slice(b"# HELP ");
        out.extend_from_slice(name);
        out.push(b' ');
        // Backslash and line feed are escaped already; the quote is so in OpenMetrics only.
        for (index, part) in help.split(|byte| *byte == b'"').enumerate() {
            if index > 0 {
                out.extend_from_slice(b"\\\"");
            }
            out.extend_from_slice(part);
        }
        out.push(b'\n');
    }
    let created = match fate {
        Fate::Counter | Fate::Histogram | Fate::Summary => families.created(name),
        _ => None,
    };
    let when = |line: &[u8], suffix: &[u8], out: &mut Vec<u8>| {
        if let Some(created) = &created
            && let Some((labels, _)) = labels(line, name, suffix)
            && let Some(value) = created.get(labels)
        {
            for part in [name, CREATED, labels, b" ", value, b"\n"] {
                out.extend_from_slice(part);
            }
        }
    };
    match fate {
        Fate::Histogram => histogram(name, samples, out, when),
        Fate::Summary => summary(name, samples, out, when),
        Fate::Counter if created.is_some() => {
            for line in lines(samples) {
                out.extend_from_slice(line);
                out.push(b'\n');
                when(line, TOTAL, out);
            }
        }
        _ => out.extend_from_slice(samples),
    }
    if !samples.is_empty() && !out.ends_with(b"\n") {
        out.push(b'\n');
    }
}

/// Whether all samples are what a counter's may be: numbers, and none below zero.
fn counts(samples: &[u8]) -> bool {
    // Most families have neither a minus nor an N behind a blank anywhere, and that is quickly seen.
    let is_behind_blank = |at: usize| at.checked_sub(1).and_then(|before| samples.get(before)) == Some(&b' ');
    if !memchr2_iter(b'-', b'N', samples).any(is_behind_blank) {
        return true;
    }
    samples.split(|byte| *byte == b'\n').all(|line| !matches!(value(line), Some(b'-' | b'N')))
}

/// The first byte of a sample's value.
fn value(line: &[u8]) -> Option<u8> {
    line.get(memrchr(b' ', line)? + 1).copied()
}

/// A sample up to the value of its label `label`, that value, and what follows. `None` where it has no such label.
fn around<'t>(line: &'t [u8], label: &[u8]) -> Option<(&'t [u8], &'t [u8], &'t [u8])> {
    let mut at = memchr(b'{', line)? + 1;
    loop {
        let rest = line.get(at..)?;
        let name = rest.get(..memchr(b'=', rest)?)?;
        let start = at + name.len() + 2;
        let mut end = start;
        loop {
            match line.get(end)? {
                b'"' => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        if name == label {
            return Some((line.get(..start)?, line.get(start..end)?, line.get(end..)?));
        }
        if line.get(end + 1) != Some(&b',') {
            return None;
        }
        at = end + 2;
    }
}

/// Writes a sample whose label (`le`, `quantile`) holds a number, which OpenMetrics wants as a float: `100.0`.
fn with_bound((before, number, after): (&[u8], &[u8], &[u8]), out: &mut Vec<u8>) {
    out.extend_from_slice(before);
    // Most are so already (`0.005`, `+Inf`), or small whole numbers.
    if number.contains(&b'.') || number == b"+Inf" {
        out.extend_from_slice(number);
    } else if number.len() <= 6 && number.iter().all(u8::is_ascii_digit) {
        out.extend_from_slice(number);
        out.extend_from_slice(b".0");
    } else {
        let parsed = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok()).map(bound);
        let number = parsed.as_deref().unwrap_or_default();
        out.extend_from_slice(number.as_bytes());
        if !number.contains(['.', 'e', 'n', 'N']) {
            out.extend_from_slice(b".0");
        }
    }
    out.extend_from_slice(after);
    out.push(b'\n');
}

fn histogram(name: &[u8], samples: &[u8], out: &mut Vec<u8>, when: impl Fn(&[u8], &[u8], &mut Vec<u8>)) {
    let mut in_buckets = false;
    let mut is_below_zero = false;
    for line in lines(samples) {
        let suffix = line.strip_prefix(name).unwrap_or_default();
        if suffix.starts_with(b"_bucket") {
            let Some(parts) = around(line, b"le") else { continue };
            // Buckets stand in the order of their bounds, so the first tells.
            if !in_buckets {
                is_below_zero = parts.1.starts_with(b"-");
            }
            in_buckets = true;
            with_bound(parts, out);
        } else {
            in_buckets = false;
            // A sum can be no counter when what is summed may be negative; the format has neither it nor the count then.
            if !is_below_zero {
                out.extend_from_slice(line);
                out.push(b'\n');
            }
            when(line, b"_count", out);
        }
    }
}

fn summary(name: &[u8], samples: &[u8], out: &mut Vec<u8>, when: impl Fn(&[u8], &[u8], &mut Vec<u8>)) {
    for line in lines(samples) {
        let suffix = line.strip_prefix(name).unwrap_or_default();
        if !matches!(suffix.first(), Some(b'{' | b' ')) {
            if !matches!(value(line), Some(b'-' | b'N')) {
                out.extend_from_slice(line);
                out.push(b'\n');
            }
            when(line, b"_count", out);
            continue;
        }
        let Some(parts) = around(line, b"quantile") else { continue };
        let quantile: Option<f64> = std::str::from_utf8(parts.1).ok().and_then(|text| text.parse().ok());
        if quantile.is_some_and(|quantile| (0.0..=1.0).contains(&quantile)) && value(line) != Some(b'-') {
            with_bound(parts, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> String {
        String::from_utf8(of_text(text.as_bytes())).unwrap()
    }

    #[test]
    fn counters_are_named_without_total() {
        let text = "# HELP a_total Says \"a\\\\\".\n# TYPE a_total counter\na_total{x=\"# TYPE b gauge\"} 1\na_total 2\n# HELP b \n# TYPE b gauge\nb -1\n\
                    # HELP c No total.\n# TYPE c counter\nc 1\n# HELP d D.\n# TYPE d untyped\nd NaN\n";
        assert_eq!(
            of(text),
            "# TYPE a counter\n# HELP a Says \\\"a\\\\\\\".\na_total{x=\"# TYPE b gauge\"} 1\na_total 2\n# TYPE b gauge\nb -1\n\
             # TYPE c unknown\n# HELP c No total.\nc 1\n# TYPE d unknown\n# HELP d D.\nd NaN\n# EOF\n"
        );
        assert_eq!(of(""), "# EOF\n");
    }

    /// The families of an answer and their types.
    fn types(families: &[(&str, &str)]) -> Vec<String> {
        let mut text = String::new();
        for (name, kind) in families {
            writeln!(text, "# HELP {name} H.\n# TYPE {name} {kind}").unwrap();
            match *kind {
                "histogram" => writeln!(text, "{name}_bucket{{le=\"+Inf\"}} 1\n{name}_sum 1\n{name}_count 1").unwrap(),
                "summary" => writeln!(text, "{name}_sum 1\n{name}_count 1").unwrap(),
                _ => writeln!(text, "{name} 1").unwrap(),
            }
        }
        of(&text).lines().filter_map(|line| line.strip_prefix("# TYPE ").map(str::to_owned)).collect()
    }

    #[test]
    fn no_family_has_another_s_name() {
        assert_eq!(types(&[("foo_total", "counter"), ("foo", "gauge")]), ["foo_total unknown", "foo gauge"]);
        assert_eq!(types(&[("foo", "histogram"), ("foo_total", "counter")]), ["foo histogram", "foo_total unknown"]);
        assert_eq!(types(&[("foo_total", "counter"), ("foo_created", "gauge")]), ["foo counter"]);
        assert_eq!(types(&[("foo_created", "counter"), ("foo_total", "counter")]), ["foo_created unknown", "foo_total unknown"]);
        assert_eq!(types(&[("foo", "histogram"), ("foo_created", "gauge")]), ["foo histogram"]);
        assert_eq!(types(&[("foo", "summary"), ("foo_sum_total", "counter")]), ["foo summary", "foo_sum_total unknown"]);
        assert_eq!(types(&[("a_total", "counter"), ("a_created_total", "counter")]), ["a_total unknown", "a_created_total unknown"]);
        assert_eq!(types(&[("a_total_total", "counter"), ("a_total", "counter")]), ["a_total_total unknown", "a counter"]);
        assert_eq!(types(&[("_total", "counter")]), ["_total unknown"]);
    }

    #[test]
    fn when_it_was_created_stands_with_the_family() {
        let text = "# TYPE a_created gauge\na_created{x=\"1\"} 1e9\na_created 2e9\n# TYPE a_total counter\na_total{x=\"1\"} 1\na_total 2\na_total{x=\"3\"} 3\n\
                    # TYPE s summary\ns_sum 1\ns_count 1\ns_sum{x=\"1\"} 1\ns_count{x=\"1\"} 1\n# TYPE s_created gauge\ns_created{x=\"1\"} 5\n";
        assert_eq!(
            of(text),
            "# TYPE a counter\na_total{x=\"1\"} 1\na_created{x=\"1\"} 1e9\na_total 2\na_created 2e9\na_total{x=\"3\"} 3\n\
             # TYPE s summary\ns_sum 1\ns_count 1\ns_sum{x=\"1\"} 1\ns_count{x=\"1\"} 1\ns_created{x=\"1\"} 5\n# EOF\n"
        );
        // The counter cannot be one, for another reason.
        let text = "# TYPE a gauge\na 1\n# TYPE a_created gauge\na_created 1\n# TYPE a_total counter\na_total 1\n";
        assert_eq!(of(text), text.replace("counter", "unknown") + "# EOF\n");
        // Of something else: nothing is lost but the type.
        let text = "# TYPE a_created gauge\na_created{y=\"1\"} 1\n# TYPE a_total counter\na_total 1\n";
        assert_eq!(of(text), text.replace("counter", "unknown") + "# EOF\n");
        let text = "# TYPE a_created gauge\na_created 1\n# TYPE a_total counter\na_total -1\n";
        assert_eq!(of(text), text.replace("counter", "unknown") + "# EOF\n");
    }

    #[test]
    fn what_no_counter_may_be_is_unknown() {
        for bad in ["-1", "NaN", "-Inf"] {
            let text = format!("# HELP a_total A.\n# TYPE a_total counter\na_total{{x=\"1\"}} 1\na_total{{x=\"2\"}} {bad}\n");
            assert!(of(&text).starts_with("# TYPE a_total unknown\n# HELP a_total A.\na_total{x=\"1\"} 1\n"), "{}", of(&text));
        }
        let text = "# TYPE a_total counter\na_total{x=\"1 -2 N\"} 1\n";
        assert!(of(text).starts_with("# TYPE a counter\n"));
    }

    #[test]
    fn bounds_are_floats() {
        let text = "# TYPE h histogram\nh_bucket{a=\"le=\\\"1\\\",le=\",le=\"100\",b=\"2\"} 1\nh_bucket{le=\"0.005\"} 1\nh_bucket{le=\"1e+06\"} 1\n\
                    h_bucket{le=\"12345678\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 1\nh_count 3\n\
                    # TYPE s summary\ns{quantile=\"1\"} 2\ns{quantile=\"0.5\"} -1\ns{quantile=\"7\"} 1\ns{quantile=\"0\"} NaN\ns_sum 1\ns_count 1\n";
        assert_eq!(
            of(text),
            "# TYPE h histogram\nh_bucket{a=\"le=\\\"1\\\",le=\",le=\"100.0\",b=\"2\"} 1\nh_bucket{le=\"0.005\"} 1\nh_bucket{le=\"1e+06\"} 1\n\
             h_bucket{le=\"1.2345678e+07\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 1\nh_count 3\n\
             # TYPE s summary\ns{quantile=\"1.0\"} 2\ns{quantile=\"0.0\"} NaN\ns_sum 1\ns_count 1\n# EOF\n"
        );
    }

    #[test]
    fn a_histogram_of_negative_numbers_has_no_sum() {
        let text = "# TYPE h histogram\nh_bucket{le=\"-1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum -1\nh_count 1\n\
                    h_bucket{a=\"1\",le=\"1\"} 1\nh_bucket{a=\"1\",le=\"+Inf\"} 1\nh_sum{a=\"1\"} 1\nh_count{a=\"1\"} 1\n";
        assert_eq!(
            of(text),
            "# TYPE h histogram\nh_bucket{le=\"-1.0\"} 1\nh_bucket{le=\"+Inf\"} 1\n\
             h_bucket{a=\"1\",le=\"1.0\"} 1\nh_bucket{a=\"1\",le=\"+Inf\"} 1\nh_sum{a=\"1\"} 1\nh_count{a=\"1\"} 1\n# EOF\n"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes: Vec<u8>, words in prop::collection::vec("(# TYPE a_total counter\n|# TYPE h histogram\n|# HELP h|h_bucket|\\{le=\"|\"\\}| 1\n|-|\\\\)", 0..20)) {
            prop_assert!(of_text(&bytes).ends_with(b"# EOF\n"));
            prop_assert!(of(&words.concat()).ends_with("# EOF\n"));
        }
    }
}
