//! `node_mountstats_nfs_*`: what each NFS mount does, from `mountstats` of the first process. Sources: `nfs_show_stats` in the kernel's `fs/nfs/super.c`, and
//! `rpc_clnt_show_stats` and `xs_*_print_stats` in `net/sunrpc`.

use std::collections::{HashMap, HashSet};

use super::filesystem::View;
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, entry};
use crate::exposition::Writer;
use crate::host::{Mount, Root, parse};
use crate::model::{Kind, LabelSet, Value};

pub(super) const ENTRY: Entry = entry!("mountstats", off, &[], |_| Ok(Box::new(MountStats::default())));

#[derive(Default)]
struct MountStats {
    stats: Vec<u8>,
}

/// A family: its name behind `node_mountstats_nfs_`, and its help.
type Named = (&'static str, &'static str);

/// The numbers of a line of a mount.
type Numbers = fn(&Nfs) -> &[u64];

/// The numbers of `bytes:`.
const BYTES: [Named; 8] = [
    ("read_bytes_total", "Number of bytes read using the read() syscall."),
    ("write_bytes_total", "Number of bytes written using the write() syscall."),
    ("direct_read_bytes_total", "Number of bytes read using the read() syscall in O_DIRECT mode."),
    ("direct_write_bytes_total", "Number of bytes written using the write() syscall in O_DIRECT mode."),
    ("total_read_bytes_total", "Number of bytes read from the NFS server, in total."),
    ("total_write_bytes_total", "Number of bytes written to the NFS server, in total."),
    ("read_pages_total", "Number of pages read directly via mmap()'d files."),
    ("write_pages_total", "Number of pages written directly via mmap()'d files."),
];

/// The numbers of `events:`. The one without a name (`congestion_wait`) is not counted by any kernel.
const EVENTS: [Named; 27] = [
    ("event_inode_revalidate_total", "Number of times cached inode attributes are re-validated from the server."),
    ("event_dnode_revalidate_total", "Number of times cached dentry nodes are re-validated from the server."),
    ("event_data_invalidate_total", "Number of times an inode cache is cleared."),
    ("event_attribute_invalidate_total", "Number of times cached inode attributes are invalidated."),
    ("event_vfs_open_total", "Number of times cached inode attributes are invalidated."),
    ("event_vfs_lookup_total", "Number of times a directory lookup has occurred."),
    ("event_vfs_access_total", "Number of times permissions have been checked."),
    ("event_vfs_update_page_total", "Number of updates (and potential writes) to pages."),
    ("event_vfs_read_page_total", "Number of pages read directly via mmap()'d files."),
    ("event_vfs_read_pages_total", "Number of times a group of pages have been read."),
    ("event_vfs_write_page_total", "Number of pages written directly via mmap()'d files."),
    ("event_vfs_write_pages_total", "Number of times a group of pages have been written."),
    ("event_vfs_getdents_total", "Number of times directory entries have been read with getdents()."),
    ("event_vfs_setattr_total", "Number of times directory entries have been read with getdents()."),
    ("event_vfs_flush_total", "Number of pending writes that have been forcefully flushed to the server."),
    ("event_vfs_fsync_total", "Number of times fsync() has been called on directories and files."),
    ("event_vfs_lock_total", "Number of times locking has been attempted on a file."),
    ("event_vfs_file_release_total", "Number of times files have been closed and released."),
    ("", ""),
    ("event_truncation_total", "Number of times files have been truncated."),
    ("event_write_extension_total", "Number of times a file has been grown due to writes beyond its existing end."),
    ("event_silly_rename_total", "Number of times a file was removed while still open by another process."),
    ("event_short_read_total", "Number of times the NFS server gave less data than expected while reading."),
    ("event_short_write_total", "Number of times the NFS server wrote less data than expected while writing."),
    ("event_jukebox_delay_total", "Number of times the NFS server indicated EJUKEBOX; retrieving data from offline storage."),
    ("event_pnfs_read_total", "Number of NFS v4.1+ pNFS reads."),
    ("event_pnfs_write_total", "Number of NFS v4.1+ pNFS writes."),
];

