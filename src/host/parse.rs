//! Fields of kernel files, taken apart where they lie: bytes in, borrowed bytes and numbers out.

/// The lines of a file, without their line feeds.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let (line, after) = rest.split_at_checked(end)?;
            rest = after.get(1..).unwrap_or_default();
            if !line.is_empty() {
                return Some(line);
            }
        }
    })
}

/// The fields of a line: what stands between blanks and tabs.
pub fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    const fn is_blank(byte: &u8) -> bool {
        matches!(*byte, b' ' | b'\t')
    }
    let mut rest = line;
    std::iter::from_fn(move || {
        let begin = rest.iter().position(|byte| !is_blank(byte))?;
        let from = rest.get(begin..)?;
        let end = from.iter().position(is_blank).unwrap_or(from.len());
        let (field, after) = from.split_at_checked(end)?;
        rest = after;
        Some(field)
    })
}

/// What stands before and behind the first `at` of a line. `None` when there is none.
#[must_use]
pub fn split(line: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (before, rest) = line.split_at_checked(memchr::memchr(at, line)?)?;
    Some((before, rest.get(1..)?))
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

/// A hexadecimal number of digits only, without `0x`. `None` for anything else, and for one over 2^64.
#[must_use]
pub fn hexadecimal(field: &[u8]) -> Option<u64> {
    if field.is_empty() {
        return None;
    }
    let mut number = 0u64;
    for byte in field {
        let digit = char::from(*byte).to_digit(16)?;
        number = number.checked_mul(16)?.checked_add(digit.into())?;
    }
    Some(number)
}

/// A socket's line in `net/tcp`, `net/udp` and the like: its state, and how much waits to be sent and to be read.
/// `  0: 0100007F:0016 00000000:0000 0A 00000000:00000000 ...`. Source: the kernel's `Documentation/networking/proc_net_tcp.rst`.
#[must_use]
pub fn socket(line: &[u8]) -> Option<(u64, u64, u64)> {
    let mut fields = fields(line).skip(3);
    let state = hexadecimal(fields.next()?)?;
    let (sent, received) = split(fields.next()?, b':')?;
    Some((state, hexadecimal(sent)?, hexadecimal(received)?))
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

/// How many numbers `net/dev` has of an interface.
pub const INTERFACE_COLUMNS: usize = 16;

/// The interfaces of a `net/dev`, each with its numbers in the order of the kernel's `net/core/net-procfs.c`: received bytes, packets, errs, drop, fifo, frame,
/// compressed, multicast; sent bytes, packets, errs, drop, fifo, colls, carrier, compressed. A line that cannot be understood is given as an error.
pub fn interfaces(bytes: &[u8]) -> impl Iterator<Item = Result<(&[u8], [u64; INTERFACE_COLUMNS]), &[u8]>> {
    // Two lines of headings, which are the only ones with a bar.
    lines(bytes).filter(|line| !line.contains(&b'|')).map(|line| interface(line).ok_or(line))
}

/// `  eth0: 1 2 ... 16`. The name ends at the last colon; on old kernels the first number stands directly behind it.
fn interface(line: &[u8]) -> Option<(&[u8], [u64; INTERFACE_COLUMNS])> {
    let colon = memchr::memrchr(b':', line)?;
    let (name, rest) = line.split_at_checked(colon)?;
    let name = trimmed(name);
    let mut fields = fields(rest.strip_prefix(b":")?);
    let mut numbers = [0; INTERFACE_COLUMNS];
    for slot in &mut numbers {
        *slot = unsigned(fields.next()?)?;
    }
    (!name.is_empty() && name != b"." && name != b"..").then_some((name, numbers))
}

/// The microseconds behind `total=` in the line of a file of pressure that begins with `share`, which is `some` or `full`:
/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=1234`. Source: the kernel's `Documentation/accounting/psi.rst`.
#[must_use]
pub fn pressure(bytes: &[u8], share: &[u8]) -> Option<u64> {
    let line = lines(bytes).find(|line| fields(line).next() == Some(share))?;
    fields(line).find_map(|field| field.strip_prefix(b"total=")).and_then(unsigned)
}

#[cfg(test)]
mod tests {
    use procfs::FromBufRead;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_interface_is_a_name_and_its_numbers() {
        let (name, numbers) = interface(b"  eth0:12 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16").unwrap();
        assert_eq!((name, numbers[0], numbers[15]), (&b"eth0"[..], 12, 16));
        assert!(interface(b"  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15").is_none());
        assert!(interface(b"..: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16").is_none());
        let found: Vec<_> = interfaces(b"Inter-|  Receive\n face |bytes\nodd\nlo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n").collect();
        assert_eq!((found.len(), found[0], found[1].unwrap().0), (2, Err(&b"odd"[..]), &b"lo"[..]));
    }

    #[test]
    fn pressure_is_what_procfs_reads() {
        let bytes = b"some avg10=0.18 avg60=0.34 avg300=0.10 total=159886802\nfull avg10=0.18 avg60=0.34 avg300=0.10 total=159229614\n";
        let oracle = procfs::IoPressure::from_buf_read(&bytes[..]).unwrap();
        assert_eq!(pressure(bytes, b"some"), Some(oracle.some.total));
        assert_eq!(pressure(bytes, b"full"), Some(oracle.full.total));
        assert_eq!(pressure(b"some avg10=0.00\n", b"some"), None);
        assert_eq!(pressure(b"some avg10=0.00\n", b"full"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = (interfaces(&bytes).count(), pressure(&bytes, b"some"), socket(&bytes), hexadecimal(&bytes));
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(unsigned(b"18446744073709551615"), Some(u64::MAX));
        for odd in [&b""[..], b"18446744073709551616", b"-1", b"1x", b" 1"] {
            assert_eq!(unsigned(odd), None);
        }
        assert_eq!(
            (split(b"a:b:c", b':'), split(b":", b':'), split(b"a", b':')),
            (Some((&b"a"[..], &b"b:c"[..])), Some((&b""[..], &b""[..])), None)
        );
        assert_eq!((hexadecimal(b"00fF"), hexadecimal(b"ffffffffffffffff")), (Some(255), Some(u64::MAX)));
        for odd in [&b""[..], b"0x1", b"10000000000000000", b"g"] {
            assert_eq!(hexadecimal(odd), None);
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
