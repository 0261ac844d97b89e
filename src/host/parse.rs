//! Fields of kernel files, taken apart where they lie: bytes in, borrowed bytes and numbers out.

/// The lines of a file, without their line feeds.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The fields of a line: what stands between blanks and tabs.
pub fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|field| !field.is_empty())
}

/// A decimal number of digits only. `None` for anything else, and for one over 2^64.
#[must_use]
pub fn unsigned(field: &[u8]) -> Option<u64> {
    if field.is_empty() {
        return None;
    }
    let mut number = 0u64;
    for byte in field {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(digit.into())?;
    }
    Some(number)
}

/// A decimal number that may have a sign.
#[must_use]
pub fn signed(field: &[u8]) -> Option<i64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// A decimal number with a fraction.
#[must_use]
pub fn float(field: &[u8]) -> Option<f64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// The bytes as text, what is not UTF-8 replaced by U+FFFD. Borrows where it can.
#[must_use]
pub fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The bytes without blanks and line feeds at both ends.
#[must_use]
pub fn trimmed(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(unsigned(b"18446744073709551615"), Some(u64::MAX));
        for odd in [&b""[..], b"18446744073709551616", b"-1", b"1x", b" 1"] {
            assert_eq!(unsigned(odd), None);
        }
        assert_eq!(signed(b"-7"), Some(-7));
        assert_eq!(float(b"0.84"), Some(0.84));
    }

    #[test]
    fn fields_are_between_blanks() {
        let found: Vec<&[u8]> = fields(b"  a\tb  c ").collect();
        assert_eq!(found, [&b"a"[..], b"b", b"c"]);
    }
}
