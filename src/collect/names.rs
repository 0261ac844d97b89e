//! Families whose names come out of a kernel file (`/proc/meminfo`, `netstat`, `vmstat`): made once for each key, not once for each scrape.

use std::collections::HashMap;

/// More keys than any kernel has; at this bound the memory begins anew.
const MOST_KEYS: usize = 4096;

/// The families known so far, by the key of the file.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<Box<[u8]>, Key>,
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
    }

    /// The family of `key`. `make` gives name and help of a key that is seen for the first time, `None` for one that is not wanted.
    pub(super) fn find(&mut self, key: &[u8], make: impl FnOnce(&str) -> Option<Named>) -> Found<'_> {
        if !self.known.contains_key(key) {
            if self.known.len() >= MOST_KEYS {
                self.known.clear();
            }
            self.known.insert(key.into(), made(key, make));
        }
        match self.known.get_mut(key) {
            Some(Key::Wanted { named, written }) if *written != self.pass => {
                *written = self.pass;
                Found::Wanted(named)
            }
            Some(Key::Unwanted) => Found::Unwanted,
            Some(Key::Wanted { .. } | Key::Odd) | None => Found::Odd,
        }
    }
}

fn made(key: &[u8], make: impl FnOnce(&str) -> Option<Named>) -> Key {
    let Ok(key) = std::str::from_utf8(key) else { return Key::Odd };
    match make(key) {
        None => Key::Unwanted,
        Some(named) if named.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => Key::Wanted { named, written: 0 },
        Some(_) => Key::Odd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_cannot_be_a_name_is_odd() {
        let mut names = Names::default();
        names.begin();
        assert_eq!(find(&mut names, b"a-b"), "odd");
        assert_eq!(find(&mut names, b"\xff"), "odd");
    }
}
