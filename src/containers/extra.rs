//! What is read of a container only where its group is on (`--containers.enable`).

use super::connections::{TcpStates, UdpSockets, counters, open_files_limit};
use super::groups::Groups;
use crate::cgroup::Extras;
use crate::collect::Pass;
use crate::docker::Container;
use crate::host::Process;
use crate::model::Value;

/// The numbers of the groups that are on.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub(crate) cgroup: Extras,
    /// IPv4 and IPv6.
    pub(crate) tcp: [Option<TcpStates>; 2],
    /// IPv4 and IPv6.
    pub(crate) udp: [Option<UdpSockets>; 2],
    /// The kernel's counters of TCP, by their names in small letters.
    pub(crate) counters: Vec<(String, Value)>,
    /// The first process' soft limit of open files; -1 is none.
    pub(crate) open_files_limit: Option<i64>,
}

impl Extra {
    /// Forgets what was read of the first process.
    pub(crate) fn clear(&mut self) {
        (self.tcp, self.udp, self.open_files_limit) = ([None; 2], [None; 2], None);
        self.counters.clear();
    }

    /// Reads what `groups` want of the container's first process; of its network only where that is its own.
    pub(crate) fn read(&mut self, groups: Groups, process: &Process, container: &Container, pass: &mut Pass<'_>) {
        if groups.process {
            match pass.host.of_process(process, "limits") {
                Ok(bytes) => {
                    self.open_files_limit = open_files_limit(bytes);
                    if self.open_files_limit.is_none() {
                        pass.odd(&format_args!("limits of container {:?} do not tell how many files may be open", container.id));
                    }
                }
                Err(error) => pass.odd(&error),
            }
        }
        if !container.has_own_network() {
            return;
        }
        if groups.tcp {
            self.tcp = ["net/tcp", "net/tcp6"].map(|file| table(file, TcpStates::line, process, pass));
        }
        if groups.udp {
            self.udp = ["net/udp", "net/udp6"].map(|file| table(file, UdpSockets::line, process, pass));
        }
        if groups.advtcp {
            for (file, head) in [("net/snmp", "Tcp:"), ("net/netstat", "TcpExt:")] {
                match pass.host.of_process(process, file) {
                    Ok(bytes) if counters(bytes, head.as_bytes(), &mut self.counters) => {}
                    Ok(_) => pass.odd(&format_args!("{file} of container {:?}: its {head} cannot be understood", container.id)),
                    Err(error) => pass.odd(&error),
                }
            }
        }
    }
}

/// A table with a heading and a line a socket. `None` where the kernel has none (no IPv6), and where it could not be read to its end.
fn table<T: Default>(file: &str, line: fn(&mut T, &[u8]) -> bool, process: &Process, pass: &mut Pass<'_>) -> Option<T> {
    let mut counted = T::default();
    let mut is_head = true;
    let (host, _, odd) = pass.split();
    let read = host.lines_of_process(process, file, |bytes| {
        if !std::mem::take(&mut is_head) && !line(&mut counted, bytes) {
            odd.line(file, bytes);
        }
    });
    match read {
        Ok(()) => Some(counted),
        Err(error) => {
            if !error.is_absent() {
                odd.tell(&error);
            }
            None
        }
    }
}
