//! Which containers there are, from the engine's list and events, kept for everybody in a watch.
//!
//! A session with the engine: connect, take the list, then follow events. Who a container is, and in which state, is told by the list and the events and
//! is in force at once; inspect is asked beside that for what it alone knows, once for each burst of events of a container ([`Inspects`]). An answer that
//! never comes, or is garbage, costs what inspect alone knows, never a name. The list is looked at every minute besides. When the session ends, for whatever
//! reason, what is known stays as it is (the containers run on without their engine), the part `docker` says why, and the next session takes everything anew.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::answers::{EngineInfo, ListedContainer};
use super::api::Engine;
use super::backoff::Backoff;
use super::container::{Container, Labelling};
use super::error::EngineError;
use super::events::{ContainerEvent, Events};
use super::inspected::Inspected;
use super::inspects::Inspects;
use super::known::{self, Ask, Change};
use super::time;
use crate::host::sys::give_back_heap;
use crate::logs::ContainerId;
use crate::telemetry::{Metrics, Part, Parts};

/// How many containers are inspected at once.
const INSPECTS_AT_ONCE: usize = 4;
/// How many events are taken together before anything else is done.
const LARGEST_BATCH: usize = 256;
/// How many times [`Timing::settle`] passes before a container is asked for of which more is about to be told.
const LATER: u32 = 5;
/// How much longer than for an engine is waited for one container that cannot be inspected.
const PATIENCE_WITH_ONE: u32 = 4;
/// While the engine tells of all its containers, what is known is published this often at most.
const BETWEEN_PUBLICATIONS: Duration = Duration::from_millis(250);
/// The network by which tasks reach the world beside their overlay networks; inspect never tells it.
const GATEWAY_BRIDGE: &str = "docker_gwbridge";
/// The states that the metric tells apart.
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// The containers of this node at one moment.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// The engine and its node; `None` until it was reached for the first time.
    pub engine: Option<EngineInfo>,
    /// When the inventory was last known to be right; `None` until it was for the first time.
    pub synced_at: Option<SystemTime>,
    /// The subnet of `docker_gwbridge`, where there is one: its address, and how many bits of it count.
    pub gateway_bridge: Option<(Ipv4Addr, u8)>,
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
    /// Between two questions whether the engine answers at all: an engine that hangs ends no stream of events.
    pub pulse: Duration,
    /// Between an event and the inspect that it asks for: what follows at once (an end and a removal, a stop and a start) needs one, or none.
    pub settle: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(10),
            first_retry: Duration::from_millis(500),
            longest_retry: Duration::from_secs(15),
            verify: Duration::from_secs(60),
            pulse: Duration::from_secs(15),
            settle: Duration::from_millis(200),
        }
    }
}

/// Who is told every event, beside the inventory. It must not wait.
pub trait Witness: std::fmt::Debug + Send + Sync {
    /// A session begins: from which time on events are wanted, nanoseconds since the epoch by the engine's clock, which says `now`. Those from before the last
    /// one that was told come again.
    fn since(&self, now: i64) -> i64;

    /// An event, which may have been told before. `labelling` makes the labels of a container that the event tells of.
    fn event(&self, event: &ContainerEvent, labelling: &Labelling);
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
    inspects: Inspects,
    /// Containers of the last list of which inspect has yet to say something; without any, what is known is what the engine knows.
    fresh: BTreeSet<ContainerId>,
    /// When that list was taken, until it was gone through.
    listed_at: Option<SystemTime>,
    /// The engine's clock at a moment of this process's: what an event tells that is older than a list is in the list.
    clock: Option<(i64, Instant)>,
    list_clock: Option<i64>,
    /// Whether more is known than was published.
    dirty: bool,
    published_at: Option<Instant>,
    /// The node that every label names; an engine of another is not this node's.
    node: Option<String>,
    witness: Option<Arc<dyn Witness>>,
}

