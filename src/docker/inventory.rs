//! Which containers there are, from the engine's list and events, kept for everybody in a watch.
//!
//! A session with the engine: connect, take everything by list and inspect, then follow events; each event asks for the container that it names, so an
//! event that comes twice or late does no harm. The list is looked at every minute besides. When the session ends, for whatever reason, what is known stays
//! as it is (the containers run on without their engine), the part `docker` says why, and the next session takes everything anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::answers::{EngineInfo, Inspected, ListedContainer};
use super::api::Engine;
use super::backoff::Backoff;
use super::container::{Container, Labelling};
use super::error::EngineError;
use super::time;
use crate::logs::ContainerId;
use crate::telemetry::{Metrics, Part, Parts};

/// How many containers are inspected at once.
const INSPECTS_AT_ONCE: usize = 4;
/// How many events are taken together before their containers are inspected.
const LARGEST_BATCH: usize = 256;
/// The states that the metric tells apart.
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// The containers of this node at one moment.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// The engine and its node; `None` until it was reached for the first time.
    pub engine: Option<EngineInfo>,
    /// When the inventory was last known to be right; `None` until it was for the first time.
    pub synced_at: Option<SystemTime>,
    /// The containers, in whatever state.
    pub containers: BTreeMap<ContainerId, Arc<Container>>,
}

/// How patient the task is.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// For one call to the engine; whole seconds.
    pub call: Duration,
    /// Before the first attempt to reconnect.
    pub first_retry: Duration,
    /// Before any attempt to reconnect.
    pub longest_retry: Duration,
    /// Between two looks at the list while events flow.
    pub verify: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(10),
            first_retry: Duration::from_millis(500),
            longest_retry: Duration::from_secs(15),
            verify: Duration::from_secs(60),
        }
    }
}

/// Keeps the inventory. One for each agent.
#[derive(Debug)]
pub struct InventoryTask {
    host: String,
    labelling: Labelling,
    part: Part,
    metrics: Metrics,
    timing: Timing,
    publish: watch::Sender<Arc<Inventory>>,
    known: Inventory,
    /// Containers of which only the list's entry is known, because inspect failed.
    partial: BTreeSet<ContainerId>,
    /// The node that every label names; an engine of another is not this node's.
    node: Option<String>,
}

impl InventoryTask {
    /// The task, and the watch that it feeds; the watch holds an empty inventory until the first synchronisation.
    #[must_use]
    pub fn new(host: String, labelling: Labelling, parts: &Parts, metrics: Metrics) -> (Self, watch::Receiver<Arc<Inventory>>) {
        let (publish, inventory) = watch::channel(Arc::new(Inventory::default()));
        let part = parts.part("docker");
        let (known, partial, timing) = (Inventory::default(), BTreeSet::new(), Timing::default());
        (Self { host, labelling, part, metrics, timing, publish, known, partial, node: None }, inventory)
    }

    /// The same task, which says in its part when the engine is of another node than `node` (an id in the Swarm). The agent decides who it is once, maybe
    /// before the engine answers. What such an engine tells is published all the same: it runs here, or somebody wanted it so.
    #[must_use]
    pub fn expecting_node(mut self, node: Option<String>) -> Self {
        self.node = node;
        self
    }

