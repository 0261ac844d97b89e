//! How large a container's writable layer is, by the engine's own count.
//!
//! The engine counts when it is asked: it walks the layer's directory, which may take many seconds, so that nobody asks for more than one container at a time.
//! The list filtered by an id counts for that container only, as inspect does, and takes no lock of the container (`daemon/list.go` of moby works on a copy).
//!
//! What is counted differs: overlay2 tells the lengths of the files, the containerd store the blocks that they take, directories too.

use serde::Deserialize;

use super::api::{Engine, escaped};
use super::error::EngineError;
use super::json::lenient;

/// What the list tells of sizes. Go leaves out what is 0.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SizeAnswer {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "SizeRw", deserialize_with = "lenient")]
    layer: Option<i64>,
    #[serde(rename = "SizeRootFs", deserialize_with = "lenient")]
    whole: Option<i64>,
}

impl SizeAnswer {
    /// The layer's bytes. An engine that could not count says -1. One that was not asked for sizes (a proxy may drop the wish) tells neither size.
    fn bytes(&self) -> Option<u64> {
        match (self.layer, self.whole) {
            (Some(bytes), _) => u64::try_from(bytes).ok(),
            (None, Some(whole)) if whole > 0 => Some(0),
            _ => None,
        }
    }
}

impl Engine {
    /// Bytes in the writable layer of a container. `None` when there is no such container any more.
    ///
    /// # Errors
    /// [`EngineError`], also when the engine answers and tells no size.
    pub async fn layer_size(&self, id: &str) -> Result<Option<u64>, EngineError> {
        let filters = format!("{{\"id\":[\"{id}\"]}}");
        let answer: Vec<SizeAnswer> = self.get("size", &format!("/containers/json?all=1&size=1&filters={}", escaped(&filters))).await?;
        match answer.iter().find(|entry| entry.id == id) {
            Some(entry) => entry.bytes().map(Some).ok_or_else(|| self.garbled("size", &"it tells no size")),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_engines_tell_them() {
        for (answer, bytes) in [
            (r#"{"Id":"a","SizeRw":4096,"SizeRootFs":2023424}"#, Some(4096)),
            (r#"{"Id":"a","SizeRootFs":2023424}"#, Some(0)),
            (r#"{"Id":"a","SizeRw":-1,"SizeRootFs":-1}"#, None),
            (r#"{"Id":"a","SizeRw":"much"}"#, None),
            (r#"{"Id":"a"}"#, None),
        ] {
            assert_eq!(serde_json::from_str::<SizeAnswer>(answer).unwrap().bytes(), bytes, "{answer}");
        }
    }
}