/// A container, and what inspect answered.
type Answer = (ContainerId, Result<Inspected, EngineError>);
type Answers = FuturesUnordered<Pin<Box<dyn Future<Output = Answer> + Send>>>;

/// Asks now and again whether the engine answers, and comes back when it does not. No call takes a lock of the engine's, so that one which is slow with a
/// container is not taken for one that hangs.
async fn silence(engine: &Engine, pulse: Duration) -> EngineError {
    loop {
        tokio::time::sleep(pulse).await;
        if let Err(error) = engine.ping().await {
            return error;
        }
    }
}

impl InventoryTask {
    /// The task, and the watch that it feeds; the watch holds an empty inventory until the first synchronisation.
    #[must_use]
    pub fn new(host: String, labelling: Labelling, parts: &Parts, metrics: Metrics) -> (Self, watch::Receiver<Arc<Inventory>>) {
        let (publish, inventory) = watch::channel(Arc::new(Inventory::default()));
        let task = Self {
            host,
            labelling,
            part: parts.part("docker"),
            metrics,
            timing: Timing::default(),
            publish,
            known: Inventory::default(),
            inspects: Inspects::default(),
            fresh: BTreeSet::new(),
            listed_at: None,
            clock: None,
            list_clock: None,
            dirty: false,
            published_at: None,
            node: None,
            witness: None,
        };
        (task, inventory)
    }

    /// The same task, which says in its part when the engine is of another node than `node` (an id in the Swarm). The agent decides who it is once, maybe
    /// before the engine answers. What such an engine tells is published all the same: it runs here, or somebody wanted it so.
    #[must_use]
    pub fn expecting_node(mut self, node: Option<String>) -> Self {
        self.node = node;
        self
    }

    /// The same task, which tells `witness` every event.
    #[must_use]
    pub fn with_witness(mut self, witness: Arc<dyn Witness>) -> Self {
        self.witness = Some(witness);
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
        let error = match self.follow().await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        // What was told before the end is in force.
        if self.dirty {
            self.publish();
        }
        error
    }

    async fn follow(&mut self) -> Result<std::convert::Infallible, EngineError> {
        self.inspects.ground();
        let engine = Engine::connect_within(&self.host, self.timing.call).await?;
        self.tell_engine(engine.info().await?);
        // What happens while the list is being taken is told once more by the events: they begin before it, by the engine's own clock.
        let before = |now: i64| self.witness.as_ref().map_or(now, |witness| witness.since(now).min(now)).saturating_sub(1_000_000_000);
        let since = self.clock.map(|(now, _)| before(now));
        self.resync(&engine).await?;
        self.tell_part();
        let mut events = engine.events(since);
        let mut answers = Answers::new();
        let mut verify = tokio::time::interval(self.timing.verify);
        verify.set_missed_tick_behavior(MissedTickBehavior::Delay);
        verify.reset();
        let mut silence = std::pin::pin!(silence(&engine, self.timing.pulse));
        loop {
            self.inspect(&engine, &mut answers);
            let wake = self.wakes_at(answers.len());
            tokio::select! {
                event = events.next() => {
                    if self.burst(&engine, event, &mut events)? {
                        self.resync(&engine).await?;
                    }
                }
                error = &mut silence => return Err(error),
                Some((id, answer)) = answers.next(), if !answers.is_empty() => self.answered(&id, answer)?,
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                _ = verify.tick() => {
                    self.tell_engine(engine.info().await?);
                    self.verify(&engine).await?;
                    self.tell_part();
                }
            }
            self.settle();
        }
    }

    /// What the engine says of itself, and what its clock shows.
    fn tell_engine(&mut self, info: EngineInfo) {
        self.clock = info.system_time.map(|now| (now, Instant::now()));
        self.known.engine = Some(info);
    }

    /// What the engine's clock shows now, at least.
    fn engine_now(&self) -> Option<i64> {
        let (then, at) = self.clock?;
        i64::try_from(at.elapsed().as_nanos()).ok().and_then(|passed| then.checked_add(passed))
    }

