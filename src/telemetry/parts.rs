//! The parts of the agent and how each of them is, for `/readyz`, `skep check`, the log and a metric.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It works.
    Ok,
    /// It does not work, or not wholly; the sentence says what is wrong and what would do. It goes on trying by itself.
    Degraded(String),
    /// It has begun and told nothing yet.
    Starting,
    /// It is not asked for, or this machine has no such thing.
    Off(String),
}

/// All parts. Cloning gives another handle on the same state.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    states: Arc<Mutex<BTreeMap<String, State>>>,
}

/// A handle with which one part tells how it is.
#[derive(Debug, Clone)]
pub struct Part {
    name: String,
    parts: Parts,
}

impl Parts {
    /// The handle of the part `name` (`docker`, `host.procfs`, `logs.state`, `route:es`). It has no state until it tells one.
    #[must_use]
    pub fn part(&self, name: &str) -> Part {
        Part { name: name.to_owned(), parts: self.clone() }
    }

    /// Every part with its state, by name.
    #[must_use]
    pub fn all(&self) -> Vec<(String, State)> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.iter().map(|(name, state)| (name.clone(), state.clone())).collect()
    }
}

impl Parts {
    /// Keeps a state. Gives the one before when it is another.
    fn keep(&self, name: &str, state: State) -> Option<Option<State>> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if states.get(name) == Some(&state) {
            return None;
        }
        Some(states.insert(name.to_owned(), state))
    }
}

impl Part {
    /// Tells that the part is there and will tell more: until then the agent is not ready.
    pub fn starting(&self) {
        let mut states = self.parts.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.entry(self.name.clone()).or_insert(State::Starting);
    }

    /// Tells that the part works.
    pub fn ok(&self) {
        self.tell(State::Ok);
    }

    /// Tells that the part does not work, in a sentence without secrets.
    pub fn degraded(&self, why: impl Into<String>) {
        self.tell(State::Degraded(why.into()));
    }

    /// Tells that the part is not asked for or not there.
    pub fn off(&self, why: impl Into<String>) {
        self.tell(State::Off(why.into()));
    }

    /// Tells that the part does without something that nobody asked for by name, and that should be known all the same: it is off, with a warning in the log.
    pub fn does_without(&self, why: impl Into<String>) {
        let why = why.into();
        if self.parts.keep(&self.name, State::Off(why.clone())).is_some() {
            tracing::warn!(part = &*self.name, "{why}");
        }
    }

    /// Keeps the state, and logs it once when it is another than before: nothing is repeated in the log while it lasts.
    fn tell(&self, state: State) {
        let Some(before) = self.parts.keep(&self.name, state.clone()) else { return };
        let part = &*self.name;
        match &state {
            State::Ok if matches!(before, Some(State::Degraded(_))) => tracing::info!(part, "works again"),
            State::Ok | State::Starting => tracing::debug!(part, "works"),
            State::Degraded(why) => tracing::warn!(part, "{why}"),
            State::Off(why) => tracing::info!(part, "off: {why}"),
        }
    }
}
