//! `node_processes_*`: processes and threads by their state, and how many of each there may be. Source: proc_pid_stat(5).
//!
//! It opens a file for each thread of the machine. A process of one thread is asked once: its thread is itself, so its directory of threads is not listed.

use std::time::{Duration, Instant};

use super::{CollectError, Collector, Entry, Pass, Presence, attribute, entry};
use crate::host::{Namespace, ReadError, Reader, Task};
use crate::model::Kind;

pub(super) const ENTRY: Entry = entry!("processes", off, &[], |_| Ok(Box::new(Processes)));

/// How long before the scrape answers the walk is given up: the rest is for the answer.
const MARGIN: Duration = Duration::from_millis(50);

struct Processes;

/// What was counted.
struct Counted {
    processes: u64,
    threads: u64,
    process_states: States,
    thread_states: States,
}

/// A count for each letter.
struct States([u64; 128]);

impl States {
    fn add(&mut self, state: u8) {
        if let Some(count) = self.0.get_mut(usize::from(state)) {
            *count += 1;
        }
    }

    /// The letters that were met, with their counts.
    fn met(&self) -> impl Iterator<Item = (char, u64)> {
        self.0.iter().zip(0u8..).filter(|(count, _)| **count > 0).map(|(count, state)| (char::from(state), *count))
    }
}

impl Collector for Processes {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let end = pass.deadline.map(|deadline| deadline.checked_sub(MARGIN).unwrap_or(deadline));
        let (host, out, odd) = pass.split();
        let counted = count(host, end, &mut |error| odd.tell(error))?;
        out.gauge("node_processes_threads", "Allocated threads in system", counted.threads);
        for (name, label, help, states) in [
            ("node_processes_state", "state", "Number of processes in each state.", &counted.process_states),
            ("node_processes_threads_state", "thread_state", "Number of threads in each state.", &counted.thread_states),
        ] {
            let mut family = out.family(name, Kind::Gauge, help);
            for (state, count) in states.met() {
                family.sample(&[(label, state.encode_utf8(&mut [0; 4]))], count);
            }
        }
        out.gauge("node_processes_pids", "Number of PIDs", counted.processes);
        // Since Linux 6.14 each PID namespace has a pid_max of its own, and the file shows the reader's: 4194304 in a container, whatever the host's is.
        let has_pid_max = host.in_first(Namespace::Pid) || !has_pid_max_for_each(&rustix::system::uname().release().to_string_lossy());
        for (file, name, help) in [
            ("sys/kernel/threads-max", "node_processes_max_threads", "Limit of threads in the system"),
            ("sys/kernel/pid_max", "node_processes_max_processes", "Number of max PIDs limit"),
        ] {
            if file == "sys/kernel/pid_max" && !has_pid_max {
                odd.tell(&"sys/kernel/pid_max: left out, for it would be of the agent's own PID namespace; run it with pid: host");
                continue;
            }
            if let Some(limit) = attribute::of_proc(host, odd, file) {
                out.gauge(name, help, limit);
            }
        }
        Ok(Presence::Present)
    }
}

/// Whether a kernel of this release has a pid_max for each namespace.
fn has_pid_max_for_each(release: &str) -> bool {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 14)
}

/// Walks all processes and their threads. What has ended since it was listed is not counted.
fn count(host: &mut Reader, end: Option<Instant>, odd: &mut dyn FnMut(&dyn std::fmt::Display)) -> Result<Counted, CollectError> {
    let mut counted = Counted { processes: 0, threads: 0, process_states: States([0; 128]), thread_states: States([0; 128]) };
    let pids = host.pids()?;
    let shows_threads = host.shows_threads();
    let in_time = |counted: &Counted| match end {
        Some(end) if Instant::now() >= end => Err(CollectError::Other(format!(
            "the walk over {} processes was given up after {} of them, for the scrape has to answer",
            pids.len(),
            counted.processes
        ))),
        _ => Ok(()),
    };
    for pid in &pids {
        in_time(&counted)?;
        let Some(process) = understood(host.task(*pid, None), *pid, odd) else { continue };
        counted.processes += 1;
        counted.threads = counted.threads.saturating_add(process.threads);
        counted.process_states.add(process.state);
        if !shows_threads {
            continue;
        }
        if process.threads == 1 {
            counted.thread_states.add(process.state);
            continue;
        }
        let threads = match host.thread_ids(*pid) {
            Ok(threads) => threads,
            Err(error) if error.is_absent() => continue,
            Err(error) => {
                odd(&error);
                continue;
            }
        };
        for thread in threads {
            if thread == *pid {
                counted.thread_states.add(process.state);
                continue;
            }
            in_time(&counted)?;
            if let Some(thread) = understood(host.task(*pid, Some(thread)), *pid, odd) {
                counted.thread_states.add(thread.state);
            }
        }
    }
    Ok(counted)
}

/// A process or thread that is still there and can be understood.
fn understood(read: Result<Option<Task>, ReadError>, pid: u32, odd: &mut dyn FnMut(&dyn std::fmt::Display)) -> Option<Task> {
    match read {
        Ok(Some(task)) => return Some(task),
        Ok(None) => odd(&format_args!("{pid}: its stat cannot be understood")),
        Err(error) if error.is_absent() => {}
        Err(error) => odd(&error),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_with_a_limit_for_each_namespace() {
        assert!(["6.14.0-rc1", "6.18.44-x", "7.0", "10.2.3"].iter().all(|release| has_pid_max_for_each(release)));
        assert!(["6.13.9-14", "5.15.0-131-generic", "", "odd"].iter().all(|release| !has_pid_max_for_each(release)));
    }
}
