//! When to look around anew among devices whose names and files do not change for hours.

/// For how many scrapes what was found is good while the names are the same: ten minutes, at one scrape every 15 seconds.
const SCRAPES: u32 = 40;

/// The names of devices at the last look around.
#[derive(Debug, Default)]
pub(super) struct Known {
    names: Option<Vec<String>>,
    age: u32,
}

impl Known {
    /// Whether the devices have to be looked at again, for their names are others or the last look is long ago.
    pub(super) fn is_stale(&mut self, names: Vec<String>) -> bool {
        self.age += 1;
        if self.age < SCRAPES && self.names.as_ref() == Some(&names) {
            return false;
        }
        self.names = Some(names);
        self.age = 0;
        true
    }

    /// The next scrape looks around: a file that was there is gone.
    pub(super) fn forget(&mut self) {
        self.names = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_again_when_names_change_and_now_and_then() {
        let names = |name: &str| vec![name.to_owned()];
        let mut known = Known::default();
        assert!(known.is_stale(names("a")) && !known.is_stale(names("a")));
        assert!(known.is_stale(names("b")) && !known.is_stale(names("b")));
        known.forget();
        assert!(known.is_stale(names("b")));
        assert_eq!((0..2 * SCRAPES).filter(|_| known.is_stale(names("b"))).count(), 2);
        assert!(Known::default().is_stale(Vec::new()));
    }
}