    /// The same task with other limits.
    #[must_use]
    pub const fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut backoff = Backoff::new(self.timing.first_retry, self.timing.longest_retry);
        loop {
            let before = self.known.synced_at;
            let error = tokio::select! {
                () = shutdown.cancelled() => return,
                error = self.session() => error,
            };
            self.count(&error);
            self.part.degraded(error.to_string());
            if self.known.synced_at != before {
                backoff.reset();
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(backoff.wait()) => {}
            }
        }
    }

    /// One connection's worth. Comes back with what ended it.
    async fn session(&mut self) -> EngineError {
        match self.follow().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn follow(&mut self) -> Result<std::convert::Infallible, EngineError> {
        let engine = Engine::connect_within(&self.host, self.timing.call).await?;
        let info = engine.info().await?;
        // What happens while the list is being taken is told once more by the events: they begin before it, by the engine's own clock.
        let since = info.system_time.map(|now| now - 1_000_000_000);
        self.known.engine = Some(info);
        self.resync(&engine).await?;
        self.tell_part();
        let mut events = engine.events(since);
        let mut verify = tokio::time::interval(self.timing.verify);
        verify.set_missed_tick_behavior(MissedTickBehavior::Delay);
        verify.reset();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                _ = verify.tick() => {
                    self.verify(&engine).await?;
                    self.tell_part();
                    continue;
                }
            };
            let mut next = Some(event);
            let mut touched = BTreeSet::new();
            let mut odd = false;
            // Containers come and go in bursts: what is there already is taken together, and each container is asked for once.
            while let Some(event) = next {
                match event {
                    Some(Ok(event)) => {
                        self.metrics.docker_events.inc();
                        match ContainerId::new(&event.id) {
                            Some(id) => drop(touched.insert(id)),
                            None => odd = true,
                        }
                    }
                    Some(Err(error)) if error.is_garbled() => {
                        self.count(&error);
                        odd = true;
                    }
                    Some(Err(error)) => return Err(error),
                    None => return Err(engine.ended("events")),
                }
                next = if touched.len() < LARGEST_BATCH { events.next().now_or_never() } else { None };
            }
            if odd {
                self.resync(&engine).await?;
            } else {
                self.refresh(&engine, touched.into_iter().map(|id| (id, None))).await?;
                self.publish();
            }
        }
    }

    /// Takes everything anew.
    async fn resync(&mut self, engine: &Engine) -> Result<(), EngineError> {
        self.metrics.docker_resyncs.inc();
        let listed = self.list(engine).await?;
        self.known.containers.retain(|id, _| listed.contains_key(id));
        self.refresh(engine, listed.into_iter().map(|(id, entry)| (id, Some(entry)))).await?;
        self.synced();
        Ok(())
    }

    /// Compares what is known with the list, and asks for what differs.
    async fn verify(&mut self, engine: &Engine) -> Result<(), EngineError> {
        self.known.engine = Some(engine.info().await?);
        let mut listed = self.list(engine).await?;
        self.known.containers.retain(|id, _| listed.contains_key(id));
        let (known, partial) = (&self.known.containers, &self.partial);
        listed.retain(|id, entry| partial.contains(id) || known.get(id).is_none_or(|container| differs(container, entry)));
        self.refresh(engine, listed.into_iter().map(|(id, entry)| (id, Some(entry)))).await?;
        self.synced();
        Ok(())
    }

    async fn list(&self, engine: &Engine) -> Result<BTreeMap<ContainerId, ListedContainer>, EngineError> {
        let listed = engine.list().await?;
        let mut containers = BTreeMap::new();
        let mut odd = listed.odd;
        for entry in listed.containers {
            match ContainerId::new(&entry.id) {
                Some(id) => drop(containers.insert(id, entry)),
                None => odd += 1,
            }
        }
        if odd > 0 {
            self.metrics.docker_errors.with_label_values(&["list_entry"]).inc_by(odd);
        }
        Ok(containers)
    }

    /// Inspects containers. One that cannot be inspected (an engine can hang on a single container) is known as the list tells it, or as it was.
    async fn refresh(
        &mut self,
        engine: &Engine,
        containers: impl Iterator<Item = (ContainerId, Option<ListedContainer>)>,
    ) -> Result<(), EngineError> {
        let mut answers = futures_util::stream::iter(containers)
            .map(|(id, entry)| async move {
                let answer = engine.inspect(id.as_str()).await;
                (id, entry, answer)
            })
            .buffer_unordered(INSPECTS_AT_ONCE);
        while let Some((id, entry, answer)) = answers.next().await {
            let told = match answer {
                Ok(told) => {
                    self.partial.remove(&id);
                    Some(told)
                }
                Err(error) if error.is_gone() => {
                    self.partial.remove(&id);
                    self.known.containers.remove(&id);
                    None
                }
                Err(error) if error.is_about_one() => {
                    self.count(&error);
                    self.partial.insert(id.clone());
                    entry.map(Inspected::from)
                }
                Err(error) => return Err(error),
            };
            if let Some(container) = told.and_then(|told| self.labelling.container(told)) {
                // The same state keeps its Arc: who holds one knows by it that nothing changed.
                if self.known.containers.get(&id).is_none_or(|known| **known != container) {
                    self.known.containers.insert(id, Arc::new(container));
                }
            }
        }
        Ok(())
    }

    /// The engine answers: whether it is the right one.
    fn tell_part(&self) {
        let said = self.known.engine.as_ref().and_then(|engine| engine.node_id.as_deref());
        match (&self.node, said) {
            (Some(expected), Some(said)) if said != expected => self.part.degraded(format!(
                "the engine at {} is node '{said}', but every label says node '{expected}': mount this node's engine, tell the right --node-id, or restart \
                 skep if this node has joined its Swarm anew",
                self.host
            )),
            _ => self.part.ok(),
        }
    }

    fn synced(&mut self) {
        let now = SystemTime::now();
        self.known.synced_at = Some(now);
        self.partial.retain(|id| self.known.containers.contains_key(id));
        self.metrics.docker_inventory_time.with_label_values::<&str>(&[]).set(time::of(now));
        self.publish();
    }

    fn publish(&self) {
        let mut counts = [0i64; STATES.len()];
        let mut other = 0;
        for container in self.known.containers.values() {
            let index = STATES.iter().position(|state| *state == container.state);
            match index.and_then(|index| counts.get_mut(index)) {
                Some(count) => *count += 1,
                None => other += 1,
            }
        }
        for (state, count) in STATES.iter().copied().zip(counts).chain([("other", other)]) {
            self.metrics.docker_containers.with_label_values(&[state]).set(count);
        }
        self.publish.send_replace(Arc::new(self.known.clone()));
    }

    fn count(&self, error: &EngineError) {
        self.metrics.docker_errors.with_label_values(&[error.call()]).inc();
    }
}

/// Whether the list says another thing than is known. A restart between two looks does not show here; the events tell it.
fn differs(known: &Container, listed: &ListedContainer) -> bool {
    known.state != listed.state || listed.name().is_some_and(|name| name != known.name) || known.health.as_deref() != listed.health()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_tells_health_in_its_status() {
        let entry = |status: &str| ListedContainer { status: status.to_owned(), ..ListedContainer::default() };
        assert_eq!(entry("Up 3 minutes (healthy)").health(), Some("healthy"));
        assert_eq!(entry("Up 3 minutes (unhealthy)").health(), Some("unhealthy"));
        assert_eq!(entry("Up 1 second (health: starting)").health(), Some("starting"));
        assert_eq!(entry("Up 3 minutes (Paused)").health(), None);
        assert_eq!(entry("Exited (137) 8 seconds ago").health(), None);
    }
}
