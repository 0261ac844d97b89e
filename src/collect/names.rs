//! Families whose names come out of the host (`/proc/meminfo`, `netstat`, `vmstat`): what may stand in such a name, and names that are made once for each key
//! and not once for each scrape.

use std::collections::HashMap;

/// More keys than any kernel has; at this bound the memory begins anew.
const MOST_KEYS: usize = 4096;

/// Whether `word` can stand in the name of a metric, behind its beginning.
pub(super) fn is_part(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// `name` as a part of a metric's name, as node_exporter makes it (`SanitizeMetricName`): whatever cannot stand there becomes one underscore, together with
/// the underscores around it.
pub(super) fn part(name: &str) -> String {
    #[derive(PartialEq)]
    enum Last {
        Fits,
        Odd,
        /// An underscore that went with what is odd before it.
        Gone,
    }
    let mut part = String::with_capacity(name.len());
    let mut last = Last::Fits;
    for letter in name.chars() {
        last = match letter {
            '_' if last != Last::Fits => Last::Gone,
            '_' | '0'..='9' | 'a'..='z' | 'A'..='Z' => {
                part.push(letter);
                Last::Fits
            }
            _ => {
                if last == Last::Fits {
                    part.truncate(part.trim_end_matches('_').len());
                }
                if last != Last::Odd {
                    part.push('_');
                }
                Last::Odd
            }
        };
    }
    part
}

/// The families known so far, by the key of the file.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// In the order in which they were first seen, which is the file's.
    known: Vec<(Box<[u8]>, Key)>,
    places: HashMap<Box<[u8]>, usize>,
    /// The place of the key that comes next, when the file is as it was.
    next: usize,
    pass: u64,
}

#[derive(Debug)]
enum Key {
    Wanted { named: Named, written: u64 },
    Unwanted,
    Odd,
}

/// The head of a family.
#[derive(Debug)]
pub(super) struct Named {
    /// Its name.
    pub(super) name: String,
    /// Its HELP text.
    pub(super) help: String,
}

/// What is to be done with a key.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// Its family is written.
    Wanted(&'a Named),
    /// It was not asked for.
    Unwanted,
    /// It cannot be a metric's name, or its family was written in this pass already.
    Odd,
}

impl Names {
    /// Begins a pass, in which each family is written once: two of one name would cost Prometheus the sample.
    pub(super) fn begin(&mut self) {
        self.pass += 1;
        self.next = 0;
    }

    /// The family of `key`. `make` gives name and help of a key that is seen for the first time, `None` for one that is not wanted.
    pub(super) fn find(&mut self, key: &[u8], make: impl FnOnce(&str) -> Option<Named>) -> Found<'_> {
        let place = match self.known.get(self.next) {
            Some((known, _)) if **known == *key => self.next,
            _ => self.place(key, make),
        };
        self.next = place + 1;
        match self.known.get_mut(place).map(|(_, known)| known) {
            Some(Key::Wanted { named, written }) if *written != self.pass => {
                *written = self.pass;
                Found::Wanted(named)
            }
            Some(Key::Unwanted) => Found::Unwanted,
            Some(Key::Wanted { .. } | Key::Odd) | None => Found::Odd,
        }
    }

    /// The place of a key that is not the next one.
    fn place(&mut self, key: &[u8], make: impl FnOnce(&str) -> Option<Named>) -> usize {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        if self.known.len() >= MOST_KEYS {
            self.known.clear();
            self.places.clear();
        }
        self.places.insert(key.into(), self.known.len());
        self.known.push((key.into(), made(key, make)));
        self.known.len() - 1
    }
}

fn made(key: &[u8], make: impl FnOnce(&str) -> Option<Named>) -> Key {
    let Ok(key) = std::str::from_utf8(key) else { return Key::Odd };
    match make(key) {
        None => Key::Unwanted,
        Some(named) if is_part(named.name.as_bytes()) => Key::Wanted { named, written: 0 },
        Some(_) => Key::Odd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(names: &mut Names, key: &[u8]) -> &'static str {
        match names.find(key, |key| (key != "no").then(|| Named { name: format!("x_{key}"), help: String::new() })) {
            Found::Wanted(_) => "wanted",
            Found::Unwanted => "unwanted",
            Found::Odd => "odd",
        }
    }

    #[test]
    fn a_family_is_written_once_in_a_pass() {
        let mut names = Names::default();
        names.begin();
        assert_eq!(find(&mut names, b"a"), "wanted");
        assert_eq!(find(&mut names, b"a"), "odd");
        assert_eq!(find(&mut names, b"no"), "unwanted");
        names.begin();
        assert_eq!(find(&mut names, b"a"), "wanted");
    }

    #[test]
    fn keys_may_come_in_another_order() {
        let mut names = Names::default();
        for order in ["abc", "abc", "cab", "bxca", "abcx", "ac"] {
            names.begin();
            for key in order.bytes() {
                match names.find(&[key], |key| Some(Named { name: key.to_owned(), help: String::new() })) {
                    Found::Wanted(named) => assert_eq!(named.name.as_bytes(), [key], "{order}"),
                    found => panic!("{order}: {found:?}"),
                }
            }
            assert_eq!(find(&mut names, order.get(..1).unwrap().as_bytes()), "odd");
        }
    }

    #[test]
    fn a_part_has_one_underscore_for_what_does_not_fit() {
        // As Go's regexp replaces `_*[^0-9A-Za-z_]+_*`.
        for (name, expected) in [
            ("fs.file-nr", "fs_file_nr"),
            ("kernel.sched__a_.b", "kernel_sched__a_b"),
            ("package-0-die-1", "package_0_die_1"),
            ("a_-_b", "a_b"),
            ("a_-_-b", "a__b"),
            ("a__b_", "a__b_"),
            ("-_a", "_a"),
            ("\u{fc}", "_"),
            ("", ""),
        ] {
            assert_eq!(part(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_part_fits(name: String) {
            let part = part(&name);
            prop_assert!(part.is_empty() || is_part(part.as_bytes()));
            prop_assert_eq!(super::part(&part), part);
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_odd() {
        let mut names = Names::default();
        names.begin();
        assert_eq!(find(&mut names, b"a-b"), "odd");
        assert_eq!(find(&mut names, b"\xff"), "odd");
    }
}
