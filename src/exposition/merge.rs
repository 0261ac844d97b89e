//! What collectors wrote, put together so that no family stands twice and no series either.
//!
//! A name that two collectors of skep's own have is one family, its samples behind each other. Families of [guests](super::Guests), whose names others chose
//! (the text files of users), go where skep has their name itself. Whether there is anything to do is asked first, and cheaply ([`each_once`]).

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use memchr::{memchr, memchr_iter, memrchr};

/// Guests of one collector, by where they stand in the text.
#[derive(Debug)]
pub struct Guest {
    /// Which collector's, by a number of the caller's.
    pub of: usize,
    /// Their families.
    pub families: Range<usize>,
    /// The gauge that becomes 1 when one of them goes.
    pub verdict: &'static str,
}

/// What was left out.
#[derive(Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The collector whose it was, where it was a guest's.
    pub of: Option<usize>,
    /// The name of the family.
    pub family: String,
}

/// A family as it stands in a text: its heads, then its samples.
struct Block<'t> {
    start: usize,
    name: &'t [u8],
    kind: &'t [u8],
    head: &'t [u8],
    samples: &'t [u8],
}

/// Whether no name of a family stands twice in a text without guests, by the [numbers](super::Writer::heads) of the names, which are put in order for it.
/// Two names that share a number cost a closer look and nothing else.
pub(super) fn each_once(heads: &mut [u64]) -> bool {
    heads.sort_unstable();
    heads.windows(2).all(|pair| pair.first() != pair.last())
}

/// The names of the families of a text.
pub(super) fn names(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    blocks(text).map(|block| block.name)
}

/// The text without families and series that would stand twice, and what was left out; `None` when it is right as it is.
#[must_use]
pub fn merged(text: &[u8], guests: &[Guest]) -> Option<(Vec<u8>, Vec<Dropped>)> {
    if guests.is_empty() {
        let mut names = HashSet::with_capacity(512);
        if blocks(text).all(|block| names.insert(block.name)) {
            return None;
        }
    }
    let guest = |block: &Block<'_>| guests.iter().find(|guest| guest.families.contains(&block.start));
    let mut own: HashMap<&[u8], Vec<Block<'_>>> = HashMap::with_capacity(512);
    for block in blocks(text).filter(|block| guest(block).is_none()) {
        own.entry(block.name).or_default().push(block);
    }
    let mut dropped = Vec::new();
    let mut let_in: HashSet<&[u8]> = HashSet::new();
    let mut blamed = HashSet::new();
    for block in blocks(text) {
        let Some(guest) = guest(&block) else { continue };
        if clashes(&block, &own) || !let_in.insert(block.name) {
            blamed.insert(guest.verdict.as_bytes());
            dropped.push(Dropped { of: Some(guest.of), family: String::from_utf8_lossy(block.name).into_owned() });
        }
    }
    if dropped.is_empty() && own.values().all(|same| same.len() == 1) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len());
    for block in blocks(text) {
        if guest(&block).is_some() {
            // Guests are unique among themselves; where one is not, the first is kept.
            if let_in.remove(block.name) {
                out.extend_from_slice(block.head);
                out.extend_from_slice(block.samples);
            }
            continue;
        }
        // All of a name at the first of them.
        let Some(same) = own.remove(block.name) else { continue };
        out.extend_from_slice(block.head);
        if blamed.contains(block.name) {
            let samples = block.samples.strip_suffix(b"0\n").unwrap_or(block.samples);
            out.extend_from_slice(samples);
            if samples.len() < block.samples.len() {
                out.extend_from_slice(b"1\n");
            }
            continue;
        }
        if same.len() == 1 {
            out.extend_from_slice(block.samples);
            continue;
        }
        let mut series = HashSet::new();
        for one in same {
            if one.kind != block.kind {
                dropped.push(Dropped { of: None, family: String::from_utf8_lossy(one.name).into_owned() });
                continue;
            }
            for line in one.samples.split_inclusive(|byte| *byte == b'\n') {
                let end = memrchr(b' ', line).unwrap_or(line.len());
                if series.insert(line.get(..end)) {
                    out.extend_from_slice(line);
                }
            }
        }
    }
    Some((out, dropped))
}

/// Whether a guest has a name that one of skep's own families has, or would have for one of its samples.
fn clashes(guest: &Block<'_>, own: &HashMap<&[u8], Vec<Block<'_>>>) -> bool {
    const PARTS: [&[u8]; 3] = [b"_sum", b"_count", b"_bucket"];
    let is_compound = |kind: &[u8]| matches!(kind, b"histogram" | b"summary");
    own.contains_key(guest.name)
        || (is_compound(guest.kind) && PARTS.iter().any(|part| own.contains_key(&*[guest.name, part].concat())))
        || PARTS
            .iter()
            .filter_map(|part| guest.name.strip_suffix(*part))
            .filter_map(|base| own.get(base))
            .any(|same| same.iter().any(|own| is_compound(own.kind)))
}

/// How much of `text` stands before the next line that begins with `#`. The sign is rare, so this is a search for one byte.
pub(super) fn before_head(text: &[u8]) -> usize {
    memchr_iter(b'#', text).find(|at| *at == 0 || text.get(at - 1) == Some(&b'\n')).unwrap_or(text.len())
}

