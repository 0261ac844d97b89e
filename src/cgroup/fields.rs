//! The forms in which cgroup files are written.

use super::usage::{Pressure, UNLIMITED};
use crate::host::parse::{self, fields, lines, trimmed, unsigned};

/// A file of one number.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    unsigned(trimmed(bytes))
}

/// A file of one number or `max`.
pub(super) fn number_or_max(bytes: &[u8]) -> Option<u64> {
    match trimmed(bytes) {
        b"max" => Some(UNLIMITED),
        digits => unsigned(digits),
    }
}

/// A limit as cAdvisor words it: 0 for none. v1 writes no limit as the largest number of pages.
pub(super) const fn limit(number: u64) -> u64 {
    if number > 1 << 62 { 0 } else { number }
}

/// Calls `take` for each line `key number`; says whether there was one. Lines of another form are passed over.
pub(super) fn key_values(bytes: &[u8], mut take: impl FnMut(&[u8], u64)) -> bool {
    let mut any = false;
    for line in lines(bytes) {
        let mut fields = fields(line);
        if let (Some(key), Some(value)) = (fields.next(), fields.next().and_then(unsigned)) {
            any = true;
            take(key, value);
        }
    }
    any
}

/// `254:0`.
pub(super) fn device(field: &[u8]) -> Option<(u32, u32)> {
    let colon = memchr::memchr(b':', field)?;
    let part = |bytes: &[u8]| unsigned(bytes).and_then(|number| u32::try_from(number).ok());
    Some((part(field.get(..colon)?)?, part(field.get(colon + 1..)?)?))
}

/// A file of pressure: `some avg10=0.00 avg60=0.00 avg300=0.00 total=1234`, and the same of `full`.
pub(super) fn pressure(bytes: &[u8]) -> Option<Pressure> {
    Some(Pressure { some: parse::pressure(bytes, b"some")?, full: parse::pressure(bytes, b"full") })
}

/// The number of lines.
pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    lines(bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!((number(b"12\n"), number(b""), number(b"max\n")), (Some(12), None, None));
        assert_eq!(number_or_max(b"max\n"), Some(UNLIMITED));
        assert_eq!((limit(9_223_372_036_854_771_712), limit(UNLIMITED), limit(7)), (0, 0, 7));
        assert_eq!((device(b"254:16"), device(b"254"), device(b"a:1")), (Some((254, 16)), None, None));
        let mut seen = Vec::new();
        assert!(key_values(b"a 1\nodd\nb x\n\nc 3\n", |key, value| seen.push((key.to_vec(), value))));
        assert_eq!(seen, [(b"a".to_vec(), 1), (b"c".to_vec(), 3)]);
        assert!(!key_values(b"\n", |_, _| ()));
    }

    #[test]
    fn pressure_with_and_without_full() {
        let some = b"some avg10=0.00 avg60=0.12 avg300=0.00 total=4711\n";
        assert_eq!(pressure(some), Some(Pressure { some: 4711, full: None }));
        let both = b"some avg10=0.00 avg60=0.00 avg300=0.00 total=2\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(pressure(both), Some(Pressure { some: 2, full: Some(1) }));
        assert_eq!(pressure(b"full avg10=0.00 total=1\n"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_a_fault(bytes: Vec<u8>) {
            number_or_max(&bytes);
            device(&bytes);
            pressure(&bytes);
            key_values(&bytes, |_, _| ());
        }

        #[test]
        fn pressure_is_read_back(some: u64, full: u64) {
            let text = format!("some avg10=1.00 avg60=2.00 avg300=3.00 total={some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={full}\n");
            proptest::prop_assert_eq!(pressure(text.as_bytes()), Some(Pressure { some, full: Some(full) }));
        }
    }
}
