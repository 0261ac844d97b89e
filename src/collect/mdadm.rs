//! `node_md_*`: software RAID, from `/proc/mdstat` and `/sys/block/md*/md`. Sources: the kernel's `drivers/md/md.c` (`md_seq_show`, `status_resync`), the
//! `status` functions of its RAID levels, and `Documentation/admin-guide/md.rst`.

use super::families::Families;
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, entry, storage};
use crate::host::{Reader, parse};
use crate::present;

pub(super) const ENTRY: Entry = entry!("mdadm", on, &[], |_| Ok(Box::new(Mdadm)));

struct Mdadm;

/// What an array is doing. The first five are node_exporter's, and each array has a sample for each of these.
const STATES: [&str; 5] = ["active", "inactive", "recovering", "resync", "check"];
/// What node_exporter has no word for, so that an array in it has none of the five: here it has a sample more, for as long as it lasts.
const RARE_STATES: [&str; 2] = ["reshape", "broken"];

/// The words of the kernel for work that goes over a whole array.
const WORK: [(&[u8], &str); 4] = [(b"recovery", "recovering"), (b"resync", "resync"), (b"check", "check"), (b"reshape", "reshape")];

impl Collector for Mdadm {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let mut families = Families::default();
        for array in read(present!(host.proc("mdstat")), |line| odd.line("mdstat", line)) {
            if !add(&mut families, &array) {
                odd.tell(&format_args!("mdstat: {:?} is there twice", array.name));
            }
        }
        // Not by their numbers: there are arrays with a name of their own (`md_home`, `CREATE names=yes` in mdadm.conf), and those of old kernels' partitions (`md_d0`).
        for device in storage::names(host, odd, "block").iter().filter(|name| name.starts_with("md")) {
            of_sysfs(host, odd, &mut families, device);
        }
        Ok(families.write(out))
    }
}

/// What mdstat says of an array.
#[derive(Debug, Default, PartialEq)]
struct Array {
    name: String,
    state: &'static str,
    /// Disks: that work, that an intact array has, that failed, that wait.
    active: Option<u64>,
    required: Option<u64>,
    failed: u64,
    spare: u64,
    blocks: Option<u64>,
    synced: Option<u64>,
    /// What is needed until the lines behind the first are read.
    is_inactive: bool,
    has_no_redundancy: bool,
    members: u64,
}

/// Reads a mdstat: an array begins at the beginning of a line, and the lines behind it that begin with a blank are its own.
fn read(bytes: &[u8], mut odd: impl FnMut(&[u8])) -> Vec<Array> {
    let mut arrays: Vec<Array> = Vec::new();
    for line in parse::lines(bytes) {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            if let Some(array) = arrays.last_mut()
                && !array.go_on(line)
            {
                odd(line);
            }
            continue;
        }
        if [&b"Personalities"[..], b"unused devices", b"read_ahead"].iter().any(|head| line.starts_with(head)) {
            continue;
        }
        match Array::begin(line) {
            Some(array) => arrays.push(array),
            None => odd(line),
        }
    }
    arrays
}

impl Array {
    /// `md0 : active (auto-read-only) raid1 sda1[0] sdb1[1](F) sdc1[2](S)`.
    fn begin(line: &[u8]) -> Option<Self> {
        let mut fields = parse::fields(line);
        let (name, colon, word) = (fields.next()?, fields.next()?, fields.next()?);
        let state = STATES.into_iter().chain(RARE_STATES).find(|state| state.as_bytes() == word).filter(|_| colon == b":")?;
        let mut array = Self { name: parse::text(name).into_owned(), state, is_inactive: word == b"inactive", ..Self::default() };
        for field in fields {
            let has = |flag: &[u8]| memchr::memmem::find(field, flag).is_some();
            if field.contains(&b'[') {
                array.members += 1;
                array.failed += u64::from(has(b"(F)"));
                array.spare += u64::from(has(b"(S)"));
            } else if matches!(field, b"raid0" | b"linear" | b"faulty") {
                array.has_no_redundancy = true;
            }
        }
        if array.is_inactive {
            // Of one that does not run the kernel does not say how many it should have.
            (array.active, array.required) = (Some(0), Some(0));
        } else if array.has_no_redundancy {
            (array.active, array.required) = (array.members.checked_sub(array.failed), Some(array.members));
        }
        Some(array)
    }

