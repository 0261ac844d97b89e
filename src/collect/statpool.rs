//! statvfs(2) on threads of its own, for a mount whose server is gone answers never, and no signal and no time limit ends the call.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a file system says of itself, in bytes and file nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) size: u64,
    pub(super) free: u64,
    pub(super) avail: u64,
    pub(super) files: u64,
    pub(super) files_free: u64,
}

/// A question: a directory, and whether somebody else than this kernel answers.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// No other question of a round has this path: two of one mount would hang together.
    pub(super) path: Arc<Path>,
    pub(super) may_hang: bool,
    /// Whether it is asked by the caller's own thread: the file system answers at once, and so do all on the way to it.
    pub(super) at_once: bool,
    /// Who answers, as far as the mount tells: `server` of `server:/export`. What one and the same has is asked in turn with what others have.
    pub(super) peer: Arc<[u8]>,
}

/// What became of a question.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The kernel answered.
    Answered(io::Result<Figures>),
    /// No answer came in time, now or at an earlier scrape whose call still hangs.
    Hangs,
    /// It was not asked, for too many others hang.
    Refused,
}

type Stat = Arc<dyn Fn(&Path) -> io::Result<Figures> + Send + Sync>;

/// So many threads may hang, each of which counts as one in the load average: what others than this kernel answer is not asked any more when this number is
/// reached,
const MOST_LOST: usize = 16;
/// or this, where it answered last time.
const MOST_LOST_GOOD: usize = 24;
/// The pool never has more threads than these and its workers, so that what this kernel answers is asked also when all others hang.
const MOST_ADDED: usize = 32;
/// How long the workers may be busy with what is before in the queue until another worker is started. A machine where everything answers has one.
/// A worker that is busy for longer with what may hang is taken as hanging already, and does not count as one: a dead server keeps nobody waiting.
const PATIENCE: Duration = Duration::from_millis(20);
/// statvfs needs next to nothing.
const STACK: usize = 128 << 10;

/// The pool. What hangs is known by its path and not asked again while its call is under way, so a mount costs one thread at the most.
pub(super) struct Pool {
    shared: Arc<Shared>,
    answers: Receiver<Answer>,
    answer: Sender<Answer>,
    stat: Stat,
    workers: usize,
    patience: Duration,
    alive: usize,
    next_worker: u64,
    next_ticket: u64,
    /// What answered when it was last asked: this comes first, so that what hangs never stands before it.
    good: HashSet<Arc<Path>>,
}

struct Answer {
    ticket: u64,
    result: io::Result<Figures>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    running: Vec<Running>,
    /// Workers that were given up, and what they hang at, by ticket: they end when their call comes back.
    retired: HashSet<u64>,
    lost: HashMap<u64, Arc<Path>>,
    closed: bool,
}

impl State {
    /// Takes the next question. What may hang is not begun while as many threads as may be lost are lost or could be.
    fn take(&mut self) -> Option<Job> {
        let at_risk = self.lost.len() + self.running.iter().filter(|running| running.may_hang).count();
        let next = self.queue.iter().position(|job| job.most_lost.is_none_or(|most| at_risk < most))?;
        self.queue.remove(next)
    }
}

struct Job {
    ticket: u64,
    path: Arc<Path>,
    /// With how many threads lost it is not asked any more.
    most_lost: Option<usize>,
}

struct Running {
    worker: u64,
    ticket: u64,
    path: Arc<Path>,
    may_hang: bool,
    since: Instant,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.wake.notify_all();
    }
}

impl Pool {
    /// A pool of at most `workers` threads, started when they are needed, that asks by `stat`.
    pub(super) fn new(workers: usize, stat: Stat) -> Self {
        let (answer, answers) = channel();
        Self {
            shared: Arc::new(Shared { state: Mutex::default(), wake: Condvar::new() }),
            answers,
            answer,
            stat,
            workers,
            patience: PATIENCE,
            alive: 0,
            next_worker: 0,
            next_ticket: 0,
            good: HashSet::new(),
        }
    }