/// The numbers of `xprt:` that are exported, each with whether it is a gauge.
const TRANSPORTS: [(Named, bool); 10] = [
    (("transport_bind_total", "Number of times the client has had to establish a connection from scratch to the NFS server."), false),
    (("transport_connect_total", "Number of times the client has made a TCP connection to the NFS server."), false),
    (("transport_idle_time_seconds", "Duration since the NFS mount last saw any RPC traffic, in seconds."), true),
    (("transport_sends_total", "Number of RPC requests for this mount sent to the NFS server."), false),
    (("transport_receives_total", "Number of RPC responses for this mount received from the NFS server."), false),
    (
        (
            "transport_bad_transaction_ids_total",
            "Number of times the NFS server sent a response with a transaction ID unknown to this client.",
        ),
        false,
    ),
    (("transport_backlog_queue_total", "Total number of items added to the RPC backlog queue."), false),
    (("transport_maximum_rpc_slots", "Maximum number of simultaneously active RPC requests ever used."), true),
    (("transport_sending_queue_total", "Total number of items added to the RPC transmission sending queue."), false),
    (("transport_pending_queue_total", "Total number of items added to the RPC transmission pending queue."), false),
];

/// Behind the protocol, where each of [`TRANSPORTS`] stands. The first number is the port, which a local socket has not; `None` is what datagrams have not:
/// connections, of which there were none, and their idle time, which node_exporter tells as 0.
const STREAM: [Option<usize>; TRANSPORTS.len()] =
    [Some(1), Some(2), Some(4), Some(5), Some(6), Some(7), Some(9), Some(10), Some(11), Some(12)];
const DATAGRAM: [Option<usize>; TRANSPORTS.len()] = [Some(1), None, None, Some(2), Some(3), Some(4), Some(6), Some(7), Some(8), Some(9)];
const LOCAL: [Option<usize>; TRANSPORTS.len()] =
    [Some(0), Some(1), Some(3), Some(4), Some(5), Some(6), Some(8), Some(9), Some(10), Some(11)];
/// Behind the tenth number RDMA has others than sockets have.
const RDMA_KNOWN: usize = 10;

/// The numbers of an operation below `per-op statistics`; times are in milliseconds.
const OPERATIONS: [Named; 8] = [
    ("operations_requests_total", "Number of requests performed for a given operation."),
    ("operations_transmissions_total", "Number of times an actual RPC request has been transmitted for a given operation."),
    ("operations_major_timeouts_total", "Number of times a request has had a major timeout for a given operation."),
    ("operations_sent_bytes_total", "Number of bytes sent for a given operation, including RPC headers and payload."),
    ("operations_received_bytes_total", "Number of bytes received for a given operation, including RPC headers and payload."),
    (
        "operations_queue_time_seconds_total",
        "Duration all requests spent queued for transmission for a given operation before they were sent, in seconds.",
    ),
    (
        "operations_response_time_seconds_total",
        "Duration all requests took to get a reply back after a request for a given operation was transmitted, in seconds.",
    ),
    (
        "operations_request_time_seconds_total",
        "Duration all requests took from when a request was enqueued to when it was completely handled for a given operation, in seconds.",
    ),
];

/// What a mount tells of itself.
#[derive(Default)]
struct Nfs {
    source: String,
    point: Vec<u8>,
    kind: Vec<u8>,
    age: Option<u64>,
    bytes: Vec<u64>,
    events: Vec<u64>,
    transports: Vec<(String, [Option<u64>; TRANSPORTS.len()])>,
    operations: Vec<(String, Vec<u64>)>,
}

/// A mount that is exported: others of the same export by the same way share its numbers.
struct Exported {
    labels: LabelSet,
    nfs: Nfs,
}

impl Collector for MountStats {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        // Both files of one process: those of another may have other mounts. The file of the first process is for root's eyes only.
        let mut first = None;
        for process in ["1", "self"] {
            match host.proc(&format!("{process}/mountstats")) {
                Ok(bytes) => {
                    self.stats.clear();
                    self.stats.extend_from_slice(bytes);
                }
                Err(error) => {
                    first = first.or(Some(error));
                    continue;
                }
            }
            let mounts = read(&self.stats, odd);
            if mounts.is_empty() {
                return Ok(Presence::Absent);
            }
            let root = host.root().clone();
            let info = match host.proc(&format!("{process}/mountinfo")) {
                Ok(bytes) => bytes,
                Err(error) => {
                    odd.tell(&error);
                    b""
                }
            };
            write(mounts, info, &root, out);
            return Ok(Presence::Present);
        }
        match first {
            Some(error) if !error.is_absent() => Err(error.into()),
            _ => Ok(Presence::Absent),
        }
    }
}