    /// A line behind the first: size, progress of work, or another, which is passed over. False when it is of the first two and cannot be understood.
    fn go_on(&mut self, line: &[u8]) -> bool {
        let mut fields = parse::fields(line);
        let (first, second) = (fields.next(), fields.next());
        if second == Some(b"blocks") {
            self.blocks = first.and_then(parse::unsigned);
            if self.synced.is_none() {
                self.synced = self.blocks;
            }
            if self.required.is_none()
                && let Some((required, active)) = pair(line, b'[', b']')
            {
                (self.required, self.active) = (Some(required), Some(active));
            }
            // All levels with redundancy say their disks.
            return self.blocks.is_some() && self.required.is_some();
        }
        let Some((state, rest)) = work(line) else { return true };
        self.state = state;
        self.synced = match pair(line, b'(', b')') {
            Some((done, _)) => Some(done),
            // Waits for another array that has disks in common, or for the first write.
            None if matches!(rest, b"DELAYED" | b"PENDING") => Some(0),
            None => None,
        };
        // Another node of a cluster works (`REMOTE`), and how far it is is not said.
        self.synced.is_some() || rest == b"REMOTE"
    }
}

/// The work of a line and what stands behind its equals sign: `[=>...]  recovery =  8.5% (...)`, `resync=DELAYED`. The bar of a work that has gone some way
/// has equals signs too.
fn work(line: &[u8]) -> Option<(&'static str, &[u8])> {
    memchr::memchr_iter(b'=', line).find_map(|at| {
        let (before, behind) = line.split_at_checked(at)?;
        let (_, state) = WORK.iter().find(|(word, _)| before.trim_ascii_end().ends_with(word))?;
        Some((*state, behind.strip_prefix(b"=")?.trim_ascii()))
    })
}

/// The first two numbers that stand between `open` and `close` with a slash between them: `[3/2]`, `(114176/1993728)`.
fn pair(line: &[u8], open: u8, close: u8) -> Option<(u64, u64)> {
    const LONGEST: usize = 2 * 20 + 2;
    memchr::memchr_iter(open, line).find_map(|at| {
        let rest = line.get(at + 1..)?;
        let rest = rest.get(..LONGEST).unwrap_or(rest);
        let (within, _) = parse::split(rest, close)?;
        let (first, second) = parse::split(within, b'/')?;
        Some((parse::unsigned(first)?, parse::unsigned(second)?))
    })
}

/// Adds what mdstat says of an array; false when there is one of its name already.
fn add(families: &mut Families, array: &Array) -> bool {
    let labels = [("device", &*array.name)];
    let state = |state| [("device", &*array.name), ("state", state)];
    for known in STATES {
        if !families.gauge("node_md_state", "Indicates the state of md-device.", &state(known), known == array.state) {
            return false;
        }
    }
    if !STATES.contains(&array.state) {
        families.gauge("node_md_state", "Indicates the state of md-device.", &state(array.state), 1u64);
    }
    for (word, number) in [("active", array.active), ("failed", Some(array.failed)), ("spare", Some(array.spare))] {
        if let Some(number) = number {
            families.gauge("node_md_disks", "Number of active/failed/spare disks of device.", &state(word), number);
        }
    }
    for (name, help, number) in [
        ("node_md_disks_required", "Total number of disks of device.", array.required),
        ("node_md_blocks", "Total number of blocks on device.", array.blocks),
        ("node_md_blocks_synced", "Number of blocks synced on device.", array.synced),
    ] {
        if let Some(number) = number {
            families.gauge(name, help, &labels, number);
        }
    }
    true
}

