//! Which format a reader gets: the text format, or OpenMetrics for who asks for it.

use bytes::Bytes;

use super::openmetrics;

/// A format of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 0.0.1, which is written as 1.0.0 is.
    OpenMetrics001,
    /// OpenMetrics 1.0.0.
    OpenMetrics100,
}

impl Format {
    /// The header `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics001 => "application/openmetrics-text; version=0.0.1; charset=utf-8",
            Self::OpenMetrics100 => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// An answer of the scrape, which is in the text format, in this one.
    #[must_use]
    pub fn encoded(self, text: Bytes) -> Bytes {
        match self {
            Self::Text => text,
            Self::OpenMetrics001 | Self::OpenMetrics100 => Bytes::from(openmetrics::of_text(&text)),
        }
    }
}

/// The format that the headers `Accept` ask for: of those that are had, the one with the highest `q`, and of equals the first. A reader that wants none
/// of them gets the text format, as from Prometheus' own client libraries. What they ask of names (`escaping`) is nothing to skep, whose names need none.
pub fn format<'a>(accept: impl Iterator<Item = &'a str>) -> Format {
    let mut best = (0.0, Format::Text);
    for range in accept.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let (mut version, mut weight) = (None, 1.0);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim() {
                name if name.eq_ignore_ascii_case("q") => weight = value.parse().unwrap_or(0.0),
                name if name.eq_ignore_ascii_case("version") => version = Some(value),
                _ => {}
            }
        }
        let is = |name: &str| kind.eq_ignore_ascii_case(name);
        let format = match version {
            Some("1.0.0") if is("application/openmetrics-text") => Format::OpenMetrics100,
            None | Some("0.0.1") if is("application/openmetrics-text") => Format::OpenMetrics001,
            None | Some("0.0.4") if is("text/plain") || is("text/*") || is("*/*") => Format::Text,
            _ => continue,
        };
        if weight > best.0 {
            best = (weight, format);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_the_reader_likes_best() {
        // Prometheus 3, then 2, then a browser, curl and nobody.
        let three = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,\
                     text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let protobuf_first = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                              text/plain;version=0.0.4;q=0.3,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.2";
        for (accept, format) in [
            (three, Format::OpenMetrics100),
            (protobuf_first, Format::OpenMetrics100),
            ("application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Format::OpenMetrics001),
            ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", Format::Text),
            ("text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5", Format::Text),
            ("application/openmetrics-text;version=1.0.0;q=0", Format::Text),
            ("Application/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=0.1", Format::OpenMetrics100),
            ("text/plain,application/openmetrics-text;version=1.0.0", Format::Text),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Format::Text),
            ("*/*", Format::Text),
            (";;q=;,=,", Format::Text),
            ("", Format::Text),
        ] {
            assert_eq!(super::format(std::iter::once(accept)), format, "{accept}");
        }
        assert_eq!(super::format(["text/plain;q=0.1", "application/openmetrics-text;version=1.0.0"].into_iter()), Format::OpenMetrics100);
        assert_eq!(super::format(std::iter::empty()), Format::Text);
    }
}