/// The NFS mounts of a `mountstats`. What other file systems say is passed over.
fn read(bytes: &[u8], odd: &mut Oddities) -> Vec<Nfs> {
    let mut mounts: Vec<Nfs> = Vec::new();
    let mut current: Option<Nfs> = None;
    for line in parse::lines(bytes) {
        if line.starts_with(b"device ") || line.starts_with(b"no device ") {
            mounts.extend(current.take());
            current = device(line);
        } else if let Some(nfs) = &mut current
            && !nfs.line(line)
        {
            odd.line("mountstats", line);
        }
    }
    mounts.extend(current);
    mounts
}

/// `device server:/export mounted on /mnt with fstype nfs4 statvers=1.1`.
fn device(line: &[u8]) -> Option<Nfs> {
    let mut fields = line.split(|byte| *byte == b' ').skip(1);
    let source = fields.next()?;
    let is_next = |fields: &mut dyn Iterator<Item = &[u8]>, word: &[u8]| fields.next() == Some(word);
    if !is_next(&mut fields, b"mounted") || !is_next(&mut fields, b"on") {
        return None;
    }
    let point = fields.next()?;
    if !is_next(&mut fields, b"with") || !is_next(&mut fields, b"fstype") {
        return None;
    }
    let kind = fields.next().filter(|kind| matches!(*kind, b"nfs" | b"nfs4"))?;
    // Without numbers it is another process' view of a mount that has none.
    fields.next()?.strip_prefix(b"statvers=")?;
    Some(Nfs {
        source: parse::text(&Mount::unescaped(source)).into_owned(),
        point: Mount::unescaped(point).into_owned(),
        kind: kind.to_owned(),
        ..Nfs::default()
    })
}

impl Nfs {
    /// Reads a line of a mount; false when it could not be understood.
    fn line(&mut self, line: &[u8]) -> bool {
        let mut fields = parse::fields(line);
        let Some(word) = fields.next() else { return true };
        match word {
            b"age:" => {
                self.age = fields.next().and_then(parse::unsigned);
                self.age.is_some()
            }
            b"bytes:" => keep(&mut self.bytes, fields),
            b"events:" => keep(&mut self.events, fields),
            b"xprt:" => match transport(fields) {
                Some(transport) => {
                    self.transports.push(transport);
                    true
                }
                None => false,
            },
            // Lines of words, which nobody asks for.
            b"opts:" | b"caps:" | b"sec:" | b"nfsv4:" | b"impl_id:" | b"fsc:" | b"pnfs:" | b"RPC" | b"per-op" => true,
            _ => {
                let Some(name) = word.strip_suffix(b":") else { return true };
                // The names of operations are in capitals; other words a newer kernel may bring.
                if !name.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_') {
                    return true;
                }
                let name = parse::text(name).into_owned();
                let mut numbers = Vec::new();
                let whole = keep(&mut numbers, fields) && numbers.len() >= OPERATIONS.len();
                let is_new = self.operations.iter().all(|(known, _)| *known != name);
                if whole && is_new {
                    self.operations.push((name, numbers));
                }
                whole && is_new
            }
        }
    }
}

fn keep<'a>(slot: &mut Vec<u64>, fields: impl Iterator<Item = &'a [u8]>) -> bool {
    let numbers: Option<Vec<u64>> = fields.map(parse::unsigned).collect();
    let whole = numbers.is_some();
    *slot = numbers.unwrap_or_default();
    whole
}

/// `tcp 832 0 1 0 11 6428 6428 0 12154 0 24 26 5726`; the last three came with version 1.1.
fn transport<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Option<(String, [Option<u64>; TRANSPORTS.len()])> {
    let protocol = fields.next()?;
    let mut numbers = Vec::new();
    if !keep(&mut numbers, fields) {
        return None;
    }
    let places = match protocol {
        b"udp" => DATAGRAM,
        b"local" => LOCAL,
        _ => STREAM,
    };
    if protocol == b"rdma" {
        numbers.truncate(RDMA_KNOWN);
    }
    let values = places.map(|place| place.map_or(Some(0), |place| numbers.get(place).copied()));
    (!numbers.is_empty()).then(|| (parse::text(protocol).into_owned(), values))
}

