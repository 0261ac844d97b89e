//! The labels of a container, as small as they can be held: most are asked for once, and there may be a thousand containers.

use std::collections::BTreeMap;

/// All labels of a container, in the order of their names, in one piece of memory: a map of strings takes three times as much, in sixteen pieces.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// Names and values in turn, one behind the other.
    text: Box<str>,
    /// Where each name and each value ends.
    ends: Box<[u32]>,
}

impl Labels {
    /// The labels with their values, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut begin = 0;
        self.ends.chunks_exact(2).map_while(move |ends| {
            let [name_end, value_end] = ends else { return None };
            let (name_end, value_end) = (*name_end as usize, *value_end as usize);
            let name = self.text.get(begin..name_end)?;
            let value = self.text.get(name_end..value_end)?;
            begin = value_end;
            Some((name, value))
        })
    }

    /// The value of the label of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

impl From<BTreeMap<String, String>> for Labels {
    /// What would go beyond 4 GiB is left out; the engine's answers are bounded far below.
    fn from(map: BTreeMap<String, String>) -> Self {
        let mut text = String::with_capacity(map.iter().map(|(name, value)| name.len() + value.len()).sum());
        let mut ends = Vec::with_capacity(2 * map.len());
        for (name, value) in map {
            let name_end = text.len() + name.len();
            let (Ok(name_end), Ok(value_end)) = (u32::try_from(name_end), u32::try_from(name_end + value.len())) else { break };
            ends.extend([name_end, value_end]);
            text.push_str(&name);
            text.push_str(&value);
        }
        Self { text: text.into(), ends: ends.into() }
    }
}

impl std::fmt::Debug for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_map_comes_back(map: BTreeMap<String, String>) {
            let labels = Labels::from(map.clone());
            prop_assert_eq!(labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(), map.clone());
            prop_assert_eq!((labels.len(), labels.is_empty()), (map.len(), map.is_empty()));
            for (name, value) in &map {
                prop_assert_eq!(labels.get(name), Some(&**value));
            }
            prop_assert_eq!(labels.get("no such name, for it has a comma"), map.get("no such name, for it has a comma").map(String::as_str));
        }
    }
}