    /// Asks them all, and waits for each at most `timeout`, for all together a fifth more.
    pub(super) fn ask(&mut self, asks: &[Ask], timeout: Duration) -> Vec<Outcome> {
        // Late answers to earlier rounds: nobody wants them any more.
        while self.answers.try_recv().is_ok() {}
        let mut round = Round { first: self.next_ticket, asked: Vec::new(), outcomes: asks.iter().map(|_| None).collect(), open: 0 };
        self.enqueue(asks, &mut round);
        let end = Instant::now() + timeout + timeout / 5;
        if round.open > 0 {
            if self.alive == 0 {
                self.start_worker();
            }
            self.shared.wake.notify_all();
            self.give_up_if_alone(&mut round);
        }
        for (ask, outcome) in asks.iter().zip(&mut round.outcomes).filter(|(ask, _)| ask.at_once) {
            *outcome = Some(Outcome::Answered((self.stat)(&ask.path)));
        }
        while round.open > 0 {
            match self.answers.recv_timeout(self.wait(timeout, end)) {
                Ok(Answer { ticket, result }) => round.settle(ticket, Outcome::Answered(result)),
                Err(RecvTimeoutError::Timeout) => self.look_after(&mut round, timeout, end),
                // Cannot be: the pool holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.good.clear();
        for (ask, outcome) in asks.iter().zip(&round.outcomes) {
            if matches!(outcome, Some(Outcome::Answered(_))) {
                self.good.insert(Arc::clone(&ask.path));
            }
        }
        round.outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::Refused)).collect()
    }

    /// Puts the questions into the queue: first what answered last time, then what did not or is new, and of both first what only this kernel answers. Of what
    /// others answer each server has its turn, so that the many mounts of one dead server do not use up all the threads that may hang before another server
    /// was asked at all.
    fn enqueue(&mut self, asks: &[Ask], round: &mut Round) {
        let mut turns: HashMap<(bool, &[u8]), usize> = HashMap::new();
        let mut order: Vec<(usize, usize, usize)> = Vec::with_capacity(asks.len());
        for (index, ask) in asks.iter().enumerate().filter(|(_, ask)| !ask.at_once) {
            let good = self.good.contains(&ask.path);
            let mut turn = 0;
            if ask.may_hang {
                let next = turns.entry((good, &ask.peer)).or_default();
                turn = *next;
                *next += 1;
            }
            order.push((usize::from(!good) * 2 + usize::from(ask.may_hang), turn, index));
        }
        order.sort_unstable();
        let mut state = self.shared.state();
        for (class, _, index) in order {
            let Some(ask) = asks.get(index) else { continue };
            let most_lost = ask.may_hang.then_some(if class == 1 { MOST_LOST_GOOD } else { MOST_LOST });
            let outcome = if state.lost.values().any(|path| *path == ask.path) {
                Outcome::Hangs
            } else if most_lost.is_some_and(|most| state.lost.len() >= most) {
                Outcome::Refused
            } else {
                state.queue.push_back(Job { ticket: self.next_ticket, path: Arc::clone(&ask.path), most_lost });
                self.next_ticket += 1;
                round.asked.push(index);
                round.open += 1;
                continue;
            };
            if let Some(slot) = round.outcomes.get_mut(index) {
                *slot = Some(outcome);
            }
        }
    }

    /// How long to wait for an answer until something else is to be done.
    fn wait(&self, timeout: Duration, end: Instant) -> Duration {
        let state = self.shared.state();
        let now = Instant::now();
        let first = state.running.iter().map(|running| running.since + timeout).min();
        let until = first.unwrap_or(now + timeout).min(end).saturating_duration_since(now);
        if !state.queue.is_empty() && self.may_start(&state) { until.min(self.patience) } else { until }
    }

    /// Gives up what hangs, and starts a worker where the queue stands still.
    fn look_after(&mut self, round: &mut Round, timeout: Duration, end: Instant) {
        let now = Instant::now();
        let mut state = self.shared.state();
        let State { queue, running, retired, lost, .. } = &mut *state;
        running.retain(|job| {
            let hangs = now >= job.since + timeout || now >= end;
            if hangs {
                retired.insert(job.worker);
                self.alive = self.alive.saturating_sub(1);
                lost.insert(job.ticket, Arc::clone(&job.path));
                round.settle(job.ticket, Outcome::Hangs);
            }
            !hangs
        });
        queue.retain(|job| {
            let refused = now >= end || job.most_lost.is_some_and(|most| lost.len() >= most);
            if refused {
                round.settle(job.ticket, Outcome::Refused);
            }
            !refused
        });
        let waiting = !queue.is_empty();
        drop(state);
        if waiting {
            self.start_worker();
        }
        self.give_up_if_alone(round);
    }

