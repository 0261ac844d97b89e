//! Attributes of sysfs, and files of `/proc/sys` that are like them, as numbers and as text, for collectors that read many of them.

use super::Oddities;
use crate::host::{ReadError, Reader, parse};

/// What was read; `None` when the device does not have it or has no value now ([`ReadError::is_no_value`]). Another failure is told.
fn told<T>(read: Result<T, ReadError>, odd: &mut Oddities) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(error) => {
            if !error.is_no_value() {
                odd.tell(&error);
            }
            None
        }
    }
}

/// An attribute without blanks and line feeds at both ends; `None` when the device does not have it or has no value now. Another failure is told.
pub(super) fn bytes<'h>(host: &'h mut Reader, odd: &mut Oddities, file: &str) -> Option<&'h [u8]> {
    told(host.attribute(file), odd)
}

/// As [`bytes`], the whole file as it is: for those of several lines.
pub(super) fn file<'h>(host: &'h mut Reader, odd: &mut Oddities, file: &str) -> Option<&'h [u8]> {
    told(host.sys(file), odd)
}

/// An attribute that `parse` understands. What it does not understand is told; an empty attribute has no value.
pub(super) fn parsed<T>(host: &mut Reader, odd: &mut Oddities, file: &str, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
    let bytes = bytes(host, odd, file).filter(|bytes| !bytes.is_empty())?;
    let value = parse(bytes);
    if value.is_none() {
        odd.line(file, bytes);
    }
    value
}

/// An attribute as text.
pub(super) fn text(host: &mut Reader, odd: &mut Oddities, file: &str) -> Option<String> {
    bytes(host, odd, file).map(|bytes| parse::text(bytes).into_owned())
}

/// A whole number, decimal or hexadecimal with `0x` before it.
pub(super) fn unsigned(bytes: &[u8]) -> Option<u64> {
    match bytes.strip_prefix(b"0x") {
        Some(digits) => parse::hexadecimal(digits),
        None => parse::unsigned(bytes),
    }
}

/// A whole number that may have a sign, decimal or hexadecimal.
pub(super) fn signed(bytes: &[u8]) -> Option<i64> {
    parse::signed(bytes).or_else(|| unsigned(bytes)?.try_into().ok())
}

/// A number that has a file of `<proc>` to itself (`sys/kernel/pid_max`); `None` when there is no such file. Another failure is told.
pub(super) fn of_proc(host: &mut Reader, odd: &mut Oddities, file: &str) -> Option<u64> {
    let bytes = host.proc(file).map_err(|error| odd.unless_absent(&error)).ok()?;
    let number = parse::unsigned(parse::trimmed(bytes));
    if number.is_none() {
        odd.line(file, bytes);
    }
    number
}

/// The names in a directory of sysfs; none when it is not there.
pub(super) fn names(host: &Reader, odd: &mut Oddities, directory: &str) -> Vec<String> {
    told(host.sys_names(directory), odd).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers() {
        assert_eq!(unsigned(b"0xffffffffffffffff"), Some(u64::MAX));
        assert_eq!(unsigned(b"0x10"), Some(16));
        assert_eq!(unsigned(b"10"), Some(10));
        for odd in [&b""[..], b"0x", b"0x+1", b"-1", b"0x1ffffffffffffffff", b"x"] {
            assert_eq!(unsigned(odd), None, "{odd:?}");
        }
        assert_eq!(signed(b"-1"), Some(-1));
        assert_eq!(signed(b"0x8380"), Some(0x8380));
        assert_eq!(signed(b"0xffffffffffffffff"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = (unsigned(&bytes), signed(&bytes));
        }
    }
}