/// Finds the address of each mount's server, which only `mountinfo` has, and writes.
///
/// Mounts are found by their source, point and type; where several agree in these, in their order. node_exporter takes the line of the same number, which is
/// that of another mount when one came or went between the two files.
fn write(mounts: Vec<Nfs>, info: &[u8], root: &Root, out: &mut Writer) {
    let found: Vec<Mount<'_>> = parse::lines(info).filter_map(Mount::of).collect();
    let view = View::of(root, found.iter().map(|mount| &*mount.point));
    let mut addresses: HashMap<(Vec<u8>, Vec<u8>, String), Vec<String>> = HashMap::new();
    // From the last to the first, so that the first is taken first.
    for mount in found.iter().rev().filter(|mount| mount.kind.starts_with(b"nfs")) {
        let address = mount.super_options.split(|byte| *byte == b',').find_map(|option| option.strip_prefix(b"addr=")).unwrap_or_default();
        let key = (mount.point.to_vec(), mount.kind.to_vec(), parse::text(&mount.source).into_owned());
        addresses.entry(key).or_default().push(parse::text(address).into_owned());
    }
    let mut exported: Vec<Exported> = Vec::new();
    let mut points: Vec<LabelSet> = Vec::new();
    let (mut seen, mut seen_points) = (HashSet::new(), HashSet::new());
    for nfs in mounts {
        let Some(point) = view.on_host(&nfs.point) else { continue };
        let Some((protocol, _)) = nfs.transports.first() else { continue };
        let key = (nfs.point.clone(), nfs.kind.clone(), nfs.source.clone());
        // One that is gone from the second file, or not yet in the first, has no series rather than one without its server.
        let address = match addresses.get_mut(&key).and_then(Vec::pop) {
            Some(address) => address,
            None if found.is_empty() => String::new(),
            None => continue,
        };
        let mut labels = LabelSet::of([("export", &*nfs.source), ("protocol", protocol), ("mountaddr", &*address)]);
        let is_new = seen.insert(labels.as_str().to_owned());
        let only = is_new.then(|| labels.clone());
        labels.push("mountpoint", &parse::text(point));
        if seen_points.insert(labels.as_str().to_owned()) {
            points.push(labels);
        }
        if let Some(labels) = only {
            exported.push(Exported { labels, nfs });
        }
    }
    write_families(&exported, &points, out);
}

fn write_families(exported: &[Exported], points: &[LabelSet], out: &mut Writer) {
    let full = |name: &str| format!("node_mountstats_nfs_{name}");
    let name = full("mountpoint_info");
    let mut family = out.family(&name, Kind::Gauge, "Info metric for an NFS mountpoint.");
    for labels in points {
        family.sample_of(labels, &[], 1u64);
    }
    let name = full("age_seconds_total");
    let mut family = out.family(&name, Kind::Counter, "The age of the NFS mount in seconds.");
    for Exported { labels, nfs } in exported {
        if let Some(age) = nfs.age {
            family.sample_of(labels, &[], age);
        }
    }
    let bytes: Numbers = |nfs| &nfs.bytes;
    let events: Numbers = |nfs| &nfs.events;
    for (families, numbers) in [(&BYTES[..], bytes), (&EVENTS, events)] {
        for (index, (name, help)) in families.iter().enumerate().filter(|(_, (name, _))| !name.is_empty()) {
            let name = full(name);
            let mut family = out.family(&name, Kind::Counter, help);
            for Exported { labels, nfs } in exported {
                if let Some(number) = numbers(nfs).get(index) {
                    family.sample_of(labels, &[], *number);
                }
            }
        }
    }
    for (index, ((name, help), is_gauge)) in TRANSPORTS.iter().enumerate() {
        let name = full(name);
        let mut family = out.family(&name, if *is_gauge { Kind::Gauge } else { Kind::Counter }, help);
        for Exported { labels, nfs } in exported {
            for (transport, (_, numbers)) in nfs.transports.iter().enumerate() {
                if let Some(Some(number)) = numbers.get(index) {
                    family.sample_of(labels, &[("transport", itoa::Buffer::new().format(transport))], *number);
                }
            }
        }
    }
    for (index, (name, help)) in OPERATIONS.iter().enumerate() {
        let in_seconds = name.ends_with("_seconds_total");
        let name = full(name);
        let mut family = out.family(&name, Kind::Counter, help);
        for Exported { labels, nfs } in exported {
            for (operation, numbers) in &nfs.operations {
                if let Some(number) = numbers.get(index) {
                    family.sample_of(labels, &[("operation", operation)], if in_seconds { seconds(*number) } else { Value::from(*number) });
                }
            }
        }
    }
}