/// What sysfs says of an array: `<sys>/block/<device>/md`.
fn of_sysfs(host: &mut Reader, odd: &mut Oddities, families: &mut Families, device: &str) {
    let directory = format!("block/{device}/md");
    let Some(level) = storage::text(host, odd, &format!("{directory}/level")) else { return };
    // Nothing is known of an array that does not run, and a container has no disks of its own, but only lends them to the arrays in it.
    if matches!(&*level, "" | "container" | "imsm" | "ddf") {
        return;
    }
    let labels = [("device", device)];
    // `11 (10)` while an array grows: as many as it will have, and as it had. Nothing of one that has just been made.
    let disks = |bytes: &[u8]| match parse::fields(bytes).next() {
        Some(first) => parse::unsigned(first).map(Some),
        None => Some(None),
    };
    if let Some(disks) = storage::read_as(host, odd, &format!("{directory}/raid_disks"), disks).flatten() {
        families.gauge("node_md_raid_disks", "Number of raid disks on device.", &labels, disks);
    }
    let degraded = match &*level {
        // The file is there for what has redundancy; the others are whole or not at all.
        "raid0" | "linear" => Some(0),
        _ => storage::unsigned(host, odd, &format!("{directory}/degraded")),
    };
    if let Some(degraded) = degraded {
        families.gauge("node_md_degraded", "Number of degraded disks on device.", &labels, degraded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Array {
        let mut arrays = read(text.as_bytes(), |line| panic!("{}", String::from_utf8_lossy(line)));
        assert_eq!(arrays.len(), 1);
        arrays.remove(0)
    }

    fn syncing(line: &str) -> (&'static str, Option<u64>) {
        let array = one(&format!("md0 : active raid1 sda[0] sdb[1]\n      100 blocks super 1.2 [2/2] [UU]\n      {line}\n      \n"));
        (array.state, array.synced)
    }

    #[test]
    fn work_is_told_by_its_line() {
        assert_eq!(syncing("[>...]  recovery =  8.5% (8/100) finish=17.0min speed=25K/sec"), ("recovering", Some(8)));
        assert_eq!(syncing("[==>...]  check = 10.5% (10/100) finish=17.0min speed=25K/sec"), ("check", Some(10)));
        assert_eq!(syncing("[==>...]  reshape = 10.5% (10/100) finish=17.0min speed=25K/sec"), ("reshape", Some(10)));
        assert_eq!(syncing("resync=DELAYED"), ("resync", Some(0)));
        assert_eq!(syncing("\tresync=PENDING"), ("resync", Some(0)));
        assert_eq!(syncing("resync=REMOTE"), ("resync", None));
        // A bitmap's line is none, in whichever order it stands.
        assert_eq!(syncing("bitmap: 0/30 pages [0KB], 65536KB chunk"), ("active", Some(100)));
        assert_eq!(
            syncing("bitmap: 0/30 pages [0KB], 65536KB chunk\n   [>..]  resync = 1.0% (1/100) finish=1.0min speed=1K/sec"),
            ("resync", Some(1))
        );
    }

    #[test]
    fn an_array_without_disks_has_no_size() {
        let array = one("md127 : inactive\n       \n");
        assert_eq!((array.state, array.blocks, array.required), ("inactive", None, Some(0)));
    }

    #[test]
    fn a_lost_disk_of_a_stripe_is_not_active() {
        let array = one("md1 : broken raid0 sda[0](F) sdb[1]\n      7 blocks super 1.2 512k chunks\n");
        assert_eq!((array.state, array.active, array.required, array.failed), ("broken", Some(1), Some(2), 1));
    }

    #[test]
    fn an_odd_line_costs_only_itself() {
        let mut odd = Vec::new();
        let text = "Personalities : [raid1]\nmd0 : active raid1 sda[0] sdb[1]\n      x blocks [2/2] [UU]\nmd1 is odd\nmd2 : asleep raid1 sda[0]\n\
                    md3 : active raid1 sdc[0] sdd[1](W)(S)\n      9 blocks [2/1] [U_]\n      resync=SOON\nunused devices: <none>\n";
        let arrays = read(text.as_bytes(), |line| odd.push(String::from_utf8_lossy(line).into_owned()));
        assert_eq!(arrays.iter().map(|array| &*array.name).collect::<Vec<_>>(), ["md0", "md3"]);
        assert_eq!((arrays[0].blocks, arrays[0].required), (None, Some(2)));
        assert_eq!((arrays[1].active, arrays[1].spare, arrays[1].state), (Some(1), 1, "resync"));
        assert_eq!(odd.len(), 4, "{odd:?}");
    }

    #[test]
    fn pairs() {
        assert_eq!(pair(b"9 blocks [UU] [x/y] [3/2] [UU_]", b'[', b']'), Some((3, 2)));
        assert_eq!(pair(b"[3/2", b'[', b']'), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "(md[0-9] : |  )?([a-z=/0-9()\\[\\]]{1,9} ?){0,6}\n( +[0-9]{1,22} blocks \\[[0-9]/[0-9]\\]\n)?") {
            let _ = (read(&bytes, |_| ()), read(text.as_bytes(), |_| ()));
        }
    }
}
