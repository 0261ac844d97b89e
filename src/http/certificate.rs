//! What a client's certificate says of its bearer: its names, when it is valid, and whether it may be used by a client. webpki verifies chains and keeps the names
//! to itself, and matches wildcards where an allow list means what it says; so the few fields are read here.
//!
//! The bytes are a stranger's. Form: RFC 5280, 4.1 and 4.2.1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// What is asked of a certificate here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// DNS names, e-mail addresses, URIs and addresses, as text.
    pub(super) names: Vec<String>,
    /// Seconds since the epoch.
    pub(super) not_before: i64,
    /// Seconds since the epoch.
    pub(super) not_after: i64,
    /// No usage is named, or a client's is among them.
    pub(super) is_for_clients: bool,
}

/// One element of DER: its tag, its content, and what stands behind it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
            (digits.iter().fold(0usize, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (tag & 0x1f != 0x1f).then_some((tag, content, rest))
}

fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Reads a certificate; `None` where it is none.
pub(super) fn facts(der: &[u8]) -> Option<Facts> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if let Some((0xa0, _, behind)) = element(rest) {
        rest = behind; // the version
    }
    for _ in ["serial number", "signature", "issuer"] {
        rest = element(rest)?.2;
    }
    let (validity, mut rest) = expect(rest, SEQUENCE)?;
    let (tag, begin, end) = element(validity)?;
    let not_before = time(tag, begin)?;
    let (tag, end, _) = element(end)?;
    let not_after = time(tag, end)?;
    let mut found = Facts { names: Vec::new(), not_before, not_after, is_for_clients: true };
    for _ in ["subject", "key"] {
        rest = element(rest)?.2;
    }
    while let Some((tag, content, behind)) = element(rest) {
        rest = behind;
        if tag == 0xa3 {
            let (mut extensions, _) = expect(content, SEQUENCE)?;
            while !extensions.is_empty() {
                let (extension, behind) = expect(extensions, SEQUENCE)?;
                extensions = behind;
                extension_of(extension, &mut found)?;
            }
        }
    }
    rest.is_empty().then_some(found)
}

fn extension_of(extension: &[u8], found: &mut Facts) -> Option<()> {
    let (id, mut rest) = expect(extension, OID)?;
    if let Some((0x01, _, behind)) = element(rest) {
        rest = behind; // whether it is critical
    }
    let (value, _) = expect(rest, OCTETS)?;
    if id == SUBJECT_ALT_NAME {
        let (mut names, _) = expect(value, SEQUENCE)?;
        while let Some((tag, content, behind)) = element(names) {
            names = behind;
            match tag {
                // An e-mail address, a DNS name, a URI.
                0x81 | 0x82 | 0x86 => found.names.push(std::str::from_utf8(content).ok()?.to_owned()),
                0x87 => found.names.push(address(content)?),
                _ => {}
            }
        }
    } else if id == EXTENDED_KEY_USAGE {
        let (mut usages, _) = expect(value, SEQUENCE)?;
        found.is_for_clients = false;
        while let Some((OID, usage, behind)) = element(usages) {
            usages = behind;
            found.is_for_clients |= usage == CLIENT_AUTH || usage == ANY_USAGE;
        }
    }
    Some(())
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| IpAddr::from(Ipv6Addr::from(sixteen)).to_canonical().to_string())
}

/// `YYMMDDHHMMSSZ` (tag 23) or `YYYYMMDDHHMMSSZ` (tag 24) as seconds since the epoch.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        0x17 => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (year + if year < 50 { 2000 } else { 1900 }, rest)
        }
        0x18 => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let pair = |at: usize| rest.get(at..at + 2).and_then(|digits| digits.parse::<i64>().ok());
    let (month, day, hour, minute, second) = (pair(0)?, pair(2)?, pair(4)?, pair(6)?, pair(8)?);
    if rest.len() != 10 || !(1..=12).contains(&month) {
        return None;
    }
    // Days since 1970-01-01 in the Gregorian calendar, counted in years that begin in March.
    let (shifted, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * shifted + shifted.div_euclid(4) - shifted.div_euclid(100) + shifted.div_euclid(400) + (153 * month + 2) / 5 + day
        - 1
        - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_certificate_s_names_and_times() {
        let mut params = CertificateParams::new(vec!["a.example".to_owned(), "*.b.example".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress("192.0.2.7".parse().unwrap()));
        params.subject_alt_names.push(SanType::IpAddress("2001:db8::7".parse().unwrap()));
        params.subject_alt_names.push(SanType::Rfc822Name("me@example".try_into().unwrap()));
        params.subject_alt_names.push(SanType::URI("spiffe://x/y".try_into().unwrap()));
        params.not_before = rcgen::date_time_ymd(2024, 2, 29);
        params.not_after = rcgen::date_time_ymd(2051, 1, 1);
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let found = facts(der.der()).unwrap();
        assert_eq!(found.names, ["a.example", "*.b.example", "192.0.2.7", "2001:db8::7", "me@example", "spiffe://x/y"]);
        assert_eq!((found.not_before, found.not_after), (1_709_164_800, 2_556_144_000));
        assert!(found.is_for_clients);
        for (usage, expected) in [(ExtendedKeyUsagePurpose::ServerAuth, false), (ExtendedKeyUsagePurpose::ClientAuth, true)] {
            let mut params = CertificateParams::default();
            params.extended_key_usages.push(usage);
            let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(facts(der.der()).unwrap().is_for_clients, expected);
        }
    }

    #[test]
    fn a_certificate_cut_off_is_none() {
        let der = CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap();
        for length in 0..der.der().len() {
            assert_eq!(facts(&der.der()[..length]), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..400, value: u8) {
            facts(&bytes);
            let mut der = CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
            let at = at % der.len();
            der[at] = value;
            facts(&der);
        }
    }
}
