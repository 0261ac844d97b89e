//! `node_nfs_*`: what this machine asks of NFS servers, from the host's `net/rpc/nfs`.

use super::rpcstats::{self, Family, Lines, Procedures};
use super::{AS_NODE_EXPORTER, CollectError, Collector, Entry, Pass, Presence, entry};
use crate::config::Settings;
use crate::model::Kind;
use crate::present;

pub(super) const ENTRY: Entry = entry!("nfs", on, &[], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Nfs { as_node_exporter: settings.is_on(AS_NODE_EXPORTER.name) }))
}

struct Nfs {
    as_node_exporter: bool,
}

const FILE: &str = "rpc/nfs";

const FAMILIES: [Family; 5] = [
    Family {
        name: "node_nfs_packets_total",
        kind: Kind::Counter,
        help: "Total NFSd network packets (sent+received) by protocol type.",
        cells: &[("net", 1, &[("protocol", "udp")]), ("net", 2, &[("protocol", "tcp")])],
    },
    Family {
        name: "node_nfs_connections_total",
        kind: Kind::Counter,
        help: "Total number of NFSd TCP connections.",
        cells: &[("net", 3, &[])],
    },
    Family { name: "node_nfs_rpcs_total", kind: Kind::Counter, help: "Total number of RPCs performed.", cells: &[("rpc", 0, &[])] },
    Family {
        name: "node_nfs_rpc_retransmissions_total",
        kind: Kind::Counter,
        help: "Number of RPC transmissions performed.",
        cells: &[("rpc", 1, &[])],
    },
    Family {
        name: "node_nfs_rpc_authentication_refreshes_total",
        kind: Kind::Counter,
        help: "Number of RPC authentication refreshes performed.",
        cells: &[("rpc", 2, &[])],
    },
];

const PROCEDURES: [Procedures; 3] = [
    Procedures { word: "proc2", proto: "2", names: &rpcstats::V2 },
    Procedures { word: "proc3", proto: "3", names: &rpcstats::V3 },
    Procedures { word: "proc4", proto: "4", names: &V4 },
];

const PROCEDURES_OF_NODE_EXPORTER: [Procedures; 3] = [
    Procedures { word: "proc2", proto: "2", names: &rpcstats::V2 },
    Procedures { word: "proc3", proto: "3", names: &rpcstats::V3 },
    Procedures { word: "proc4", proto: "4", names: &V4_OF_NODE_EXPORTER },
];

const V4_OF_NODE_EXPORTER: [&str; 59] = {
    let mut names = V4;
    (names[44], names[45]) = (names[45], names[44]);
    names
};

/// The client's calls of NFS 4, in the order of the `enum` of `NFSPROC4_CLNT_*` in the kernel's `include/linux/nfs4.h`. `LayoutGet` comes before `GetDeviceInfo`
/// there; node_exporter has the two the other way round, and so the number of each under the other's name.
const V4: [&str; 59] = [
    "Null",
    "Read",
    "Write",
    "Commit",
    "Open",
    "OpenConfirm",
    "OpenNoattr",
    "OpenDowngrade",
    "Close",
    "Setattr",
    "FsInfo",
    "Renew",
    "SetClientID",
    "SetClientIDConfirm",
    "Lock",
    "Lockt",
    "Locku",
    "Access",
    "Getattr",
    "Lookup",
    "LookupRoot",
    "Remove",
    "Rename",
    "Link",
    "Symlink",
    "Create",
    "Pathconf",
    "StatFs",
    "ReadLink",
    "ReadDir",
    "ServerCaps",
    "DelegReturn",
    "GetACL",
    "SetACL",
    "FsLocations",
    "ReleaseLockowner",
    "Secinfo",
    "FsidPresent",
    "ExchangeID",
    "CreateSession",
    "DestroySession",
    "Sequence",
    "GetLeaseTime",
    "ReclaimComplete",
    "LayoutGet",
    "GetDeviceInfo",
    "LayoutCommit",
    "LayoutReturn",
    "SecinfoNoName",
    "TestStateID",
    "FreeStateID",
    "GetDeviceList",
    "BindConnToSession",
    "DestroyClientID",
    "Seek",
    "Allocate",
    "DeAllocate",
    "LayoutStats",
    "Clone",
];

impl Collector for Nfs {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let (_, bytes) = present!(host.net(FILE));
        let procedures = if self.as_node_exporter { &PROCEDURES_OF_NODE_EXPORTER } else { &PROCEDURES };
        let lines = Lines::of(FILE, bytes, (&FAMILIES, &[]), procedures, odd);
        lines.write(&FAMILIES, out);
        lines.write_procedures("node_nfs_requests_total", "Number of NFS procedures invoked.", procedures, &[], out);
        Ok(Presence::Present)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Oddities;
    use super::*;
    use crate::exposition::Writer;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn written(bytes: &[u8]) -> (String, u64) {
        let (mut out, mut odd) = (Writer::new(Arc::default()), Oddities::default());
        let lines = Lines::of(FILE, bytes, (&FAMILIES, &[]), &PROCEDURES, &mut odd);
        lines.write(&FAMILIES, &mut out);
        lines.write_procedures("requests", "", &PROCEDURES, &[], &mut out);
        (String::from_utf8(out.text().to_vec()).unwrap(), odd.count)
    }

    #[test]
    fn a_line_costs_only_itself() {
        // Too few numbers, fewer procedures than it says, a word to come, a word twice.
        let (text, odd) = written(b"net 1 2 3\nproc3 22 1 2\nproc4 3 1 2 x\nsoon x\nrpc 7 8 9\nrpc 1 1 1\n");
        assert_eq!(odd, 4);
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 3, "{text}");
        assert!(text.contains("node_nfs_rpcs_total 7\n"));
    }

    #[test]
    fn what_an_old_kernel_does_not_know_was_never_called() {
        let (text, odd) = written(b"proc4 2 5 6\n");
        assert_eq!(odd, 0);
        assert!(text.contains("{proto=\"4\",method=\"Read\"} 6\n") && text.contains("{proto=\"4\",method=\"Clone\"} 0\n"), "{text}");
        assert!(!text.contains("proto=\"3\""));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "((net|rpc|proc[234]|th)( [0-9x]{1,3}){0,5}\n){0,6}") {
            written(&bytes);
            written(text.as_bytes());
        }
    }
}