    /// With no worker left, and none to be had, nobody will take what is in the queue.
    fn give_up_if_alone(&self, round: &mut Round) {
        if self.alive == 0 {
            for job in self.shared.state().queue.drain(..) {
                round.settle(job.ticket, Outcome::Refused);
            }
        }
    }

    fn may_start(&self, state: &State) -> bool {
        let stuck = state.running.iter().filter(|running| running.may_hang && running.since.elapsed() >= self.patience).count();
        self.alive < self.workers + stuck && self.alive + state.lost.len() < self.workers + MOST_ADDED
    }

    fn start_worker(&mut self) {
        if !self.may_start(&self.shared.state()) {
            return;
        }
        let worker = self.next_worker;
        self.next_worker += 1;
        let (shared, answer, stat) = (Arc::clone(&self.shared), self.answer.clone(), Arc::clone(&self.stat));
        let started =
            thread::Builder::new().name("statvfs".to_owned()).stack_size(STACK).spawn(move || work(worker, &shared, &answer, &stat));
        // Without a thread (a limit of the container) the mounts are told as refused.
        if started.is_ok() {
            self.alive += 1;
        }
    }
}

/// One call of [`Pool::ask`]: its tickets follow each other.
struct Round {
    first: u64,
    /// The index of the question of each ticket.
    asked: Vec<usize>,
    outcomes: Vec<Option<Outcome>>,
    open: usize,
}

impl Round {
    /// Keeps what became of a question. An answer that comes when it was given up already still counts.
    fn settle(&mut self, ticket: u64, outcome: Outcome) {
        let index = ticket.checked_sub(self.first).and_then(|index| usize::try_from(index).ok()).and_then(|index| self.asked.get(index));
        if let Some(slot) = index.and_then(|index| self.outcomes.get_mut(*index)) {
            if slot.is_none() {
                self.open -= 1;
            }
            *slot = Some(outcome);
        }
    }
}