/// Milliseconds as seconds. The kernel takes the difference of two clocks, and a sum that went below 0 is told as one near 2^64; node_exporter takes the rest of
/// 2^53, and so its number is kept.
fn seconds(milliseconds: u64) -> Value {
    ((milliseconds % (1 << 53)) as f64 / 1000.0).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn written(stats: &[u8], info: &[u8], rootfs: &str) -> (String, u64) {
        let (mut out, mut odd) = (Writer::new(Arc::default()), Oddities::default());
        let root = Root { proc: "/p".into(), sys: "/s".into(), rootfs: rootfs.into(), udev: "/u".into() };
        write(read(stats, &mut odd), info, &root, &mut out);
        (String::from_utf8(out.text().to_vec()).unwrap(), odd.count)
    }

    #[test]
    fn a_line_costs_only_itself() {
        let (text, odd) = written(
            b"device s:/x mounted on /n with fstype nfs4 statvers=1.1\n\tage:\tx\n\tbytes:\t1 2\n\tevents:\t1 x\n\txprt:\ttcp 1 2 3 y\n\
              \txprt:\tlocal 2 3 4 5 6 7 8\n\tREAD: 1 2\n\tWRITE: 1 2 3 4 5 6 7 8 9\n\tWRITE: 1 2 3 4 5 6 7 8 9\nno device mounted on /y with fstype z\n",
            b"",
            "/",
        );
        assert_eq!(odd, 5);
        for line in [
            "node_mountstats_nfs_read_bytes_total{export=\"s:/x\",protocol=\"local\",mountaddr=\"\"} 1\n",
            "transport_sends_total{transport=\"0\",export=\"s:/x\",protocol=\"local\",mountaddr=\"\"} 6\n",
            "operations_request_time_seconds_total{operation=\"WRITE\",export=\"s:/x\",protocol=\"local\",mountaddr=\"\"} 0.008\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("maximum_rpc_slots") && !text.contains("age_seconds"));
    }

    #[test]
    fn mounts_are_the_hosts_and_find_their_server() {
        let stats = b"device s:/x mounted on /host/root/a\\040b with fstype nfs4 statvers=1.1\n\txprt:\ttcp 1 2 3\n\
                      device s:/x mounted on /own with fstype nfs4 statvers=1.1\n\txprt:\ttcp 1 2 3\n\
                      device s:/x mounted on /host/root/new with fstype nfs4 statvers=1.1\n\txprt:\ttcp 1 2 3\n";
        let info = b"1 0 0:9 / /host/root rw - ext4 /dev/x rw\n2 1 0:8 / /own rw - nfs4 s:/x rw,addr=10.0.0.9\n\
                     3 1 0:8 / /host/root/a\\040b rw - nfs4 s:/x rw,clientaddr=10.0.0.1,addr=10.0.0.2\n";
        let (text, odd) = written(stats, info, "/host/root");
        assert_eq!(odd, 0);
        assert!(text.contains("{export=\"s:/x\",protocol=\"tcp\",mountaddr=\"10.0.0.2\",mountpoint=\"/a b\"} 1\n"), "{text}");
        // One that is not of the host, and one that came between the two files, are left out.
        assert_eq!(text.matches("mountpoint=").count(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "((age|bytes|events|xprt|READ):( ([0-9]{1,3}|tcp|udp|rdma)){0,14}\n){0,6}") {
            let head = b"device s:/x mounted on /n with fstype nfs4 statvers=1.1\n";
            written(&bytes, &bytes, "/");
            written(&[head, &*bytes].concat(), &bytes, "/");
            written(&[head, text.as_bytes()].concat(), b"", "/");
        }
    }
}
