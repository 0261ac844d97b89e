//! Groups of families that are off by default, as they are in cAdvisor: reading them takes more files, some of them long ones.

use crate::cgroup::Wanted;

/// Which groups are on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a switch for each group")]
pub struct Groups {
    /// Connections by state.
    pub tcp: bool,
    /// Sockets of UDP and their queues.
    pub udp: bool,
    /// The counters of TCP.
    pub advtcp: bool,
    /// Open files, sockets and limits of processes.
    pub process: bool,
    /// Huge pages.
    pub hugetlb: bool,
    /// Pages by NUMA node.
    pub numa: bool,
    /// How long threads ran and waited, and their states.
    pub sched: bool,
    /// Settings of cpusets.
    pub cpuset: bool,
    /// The machine's caches, threads, nodes and huge pages.
    pub cpu_topology: bool,
}

type Field = fn(&mut Groups) -> &mut bool;

const NAMES: [(&str, Field); 9] = [
    ("tcp", |groups| &mut groups.tcp),
    ("udp", |groups| &mut groups.udp),
    ("advtcp", |groups| &mut groups.advtcp),
    ("process", |groups| &mut groups.process),
    ("hugetlb", |groups| &mut groups.hugetlb),
    ("numa", |groups| &mut groups.numa),
    ("sched", |groups| &mut groups.sched),
    ("cpuset", |groups| &mut groups.cpuset),
    ("cpu_topology", |groups| &mut groups.cpu_topology),
];

impl Groups {
    /// The groups of a list of names; each item may be several of them with commas between. `memory_numa` is cAdvisor's word for `numa`.
    ///
    /// # Errors
    /// A sentence that names what is not known, and what is.
    pub fn of<T: AsRef<str>>(names: &[T]) -> Result<Self, String> {
        let mut groups = Self::default();
        for name in names.iter().flat_map(|names| names.as_ref().split(',')).map(str::trim).filter(|name| !name.is_empty()) {
            let name = if name == "memory_numa" { "numa" } else { name };
            let Some((_, field)) = NAMES.iter().find(|(known, _)| *known == name) else {
                let known: Vec<&str> = NAMES.iter().map(|(known, _)| *known).collect();
                return Err(format!("'{name}' is not a group of metrics: {} are", known.join(", ")));
            };
            *field(&mut groups) = true;
        }
        Ok(groups)
    }

    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        let mut groups = Self::default();
        for (_, field) in NAMES {
            *field(&mut groups) = true;
        }
        groups
    }

    /// The names of those that are on.
    #[must_use]
    pub fn names(mut self) -> Vec<&'static str> {
        NAMES.into_iter().filter(|(_, field)| *field(&mut self)).map(|(name, _)| name).collect()
    }

    /// Whether anything is read of a container's first process beside what always is.
    pub(super) const fn reads_process(self) -> bool {
        self.tcp || self.udp || self.advtcp || self.process
    }

    /// Whether all processes of the host are looked through.
    pub(super) const fn reads_all_processes(self) -> bool {
        self.process || self.sched
    }

    pub(super) const fn of_cgroup(self) -> Wanted {
        Wanted { hugetlb: self.hugetlb, numa: self.numa, cpuset: self.cpuset }
    }

    /// Whether a container has anything of them.
    pub(super) const fn any_of_container(self) -> bool {
        self.reads_process() || self.reads_all_processes() || self.hugetlb || self.numa || self.cpuset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_repetitions() {
        assert_eq!(Groups::of::<&str>(&[]).unwrap(), Groups::default());
        let groups = Groups::of(&["tcp, udp", "memory_numa", ""]).unwrap();
        assert_eq!(groups, Groups { tcp: true, udp: true, numa: true, ..Groups::default() });
        assert_eq!(groups.names(), ["tcp", "udp", "numa"]);
        assert_eq!(Groups::of(&Groups::all().names()).unwrap(), Groups::all());
        assert!(!Groups::default().any_of_container() && Groups::all().any_of_container());
    }

    #[test]
    fn what_is_not_known_is_named_with_what_is() {
        assert_eq!(
            Groups::of(&["tcp,perf"]).unwrap_err(),
            "'perf' is not a group of metrics: tcp, udp, advtcp, process, hugetlb, numa, sched, cpuset, cpu_topology are"
        );
    }
}
