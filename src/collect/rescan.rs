//! When to look around anew among devices whose names and files do not change for hours.

/// For how many scrapes what was found is good while the names are the same: ten minutes, at one scrape every 15 seconds.
const SCRAPES: u32 = 40;

/// The names of devices at the last look around, and how long ago that was.
#[derive(Debug, Default)]
pub(super) struct Rescan {
    names: Option<Vec<String>>,
    age: u32,
}

impl Rescan {
    /// Whether the devices have to be looked at again, for their names are others or the last look is long ago.
    pub(super) fn is_due(&mut self, names: Vec<String>) -> bool {
        self.age += 1;
        if self.age < SCRAPES && self.names.as_ref() == Some(&names) {
            return false;
        }
        self.names = Some(names);
        self.age = 0;
        true
    }

    /// The next scrape looks around: a file that was there is gone.
    pub(super) fn at_once(&mut self) {
        self.names = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_again_when_names_change_and_now_and_then() {
        let names = |name: &str| vec![name.to_owned()];
        let mut rescan = Rescan::default();
        assert!(rescan.is_due(names("a")) && !rescan.is_due(names("a")));
        assert!(rescan.is_due(names("b")) && !rescan.is_due(names("b")));
        rescan.at_once();
        assert!(rescan.is_due(names("b")));
        assert_eq!((0..2 * SCRAPES).filter(|_| rescan.is_due(names("b"))).count(), 2);
        assert!(Rescan::default().is_due(Vec::new()));
    }
}
