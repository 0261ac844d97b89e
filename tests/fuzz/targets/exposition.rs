//! Any bytes as an exposition: OpenMetrics is made of it, and families that stand twice are made one. The last four bytes say which part is a guest's.
#![no_main]

use skep::exposition::merge::{Guest, merged};
use skep::exposition::{Format, format, openmetrics};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    skep_fuzz::check_open(&openmetrics::of_text(bytes));
    if let Ok(accept) = std::str::from_utf8(bytes) {
        assert!(format(accept.lines()).content_type().contains("version"), "{:?}", Format::Text);
    }
    if let Some((once, dropped)) = merged(bytes, &[]) {
        assert!(dropped.is_empty() || once.len() < bytes.len());
        skep_fuzz::check_open(&openmetrics::of_text(&once));
    }
    let Some((text, [a, b, c, d])) = bytes.split_last_chunk() else { return };
    let (start, end) = (u16::from_le_bytes([*a, *b]).into(), u16::from_le_bytes([*c, *d]).into());
    let guest = Guest { of: 7, families: start..end, verdict: "node_textfile_scrape_error" };
    if let Some((_, dropped)) = merged(text, &[guest]) {
        assert!(dropped.iter().all(|dropped| dropped.of.is_none_or(|of| of == 7)));
    }
});
