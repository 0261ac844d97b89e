//! What the processes of containers do: open files and sockets, threads by state, how long threads ran and waited.
//!
//! A container's processes are found by looking once a scrape through all of the host's, for all containers together: the cgroup's own list of them shows another
//! pid namespace's as 0 (v2) or not at all (v1). That is dear, and done only for the groups `process` and `sched`.

use std::collections::{BTreeMap, HashMap};

use super::groups::Groups;
use crate::cgroup::path::id_in;
use crate::collect::Pass;
use crate::host::parse::{fields, lines, text, unsigned};
use crate::logs::ContainerId;

/// States of threads in cAdvisor's words. How many wait for input or output it has from taskstats, which files do not tell.
pub(crate) const STATES: [&str; 4] = ["sleeping", "running", "stopped", "uninterruptible"];

/// The processes of one container.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Open files of all processes; `None` where one of them does not let its files be counted.
    pub(crate) files: Option<u64>,
    /// Those that are sockets; `None` where one of the files does not say what it is.
    pub(crate) sockets: Option<u64>,
    /// Threads by [`STATES`].
    pub(crate) states: Option<[u64; STATES.len()]>,
    /// Of all threads that were ever seen; `None` where the kernel does not count.
    pub(crate) schedule: Option<Schedule>,
    threads: HashMap<u32, Seen>,
    ended: Schedule,
    round: u32,
}

/// What a thread's `schedstat` says (`Documentation/scheduler/sched-stats.rst`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Nanoseconds on a CPU.
    pub(crate) ran: u64,
    /// Nanoseconds in a queue for one.
    pub(crate) waited: u64,
    /// How often it was put on a CPU.
    pub(crate) turns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    schedule: Schedule,
    round: u32,
}

impl Schedule {
    fn of(line: &[u8]) -> Option<Self> {
        let mut fields = fields(line.trim_ascii());
        let mut number = || unsigned(fields.next()?);
        Some(Self { ran: number()?, waited: number()?, turns: number()? })
    }