/// A worker: takes what is next, until the pool is gone or it was itself given up while it hung.
fn work(me: u64, shared: &Shared, answer: &Sender<Answer>, stat: &Stat) {
    loop {
        let mut state = shared.state();
        let job = loop {
            if state.closed {
                return;
            }
            match state.take() {
                Some(job) => break job,
                None => state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        state.running.push(Running {
            worker: me,
            ticket: job.ticket,
            path: Arc::clone(&job.path),
            may_hang: job.most_lost.is_some(),
            since: Instant::now(),
        });
        drop(state);
        let result = stat(&job.path);
        let mut state = shared.state();
        state.running.retain(|running| running.worker != me);
        state.lost.remove(&job.ticket);
        let retired = state.retired.remove(&me);
        let waiting = !state.queue.is_empty();
        drop(state);
        if waiting {
            shared.wake.notify_all();
        }
        if answer.send(Answer { ticket: job.ticket, result }).is_err() || retired {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(500);
    const LONG: Duration = Duration::from_secs(60);

    /// Paths that begin with `/hung` answer only when the gate is opened.
    #[derive(Default)]
    struct Gate {
        open: Mutex<bool>,
        wake: Condvar,
        calls: Mutex<Vec<String>>,
    }

    fn pool(gate: &Arc<Gate>) -> Pool {
        let gate = Arc::clone(gate);
        Pool::new(
            4,
            Arc::new(move |path: &Path| {
                gate.calls.lock().unwrap().push(path.display().to_string());
                if path.starts_with("/hung") {
                    drop(gate.wake.wait_while(gate.open.lock().unwrap(), |open| !*open).unwrap());
                }
                if path.starts_with("/error") {
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
                Ok(Figures { size: 1, free: 1, avail: 1, files: 1, files_free: 1 })
            }),
        )
    }

    fn asks(paths: &[&str]) -> Vec<Ask> {
        paths
            .iter()
            .map(|path| Ask {
                path: Path::new(path).into(),
                may_hang: path.starts_with("/hung") || path.starts_with("/nfs"),
                at_once: path.starts_with("/once"),
                peer: path.as_bytes().get(..5).unwrap_or_default().into(),
            })
            .collect()
    }

    fn short(outcomes: &[Outcome]) -> String {
        let letter = |outcome: &Outcome| match outcome {
            Outcome::Answered(Ok(_)) => 'a',
            Outcome::Answered(Err(_)) => 'e',
            Outcome::Hangs => 'h',
            Outcome::Refused => 'r',
        };
        outcomes.iter().map(letter).collect()
    }

    #[test]
    fn where_everything_answers_there_is_one_worker() {
        let mut pool = pool(&Arc::default());
        pool.patience = LONG;
        assert_eq!(short(&pool.ask(&asks(&["/a", "/error", "/c"]), LONG)), "aea");
        assert_eq!(short(&pool.ask(&asks(&["/a", "/error", "/c"]), LONG)), "aea");
        assert_eq!(pool.alive, 1);
    }

    #[test]
    fn what_answers_at_once_needs_no_worker() {
        let mut pool = pool(&Arc::default());
        assert_eq!(short(&pool.ask(&asks(&["/once/a", "/once/b"]), LONG)), "aa");
        assert_eq!(pool.alive, 0);
        assert_eq!(short(&pool.ask(&asks(&["/once/a", "/hung/1", "/once/b", "/c"]), SHORT)), "ahaa");
    }

    #[test]
    fn what_hangs_costs_only_itself_and_is_asked_once() {
        let gate = Arc::default();
        let mut pool = pool(&gate);
        let all = asks(&["/hung/1", "/a", "/nfs", "/b"]);
        assert_eq!(short(&pool.ask(&all, SHORT)), "haaa");
        // The next time nobody waits for it, not even with a limit of a minute.
        assert_eq!(short(&pool.ask(&all, LONG)), "haaa");
        assert_eq!(gate.calls.lock().unwrap().iter().filter(|call| *call == "/hung/1").count(), 1);
        assert_eq!(pool.shared.state().lost.len(), 1);
    }

    #[test]
    fn what_answers_again_is_asked_again() {
        let gate = Arc::default();
        let mut pool = pool(&gate);
        let all = asks(&["/hung/1", "/a"]);
        assert_eq!(short(&pool.ask(&all, SHORT)), "ha");
        *gate.open.lock().unwrap() = true;
        gate.wake.notify_all();
        // The late answer comes by the same channel as every other, so waiting for it is waiting for the worker.
        pool.answers.recv_timeout(LONG).unwrap();
        assert_eq!(short(&pool.ask(&all, LONG)), "aa");
        assert_eq!(pool.shared.state().lost.len(), 0);
    }

    #[test]
    fn threads_are_bounded_however_many_hang() {
        let gate = Arc::default();
        let mut pool = pool(&gate);
        let mut paths: Vec<String> = (0..40).map(|index| format!("/hung/{index}")).collect();
        paths.insert(0, "/a".to_owned());
        paths.push("/b".to_owned());
        let all = asks(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        for _ in 0..3 {
            let outcomes = short(&pool.ask(&all, SHORT));
            assert!(outcomes.starts_with('a') && outcomes.ends_with('a'), "{outcomes}");
            assert_eq!(pool.shared.state().lost.len(), MOST_LOST);
            assert!(pool.alive <= 4, "{}", pool.alive);
        }
        assert_eq!(gate.calls.lock().unwrap().iter().filter(|call| call.starts_with("/hung")).count(), MOST_LOST);
    }

    /// A dead server with more mounts than threads may hang, and behind them in the table another server, whose mounts all answer at the first time.
    #[test]
    fn a_dead_server_does_not_keep_another_one_from_being_asked() {
        let gate = Arc::default();
        let mut pool = pool(&gate);
        let mut paths: Vec<String> = (0..40).map(|index| format!("/hung/{index}")).collect();
        paths.extend((0..5).map(|index| format!("/nfs/{index}")));
        let all = asks(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        for _ in 0..2 {
            let outcomes = short(&pool.ask(&all, SHORT));
            assert!(outcomes.ends_with("aaaaa"), "{outcomes}");
            assert_eq!(outcomes.matches('h').count(), MOST_LOST);
        }
    }
}
