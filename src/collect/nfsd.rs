//! `node_nfsd_*`: what this machine answers as an NFS server, from the host's `net/rpc/nfsd`. How its lines are read, and their sources: [`rpcstats`].

use super::rpcstats::{self, Cell, Family, Lines, Procedures};
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::model::Kind;
use crate::present;

pub(super) const ENTRY: Entry = entry!("nfsd", on, &[], |_| Ok(Box::new(Nfsd)));

struct Nfsd;

const FILE: &str = "rpc/nfsd";

macro_rules! family {
    ($name:literal, $kind:ident, $help:literal, $cells:expr) => {
        Family { name: concat!("node_nfsd_", $name), kind: Kind::$kind, help: $help, cells: &$cells }
    };
}

const FAMILIES: [Family; 13] = [
    family!("reply_cache_hits_total", Counter, "Total number of NFSd Reply Cache hits (client lost server response).", [("rc", 0, &[])]),
    family!(
        "reply_cache_misses_total",
        Counter,
        "Total number of NFSd Reply Cache an operation that requires caching (idempotent).",
        [("rc", 1, &[])]
    ),
    family!(
        "reply_cache_nocache_total",
        Counter,
        "Total number of NFSd Reply Cache non-idempotent operations (rename/delete/…).",
        [("rc", 2, &[])]
    ),
    family!("file_handles_stale_total", Counter, "Total number of NFSd stale file handles", [("fh", 0, &[])]),
    family!("disk_bytes_read_total", Counter, "Total NFSd bytes read.", [("io", 0, &[])]),
    family!("disk_bytes_written_total", Counter, "Total NFSd bytes written.", [("io", 1, &[])]),
    family!("server_threads", Gauge, "Total number of NFSd kernel threads that are running.", [("th", 0, &[])]),
    family!("read_ahead_cache_size_blocks", Gauge, "How large the read ahead cache is in blocks.", [("ra", 0, &[])]),
    family!("read_ahead_cache_not_found_total", Counter, "Total number of NFSd read ahead cache not found.", [("ra", 11, &[])]),
    family!(
        "packets_total",
        Counter,
        "Total NFSd network packets (sent+received) by protocol type.",
        [("net", 1, &[("proto", "udp")]), ("net", 2, &[("proto", "tcp")])]
    ),
    family!("connections_total", Counter, "Total number of NFSd TCP connections.", [("net", 3, &[])]),
    family!(
        "rpc_errors_total",
        Counter,
        "Total number of NFSd RPC errors by error type.",
        [("rpc", 2, &[("error", "fmt")]), ("rpc", 3, &[("error", "auth")]), ("rpc", 4, &[("error", "cInt")])]
    ),
    family!("server_rpcs_total", Counter, "Total number of NFSd RPCs.", [("rpc", 0, &[])]),
];

/// `Null` is a ping and is left out, as in node_exporter.
const PROCEDURES: [Procedures; 3] = [
    Procedures { word: "proc2", proto: "2", names: &without_first(rpcstats::V2) },
    Procedures { word: "proc3", proto: "3", names: &without_first(rpcstats::V3) },
    Procedures { word: "proc4ops", proto: "4", names: &V4 },
];

const fn without_first<const N: usize>(mut names: [&'static str; N]) -> [&'static str; N] {
    if let Some(first) = names.first_mut() {
        *first = "";
    }
    names
}

/// The operations of NFS 4.0 by their numbers in RFC 7530, the first of which are of no use.
const V4: [&str; 40] = [
    "",
    "",
    "",
    "Access",
    "Close",
    "Commit",
    "Create",
    "DelegPurge",
    "DelegReturn",
    "GetAttr",
    "GetFH",
    "Link",
    "Lock",
    "Lockt",
    "Locku",
    "Lookup",
    "LookupRoot",
    "Nverify",
    "Open",
    "OpenAttr",
    "OpenConfirm",
    "OpenDgrd",
    "PutFH",
    "",
    "",
    "Read",
    "ReadDir",
    "ReadLink",
    "Remove",
    "Rename",
    "Renew",
    "RestoreFH",
    "SaveFH",
    "SecInfo",
    "SetAttr",
    "SetClientID",
    "SetClientIDConfirm",
    "Verify",
    "Write",
    "RelLockOwner",
];

/// A line of its own since Linux 6.6: how often a client that holds a file for writing was asked how large it is.
const MORE: [Cell; 1] = [("wdeleg_getattr", 0, &[("proto", "4"), ("method", "WdelegGetattr")])];

impl Collector for Nfsd {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let (_, bytes) = present!(host.net(FILE));
        let lines = Lines::of(FILE, bytes, (&FAMILIES, &MORE), &PROCEDURES, odd);
        lines.write(&FAMILIES, out);
        let help = "Total number NFSd Requests by method and protocol.";
        lines.write_procedures("node_nfsd_requests_total", help, &PROCEDURES, &MORE, out);
        Ok(Presence::Present)
    }
}