    const fn add(&mut self, other: Self) {
        self.ran = self.ran.saturating_add(other.ran);
        self.waited = self.waited.saturating_add(other.waited);
        self.turns = self.turns.saturating_add(other.turns);
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Activities {
    of: BTreeMap<ContainerId, Activity>,
    round: u32,
}

impl Activities {
    /// What is known of a container.
    pub(crate) fn get(&self, id: &ContainerId) -> Option<&Activity> {
        self.of.get(id).filter(|activity| activity.round == self.round)
    }

    /// Looks through the host's processes. `own` is skep's own container, where that is the root of the cgroup namespace that skep sees.
    pub(crate) fn read(
        &mut self,
        groups: Groups,
        own: Option<&ContainerId>,
        is_tracked: impl Fn(&ContainerId) -> bool,
        pass: &mut Pass<'_>,
    ) {
        self.round = self.round.wrapping_add(1);
        self.of.retain(|id, _| is_tracked(id));
        let pids = match pass.host.pids() {
            Ok(pids) => pids,
            Err(error) => return pass.odd(&error),
        };
        for pid in pids {
            // One that ended meanwhile is none.
            let Ok(bytes) = pass.host.process_file(pid, "cgroup") else { continue };
            let id = container_of(bytes).or_else(|| own.filter(|_| is_in_root(bytes)).cloned());
            let Some(id) = id.filter(&is_tracked) else { continue };
            let activity = self.of.entry(id).or_default();
            if activity.round != self.round {
                activity.begin(self.round, groups);
            }
            if groups.process {
                activity.count_files(pid, pass);
            }
            if groups.sched {
                activity.count_threads(pid, pass);
            }
        }
        let round = self.round;
        for activity in self.of.values_mut().filter(|activity| activity.round == round && groups.sched) {
            activity.end();
        }
    }
}

/// The container in whose cgroup a process is. Of a path that leads through several (an engine in a container) it is the outermost.
fn container_of(bytes: &[u8]) -> Option<ContainerId> {
    lines(bytes).find_map(|line| ContainerId::new(id_in(&text(line))?))
}

/// Whether a process is in the root of the cgroup namespace that skep sees. What is outside of it has `/..` for a path, so in a private namespace, the default of
/// cgroup v2, this is skep's own container.
pub(crate) fn is_in_root(cgroup: &[u8]) -> bool {
    lines(cgroup).next().is_some() && lines(cgroup).all(|line| line.ends_with(b":/"))
}

impl Activity {
    fn begin(&mut self, round: u32, groups: Groups) {
        self.round = round;
        (self.files, self.sockets) = if groups.process { (Some(0), Some(0)) } else { (None, None) };
        self.states = groups.sched.then_some([0; STATES.len()]);
    }

    /// A sum that lacks a part is no number.
    fn count_files(&mut self, pid: u32, pass: &mut Pass<'_>) {
        if self.files.is_none() {
            return;
        }
        match pass.host.open_files(pid) {
            Ok(open) => {
                self.files = self.files.map(|sum| sum + open.all);
                self.sockets = self.sockets.zip(open.sockets).map(|(sum, sockets)| sum + sockets);
            }
            Err(error) if error.is_absent() => {}
            // Which needs rights that skep need not have (docs/containers.md).
            Err(error) if error.source.kind() == std::io::ErrorKind::PermissionDenied => (self.files, self.sockets) = (None, None),
            Err(error) => {
                (self.files, self.sockets) = (None, None);
                pass.odd(&error);
            }
        }
    }

    fn count_threads(&mut self, pid: u32, pass: &mut Pass<'_>) {
        let threads = match pass.host.thread_ids(pid) {
            Ok(threads) => threads,
            Err(error) if error.is_absent() => return,
            Err(error) => return pass.odd(&error),
        };
        for thread in threads {
            match pass.host.task(pid, Some(thread)) {
                Ok(Some(task)) => {
                    if let Some(count) = state(task.state).and_then(|place| self.states.as_mut()?.get_mut(place)) {
                        *count += 1;
                    }
                }
                Err(error) if error.is_absent() => continue,
                Ok(None) => pass.odd(&format_args!("the state of thread {thread} of process {pid} cannot be understood")),
                Err(error) => pass.odd(&error),
            }
            // Absent too on a kernel that does not count.
            if let Ok(line) = pass.host.thread_schedstat(pid, thread) {
                match Schedule::of(line) {
                    Some(schedule) => self.note(thread, schedule),
                    None => pass.odd(&format_args!("schedstat of thread {thread} of process {pid} cannot be understood")),
                }
            }
        }
    }

    /// A thread that has run less than before is another one of the same number.
    fn note(&mut self, thread: u32, schedule: Schedule) {
        let seen = Seen { schedule, round: self.round };
        if let Some(before) = self.threads.insert(thread, seen)
            && before.schedule.ran > schedule.ran
        {
            self.ended.add(before.schedule);
        }
    }

    /// What ended threads had is kept, so that the sum never falls.
    fn end(&mut self) {
        let (round, ended) = (self.round, &mut self.ended);
        self.threads.retain(|_, seen| {
            if seen.round != round {
                ended.add(seen.schedule);
            }
            seen.round == round
        });
        let mut sum = self.ended;
        for seen in self.threads.values() {
            sum.add(seen.schedule);
        }
        self.schedule = (sum != Schedule::default()).then_some(sum);
    }
}

/// The place in [`STATES`] of a letter of proc_pid_stat(5). A thread that has ended and waits to be asked about it is in none.
const fn state(letter: u8) -> Option<usize> {
    match letter {
        b'S' | b'I' => Some(0),
        b'R' => Some(1),
        b'T' | b't' => Some(2),
        b'D' => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(ran: u64) -> Schedule {
        Schedule { ran, waited: ran * 2, turns: 1 }
    }

    #[test]
    fn a_sum_never_falls() {
        let mut activity = Activity::default();
        let mut scrape = |threads: &[(u32, u64)]| {
            activity.begin(activity.round + 1, Groups { sched: true, ..Groups::default() });
            for (thread, ran) in threads {
                activity.note(*thread, schedule(*ran));
            }
            activity.end();
            (activity.schedule.map(|sum| (sum.ran, sum.turns)), activity.threads.len())
        };
        assert_eq!(scrape(&[(1, 10), (2, 20)]), (Some((30, 2)), 2));
        assert_eq!(scrape(&[(1, 15)]), (Some((35, 2)), 1));
        // Another thread has got the number 1, and 3 is new.
        assert_eq!(scrape(&[(1, 2), (3, 1)]), (Some((38, 4)), 2));
        assert_eq!(scrape(&[]), (Some((38, 4)), 0));
    }

    #[test]
    fn whose_a_process_is() {
        let id = "a".repeat(64);
        let inner = "b".repeat(64);
        for text in [
            format!("4:memory:/docker/{id}\n0::/docker/{id}\n"),
            format!("0::/../docker-{id}.scope\n"),
            format!("0::/system.slice/docker-{id}.scope/docker/{inner}\n"),
        ] {
            assert_eq!(container_of(text.as_bytes()).unwrap().as_str(), id);
        }
        assert!(is_in_root(b"0::/\n") && is_in_root(b"4:memory:/\n0::/\n"));
        assert!(!is_in_root(b"0::/../..\n") && !is_in_root(b"") && !is_in_root(b"4:memory:/a\n0::/\n"));
        assert!(container_of(b"0::/user.slice\n").is_none() && container_of(b"").is_none());
    }

    #[test]
    fn lines_of_schedstat() {
        assert_eq!(
            Schedule::of(b"39186708341 44039240628 13792\n"),
            Some(Schedule { ran: 39_186_708_341, waited: 44_039_240_628, turns: 13_792 })
        );
        assert!([&b""[..], b"1 2", b"1 2 x"].iter().all(|odd| Schedule::of(odd).is_none()));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_a_fault(bytes: Vec<u8>) {
            Schedule::of(&bytes);
            container_of(&bytes);
        }
    }
}
