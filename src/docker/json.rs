//! Reading the engine's JSON so that no odd field costs more than itself.
//!
//! Go writes `null` for an empty map or list, engines of different years leave fields out or add them, and states get new values. So every field
//! has a default, and states stay text.

use serde::{Deserialize, Deserializer};

/// A field that may be missing, `null`, or of another type than expected: then it is the default. What is odd in one field must not cost the
/// container, and an odd container must not cost the list.
pub(crate) fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<T> {
        Expected(T),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Expected(value) => value,
        Either::Other(_) => T::default(),
    })
}

#[cfg(test)]
mod tests {
    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default)]
    struct Thing {
        #[serde(deserialize_with = "super::lenient")]
        labels: std::collections::BTreeMap<String, String>,
        #[serde(deserialize_with = "super::lenient")]
        pid: u32,
    }

    #[test]
    fn an_odd_field_costs_itself() {
        for odd in [r#"{"labels":null,"pid":7}"#, r#"{"labels":[1],"pid":7}"#, r#"{"pid":7,"new":{}}"#] {
            assert_eq!(serde_json::from_str::<Thing>(odd).unwrap().pid, 7, "{odd}");
        }
        assert_eq!(serde_json::from_str::<Thing>(r#"{"pid":-1}"#).unwrap().pid, 0);
    }
}