/// The families of a text in their order.
fn blocks(text: &[u8]) -> impl Iterator<Item = Block<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let rest = text.get(start..)?;
        // A help before the type, or none.
        let mut kind_at = 0;
        while !rest.get(kind_at..)?.starts_with(TYPE) {
            kind_at += memchr(b'\n', rest.get(kind_at..)?)? + 1;
        }
        let line = rest.get(kind_at + TYPE.len()..)?;
        let line = line.get(..memchr(b'\n', line)?)?;
        let (name, kind) = line.split_at_checked(memchr(b' ', line)?)?;
        let samples_at = kind_at + TYPE.len() + line.len() + 1;
        let behind = rest.get(samples_at..)?;
        let length = before_head(behind);
        at = start + samples_at + length;
        Some(Block { start, name, kind: kind.get(1..)?, head: rest.get(..samples_at)?, samples: behind.get(..length)? })
    })
}

const TYPE: &[u8] = b"# TYPE ";

#[cfg(test)]
mod tests {
    use super::*;

    fn family(name: &str, kind: &str, samples: &[&str]) -> String {
        samples.iter().fold(format!("# HELP {name} H.\n# TYPE {name} {kind}\n"), |text, sample| text + name + sample + "\n")
    }

    /// Puts `own` before and behind `guests`.
    fn put(before: &str, guests: &str, behind: &str) -> Option<(String, Vec<String>)> {
        let text = [before, guests, behind].concat();
        let families = before.len()..before.len() + guests.len();
        let guests = if guests.is_empty() { Vec::new() } else { vec![Guest { of: 7, families, verdict: "error" }] };
        merged(text.as_bytes(), &guests)
            .map(|(text, dropped)| (String::from_utf8(text).unwrap(), dropped.into_iter().map(|dropped| dropped.family).collect()))
    }

    #[test]
    fn what_is_right_stays_as_it_is() {
        let own = family("a", "gauge", &[" 1"]);
        assert_eq!(put(&own, "", &family("b", "gauge", &[" 1"])), None);
        assert_eq!(put(&own, &family("mine", "gauge", &["{x=\"# TYPE a gauge\"} 1"]), &family("b", "gauge", &[" 1"])), None);
        assert_eq!(put("", "", ""), None);
    }

    #[test]
    fn skep_s_own_family_stays_and_the_guest_s_goes() {
        let error = family("error", "gauge", &["{host=\"n\"} 0"]);
        for (before, guests, behind) in [
            // Before and behind the guests.
            (family("a", "gauge", &[" 1"]), family("a", "counter", &[" 2"]), String::new()),
            (String::new(), family("a", "gauge", &[" 2"]), family("a", "gauge", &[" 1"])),
            // Names of samples.
            (family("h", "histogram", &["_sum 1"]), family("h_count", "gauge", &[" 2"]), String::new()),
            (family("h_count", "gauge", &[" 1"]), family("h", "summary", &["_sum 2"]), String::new()),
        ] {
            let kept = family("kept", "gauge", &[" 3"]);
            let (text, dropped) = put(&before, &format!("{guests}{kept}"), &format!("{error}{behind}")).unwrap();
            assert_eq!(text, format!("{before}{kept}{}{behind}", error.replace("} 0", "} 1")));
            assert_eq!(dropped.len(), 1);
        }
        // The verdict was given already.
        let (text, _) = put(&family("a", "gauge", &[" 1"]), &family("a", "gauge", &[" 2"]), &family("error", "gauge", &[" 1"])).unwrap();
        assert!(text.ends_with("error 1\n"), "{text}");
    }

    #[test]
    fn a_name_that_stands_twice_is_seen_by_its_numbers() {
        let mut writer = crate::exposition::Writer::new(std::sync::Arc::default());
        writer.gauge("a", "", 1u64);
        writer.encoded(|text| text.extend_from_slice((family("b", "gauge", &[" 1"]) + &family("c", "gauge", &[" 1"])).as_bytes()));
        // One without a sample has no head.
        writer.family("a", crate::model::Kind::Gauge, "");
        assert!(writer.heads().len() == 3 && each_once(&mut writer.heads().to_vec()));
        writer.gauge("c", "", 1u64);
        assert!(!each_once(&mut writer.heads().to_vec()));
        writer.clear();
        assert!(writer.heads().is_empty() && each_once(&mut []));
    }

    #[test]
    fn guests_of_one_name_are_one() {
        let guests = family("a", "gauge", &[" 1"]) + &family("a", "gauge", &[" 2"]);
        let (text, dropped) = put("", &guests, "").unwrap();
        assert_eq!((text, dropped.len()), (family("a", "gauge", &[" 1"]), 1));
    }

    #[test]
    fn a_family_of_two_collectors_is_one() {
        let text = family("a", "gauge", &["{x=\"1\"} 1", "{x=\"2\"} 1"]) + &family("b", "gauge", &[" 1"]);
        let (text, dropped) = put(&text, "", &family("a", "gauge", &["{x=\"2\"} 9", "{x=\"3\"} 1"])).unwrap();
        assert_eq!(text, family("a", "gauge", &["{x=\"1\"} 1", "{x=\"2\"} 1", "{x=\"3\"} 1"]) + &family("b", "gauge", &[" 1"]));
        assert!(dropped.is_empty());
        let (text, dropped) = put(&family("a", "gauge", &[" 1"]), "", &family("a", "counter", &[" 2"])).unwrap();
        assert_eq!((text, dropped), (family("a", "gauge", &[" 1"]), vec!["a".to_owned()]));
    }
}
