//! What the collectors of storage have in common: attributes that a device may lack, numbers as people write them.

use super::Oddities;
use crate::host::{ReadError, Reader, parse};

/// Whether a driver has no value for now, which is no fault: `ENODATA`, `EAGAIN`, and `ENXIO` of a device that is going.
fn has_no_value(error: &ReadError) -> bool {
    use rustix::io::Errno;
    error.is_absent() || matches!(Errno::from_io_error(&error.source), Some(Errno::NODATA | Errno::AGAIN | Errno::NXIO))
}

/// The attribute `<sys>/path` as text; `None` when the device lacks it or has no value for now, and, told as odd, when it cannot be read.
pub(super) fn text(host: &mut Reader, odd: &mut Oddities, path: &str) -> Option<String> {
    match host.attribute(path) {
        Ok(bytes) => Some(parse::text(bytes).into_owned()),
        Err(error) => {
            if !has_no_value(&error) {
                odd.tell(&error);
            }
            None
        }
    }
}

/// As [`text`], read by `read`; what it refuses is told as odd.
pub(super) fn read_as<T>(host: &mut Reader, odd: &mut Oddities, path: &str, read: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
    match host.attribute(path) {
        Ok(bytes) => {
            let found = read(bytes);
            if found.is_none() {
                odd.line(path, bytes);
            }
            found
        }
        Err(error) => {
            if !has_no_value(&error) {
                odd.tell(&error);
            }
            None
        }
    }
}

/// As [`text`], a number that is never negative.
pub(super) fn unsigned(host: &mut Reader, odd: &mut Oddities, path: &str) -> Option<u64> {
    read_as(host, odd, path, parse::unsigned)
}

/// The names in `<sys>/path`; none where there is no such directory, and, told as odd, where it cannot be read.
pub(super) fn names(host: &Reader, odd: &mut Oddities, path: &str) -> Vec<String> {
    host.sys_names(path).unwrap_or_else(|error| {
        if !has_no_value(&error) {
            odd.tell(&error);
        }
        Vec::new()
    })
}

/// The whole file `<sys>/path`, for those of many lines; as [`text`].
pub(super) fn file<'h>(host: &'h mut Reader, odd: &mut Oddities, path: &str) -> Option<&'h [u8]> {
    match host.sys(path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            if !has_no_value(&error) {
                odd.tell(&error);
            }
            None
        }
    }
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