    /// Takes an event, and what is there already besides: containers come and go in bursts. Says whether something was told that cannot be understood, and
    /// is known from the list only.
    fn burst(
        &mut self,
        engine: &Engine,
        first: Option<Result<ContainerEvent, EngineError>>,
        events: &mut Events,
    ) -> Result<bool, EngineError> {
        let (mut odd, mut taken) = (false, 0);
        let mut next = Some(first);
        while let Some(event) = next {
            match event {
                Some(Ok(event)) => {
                    self.metrics.docker_events.inc();
                    if let Some(witness) = &self.witness {
                        witness.event(&event, &self.labelling);
                    }
                    match ContainerId::new(&event.id) {
                        Some(id) => self.happened(&id, &event),
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
            taken += 1;
            next = if taken < LARGEST_BATCH { events.next().now_or_never() } else { None };
        }
        Ok(odd)
    }

    /// The one place where what happened to a container is taken in.
    fn happened(&mut self, id: &ContainerId, event: &ContainerEvent) {
        // It happened before the list was taken: the list has it, and what came after. It is asked for all the same, for the engine's clock may have been set back.
        if self.list_clock.is_some_and(|listed| event.time_nano <= listed) {
            match (self.known.containers.contains_key(id), &*event.action) {
                (true, _) | (false, "create" | "start") => self.inspects.ask(id, Instant::now()),
                (false, "destroy") => self.inspects.forget(id),
                (false, _) => {}
            }
            return;
        }
        let (change, ask) = known::after(self.known.containers.get(id).map(|known| &**known), event, &self.labelling);
        match change {
            Change::Nothing => {}
            Change::To(container) => {
                self.put(id, *container);
                self.inspects.outdate(id);
            }
            Change::Gone => return self.remove(id),
        }
        match ask {
            Ask::Never => {}
            Ask::Soon => self.inspects.ask(id, Instant::now() + self.timing.settle),
            Ask::Later => self.inspects.ask(id, Instant::now() + self.timing.settle * LATER),
        }
    }

    /// Takes everything anew.
    async fn resync(&mut self, engine: &Engine) -> Result<(), EngineError> {
        self.metrics.docker_resyncs.inc();
        self.take_list(engine, |_, _| true).await
    }

    /// Compares what is known with the list, and asks for what differs.
    async fn verify(&mut self, engine: &Engine) -> Result<(), EngineError> {
        self.take_list(engine, |known, entry| known.is_none_or(|known| known::differs(known, entry))).await
    }

    /// Takes the list. What it tells is in force; of those that `is_news` inspect is asked.
    async fn take_list(&mut self, engine: &Engine, is_news: fn(Option<&Container>, &ListedContainer) -> bool) -> Result<(), EngineError> {
        let (listed_at, list_clock) = (SystemTime::now(), self.engine_now());
        let listed = self.list(engine).await?;
        (self.listed_at, self.list_clock) = (Some(listed_at), list_clock);
        let gone: Vec<ContainerId> = self.known.containers.keys().filter(|id| !listed.contains_key(id)).cloned().collect();
        for id in &gone {
            self.remove(id);
        }
        let now = Instant::now();
        for (id, entry) in listed {
            let known = self.known.containers.get(&id).map(|known| &**known);
            if is_news(known, &entry) {
                if let Some(container) = known::listed(known, entry, &self.labelling) {
                    self.put(&id, container);
                }
                self.fresh.insert(id.clone());
                self.inspects.ask(&id, now);
            }
        }
        self.publish();
        self.find_gateway_bridge(engine).await;
        self.settle();
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

    /// A node of a Swarm has the bridge; its subnet is asked for once. Without an answer its interfaces have no network's name, which costs nothing else.
    async fn find_gateway_bridge(&mut self, engine: &Engine) {
        let in_swarm = self.known.engine.as_ref().is_some_and(|engine| engine.node_id.is_some());
        if !in_swarm {
            self.known.gateway_bridge = None;
        } else if self.known.gateway_bridge.is_none() {
            match engine.subnet(GATEWAY_BRIDGE).await {
                Ok(subnet) => {
                    self.known.gateway_bridge = subnet;
                    self.dirty |= subnet.is_some();
                }
                Err(error) if error.is_gone() => {}
                Err(error) => self.count(&error),
            }
        }
    }

    /// Asks for the containers whose time has come, a few at once.
    fn inspect(&mut self, engine: &Engine, answers: &mut Answers) {
        while answers.len() < INSPECTS_AT_ONCE {
            let Some(id) = self.inspects.take(Instant::now()) else { return };
            self.metrics.docker_inspects.inc();
            let engine = engine.clone();
            answers.push(Box::pin(async move {
                let answer = engine.inspect(id.as_str()).await;
                (id, answer)
            }));
        }
    }

    /// When there is something to do though nothing is told.
    fn wakes_at(&self, under_way: usize) -> Option<Instant> {
        let ask = self.inspects.next_at().filter(|_| under_way < INSPECTS_AT_ONCE);
        let publish = self.published_at.filter(|_| self.dirty).map(|at| at + BETWEEN_PUBLICATIONS);
        ask.into_iter().chain(publish).min()
    }

    /// One that cannot be inspected (an engine can hang on a single container) is known as the list and the events tell it, or as it was.
    fn answered(&mut self, id: &ContainerId, answer: Result<Inspected, EngineError>) -> Result<(), EngineError> {
        match answer {
            Ok(told) => {
                if !self.inspects.answered(id, Instant::now()) {
                    return Ok(());
                }
                let known = self.known.containers.get(id).map(|known| &**known);
                if let Some(container) = known::inspected(known, told, &self.labelling) {
                    self.put(id, container);
                }
            }
            Err(error) if error.is_gone() => self.remove(id),
            Err(error) if error.is_about_one() => {
                self.count(&error);
                let (first, longest) = (self.timing.first_retry, self.timing.longest_retry * PATIENCE_WITH_ONE);
                self.inspects.failed(id, Instant::now(), first, longest);
            }
            Err(error) => return Err(error),
        }
        self.fresh.remove(id);
        Ok(())
    }

    fn put(&mut self, id: &ContainerId, mut container: Container) {
        // The same state keeps its Arc: who holds one knows by it that nothing changed.
        if self.known.containers.get(id).is_none_or(|known| **known != container) {
            // One text of the id for all who know the container by it.
            container.id = self.known.containers.get_key_value(id).map_or(id, |(id, _)| id).clone();
            self.known.containers.insert(container.id.clone(), Arc::new(container));
            self.dirty = true;
        }
    }

    fn remove(&mut self, id: &ContainerId) {
        self.dirty |= self.known.containers.remove(id).is_some();
        self.fresh.remove(id);
        self.inspects.forget(id);
    }

    /// Whether all is known that the list named; and publishes what is known.
    fn settle(&mut self) {
        self.metrics.docker_containers_incomplete.set(i64::try_from(self.inspects.failing()).unwrap_or(i64::MAX));
        let read_at = if self.fresh.is_empty() { self.listed_at.take() } else { None };
        if let Some(at) = read_at {
            self.known.synced_at = Some(at);
            self.metrics.docker_inventory_time.with_label_values::<&str>(&[]).set(time::of(at));
            self.dirty = true;
        }
        let is_time = self.fresh.is_empty() || self.published_at.is_none_or(|at| at.elapsed() >= BETWEEN_PUBLICATIONS);
        if self.dirty && is_time {
            self.publish();
        }
        if read_at.is_some() {
            // The list, and the answers of a thousand inspects, are megabytes, which lie below what is kept of them.
            give_back_heap();
        }
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

    fn publish(&mut self) {
        (self.dirty, self.published_at) = (false, Some(Instant::now()));
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
