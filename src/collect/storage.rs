//! What the collectors of storage have in common beside [`attribute`]: sizes as they are written for people, and names of devices with numbers.

pub(super) use super::attribute::{file, names, parsed as read_as, text};
use super::{Oddities, attribute};
use crate::host::{Reader, parse};

/// An attribute that is a number and never negative.
pub(super) fn unsigned(host: &mut Reader, odd: &mut Oddities, path: &str) -> Option<u64> {
    attribute::parsed(host, odd, path, parse::unsigned)
}

/// A number of digits with at most one point in it, and nothing that floats may have besides.
pub(super) fn decimal(field: &[u8]) -> Option<f64> {
    let plain = field.first().is_some_and(u8::is_ascii_digit) && field.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    if plain { parse::float(field) } else { None }
}

/// `value` without its fraction, as node_exporter's integers have none.
pub(super) fn whole(value: f64) -> f64 {
    value.trunc()
}

/// 1024 to the power that a letter stands for: `k` 1, `M` 2, and so on to `Y`.
pub(super) fn binary_prefix(letter: u8) -> Option<f64> {
    let power = b"kMGTPEZY".iter().position(|known| *known == letter)?;
    Some((0..=power).fold(1.0, |product, _| product * 1024.0))
}

/// Whether `name` is `prefix` and then digits only, at least one.
pub(super) fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_digits() {
        assert_eq!(decimal(b"48.9"), Some(48.9));
        for odd in [&b""[..], b"inf", b"nan", b"1e9", b"-1", b".5", b"1.2.3", b"0x1"] {
            assert_eq!(decimal(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn prefixes_and_numbers() {
        assert_eq!((binary_prefix(b'k'), binary_prefix(b'G'), binary_prefix(b'K')), (Some(1024.0), Some(1_073_741_824.0), None));
        assert!(is_numbered("nvme0", "nvme") && !is_numbered("nvme", "nvme") && !is_numbered("nvme0n1", "nvme"));
    }
}
