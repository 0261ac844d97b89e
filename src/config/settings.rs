//! The settings that are in force, by name, before they are given their types.

use std::collections::BTreeMap;

/// Every flag's values, after flag, environment, file and default have been laid over each other. A switch is `["true"]` or `["false"]`; a flag that
/// was not given and has no default is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<String, Vec<String>>,
}

impl Settings {
    /// Sets a flag's values, replacing what was there.
    pub fn set(&mut self, name: &str, values: Vec<String>) {
        self.values.insert(name.to_owned(), values);
    }

    /// The value of a flag that takes one, when it is there and not empty.
    #[must_use]
    pub fn one(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.last().map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The values of a flag that takes any number.
    #[must_use]
    pub fn many(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a switch is on.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.one(name) == Some("true")
    }

    /// The names whose values are others in `new`.
    pub fn differing<'a>(&'a self, new: &'a Self) -> impl Iterator<Item = &'a str> {
        let names: std::collections::BTreeSet<&str> = self.values.keys().chain(new.values.keys()).map(String::as_str).collect();
        names.into_iter().filter(|name| self.values.get(*name) != new.values.get(*name))
    }

    /// All names with their values.
    pub fn all(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.values.iter().map(|(name, values)| (&**name, &**values))
    }
}
