//! `node_zfs_*` from the kernel statistics of OpenZFS below `/proc/spl/kstat/zfs`, untyped as node_exporter has them, for the files do not say what counts up.
//! Source: `kstat(9)` of illumos, and `module/os/linux/spl/spl-kstat.c` of OpenZFS.

use std::collections::HashSet;

use super::names::{Found, Named, Names};
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, entry};
use crate::exposition::Writer;
use crate::host::{Reader, parse};
use crate::model::{Kind, LabelSet, Value};
use crate::present;

pub(super) const ENTRY: Entry = entry!("zfs", on, &[], |_| Ok(Box::new(Zfs { names: Names::default() })));

struct Zfs {
    names: Names,
}

const DIRECTORY: &str = "spl/kstat/zfs";

/// The files with what their families begin with. Which of them there are depends on the version of ZFS.
const FILES: [(&str, &str); 11] = [
    ("abdstats", "abd"),
    ("arcstats", "arc"),
    ("dbufstats", "dbuf"),
    ("dmu_tx", "dmu_tx"),
    ("dnodestats", "dnode"),
    ("fm", "fm"),
    ("vdev_cache_stats", "vdev_cache"),
    ("vdev_mirror_stats", "vdev_mirror"),
    ("xuio_stats", "xuio"),
    ("zfetchstats", "zfetch"),
    ("zil", "zil"),
];

const STATES: [&str; 7] = ["online", "degraded", "faulted", "offline", "removed", "unavail", "suspended"];

impl Collector for Zfs {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let entries = present!(host.proc_names(DIRECTORY));
        self.names.begin();
        for (file, begin) in FILES {
            if !entries.iter().any(|entry| entry == file) {
                continue;
            }
            match host.proc(&format!("{DIRECTORY}/{file}")) {
                Ok(bytes) => self.named(file, begin, bytes, out, odd),
                Err(error) => odd.unless_absent(&error),
            }
        }
        let directory = host.root().proc.join(DIRECTORY);
        // A directory for each pool, beside files that nobody asked for.
        let pools: Vec<&str> = entries.iter().map(String::as_str).filter(|entry| host.is_directory(&directory.join(entry))).collect();
        self.pools(&pools, host, out, odd);
        self.datasets(&pools, host, out, odd);
        Ok(Presence::Present)
    }
}

/// The lines of a file of names, types and values, behind its two lines of headings. Types are those of `KSTAT_DATA_*`: 3 is `int64`, 4 `uint64`, others are
/// passed over, but for the name of a data set. A file without headings is told.
fn statistics<'a>(
    file: &str,
    bytes: &'a [u8],
    odd: &mut Oddities,
    mut each: impl FnMut(&'a [u8], Value, &mut Oddities),
) -> Option<&'a [u8]> {
    let mut lines = parse::lines(bytes);
    if !lines.any(|line| parse::fields(line).eq([&b"name"[..], b"type", b"data"])) {
        odd.line(file, bytes);
    }
    let mut dataset = None;
    for line in lines {
        let mut fields = parse::fields(line);
        let (Some(name), Some(kind), Some(value)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let number = match kind {
            b"3" => parse::signed(value).map(Value::from),
            b"4" => parse::unsigned(value).map(Value::from),
            _ => {
                if name == b"dataset_name" {
                    // A name may have blanks in it, also several: it goes on from its first letter to the end of the line.
                    let rest = line.trim_ascii_start().get(name.len()..).unwrap_or_default();
                    dataset = rest.trim_ascii_start().get(kind.len()..).map(<[u8]>::trim_ascii_start);
                }
                continue;
            }
        };
        match number {
            Some(number) => each(name, number, odd),
            None => odd.line(file, line),
        }
    }
    dataset
}

/// The family of a statistic of ZFS: `kstat.zfs.misc.FILE.NAME` with a beginning of its own.
fn family(begin: &str, file: &str, name: &str) -> Named {
    Named { name: format!("node_{begin}_{}", name.replace('-', "_")), help: format!("kstat.zfs.misc.{file}.{name}") }
}

impl Zfs {
    /// A file with statistics of the whole module.
    fn named(&mut self, file: &str, begin: &str, bytes: &[u8], out: &mut Writer, odd: &mut Oddities) {
        let begin = format!("zfs_{begin}");
        let mut key = Vec::new();
        statistics(file, bytes, odd, |name, number, odd| {
            key.clear();
            key.extend_from_slice(file.as_bytes());
            key.push(b'/');
            key.extend_from_slice(name);
            match self.names.find(&key, |key| key.split_once('/').map(|(file, name)| family(&begin, file, name))) {
                Found::Wanted(Named { name, help }) => {
                    out.family(name, Kind::Untyped, help).sample(&[], number);
                }
                Found::Unwanted => {}
                Found::Odd => odd.line(file, name),
            }
        });
    }

    /// What pools read and wrote (`io`, which ZFS 2 has no more), and their states.
    fn pools(&mut self, pools: &[&str], host: &mut Reader, out: &mut Writer, odd: &mut Oddities) {
        let mut io = Rows::default();
        let mut states: Vec<(&str, String)> = Vec::new();
        // One that is exported while it is looked at takes its files along.
        for pool in pools {
            match host.proc(&format!("{DIRECTORY}/{pool}/io")) {
                Ok(bytes) => match columns(bytes) {
                    Some((names, numbers)) => {
                        let row = io.row(LabelSet::of([("zpool", *pool)]));
                        for (name, number) in names.zip(numbers) {
                            match parse::unsigned(number) {
                                Some(number) => io.put(row, name, number.into(), odd),
                                None => odd.line("io", number),
                            }
                        }
                    }
                    None => odd.line("io", bytes),
                },
                Err(error) => odd.unless_absent(&error),
            }
            match host.proc(&format!("{DIRECTORY}/{pool}/state")) {
                Ok(bytes) => {
                    let state = parse::text(parse::trimmed(bytes)).to_ascii_lowercase();
                    if !STATES.contains(&&*state) {
                        odd.line("state", bytes);
                    }
                    states.push((pool, state));
                }
                Err(error) => odd.unless_absent(&error),
            }
        }
        self.write(&io, "zfs_zpool", "io", out, odd);
        let mut family = out.family("node_zfs_zpool_state", Kind::Gauge, "kstat.zfs.misc.state");
        for (pool, state) in &states {
            for known in STATES {
                family.sample(&[("zpool", pool), ("state", known)], state == known);
            }
        }
    }

    /// The data sets of all pools, each in a file `objset-0x36`.
    fn datasets(&mut self, pools: &[&str], host: &mut Reader, out: &mut Writer, odd: &mut Oddities) {
        let mut rows = Rows::default();
        let mut known: HashSet<(&str, String)> = HashSet::new();
        for pool in pools {
            let files = match host.proc_names(&format!("{DIRECTORY}/{pool}")) {
                Ok(files) => files,
                Err(error) => {
                    odd.unless_absent(&error);
                    continue;
                }
            };
            for file in files.iter().filter(|file| file.starts_with("objset-")) {
                let bytes = match host.proc(&format!("{DIRECTORY}/{pool}/{file}")) {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        odd.unless_absent(&error);
                        continue;
                    }
                };
                let mut found: Vec<(&[u8], Value)> = Vec::new();
                let Some(name) = statistics(file, bytes, odd, |name, number, _| found.push((name, number))) else { continue };
                let name = parse::text(name).into_owned();
                let labels = LabelSet::of([("zpool", *pool), ("dataset", &*name)]);
                if !known.insert((pool, name)) {
                    odd.tell(&format_args!("{pool}/{file}: a data set that is there already"));
                    continue;
                }
                let row = rows.row(labels);
                for (name, number) in found {
                    rows.put(row, name, number, odd);
                }
            }
        }
        self.write(&rows, "zfs_zpool_dataset", "objset", out, odd);
    }

    fn write(&mut self, rows: &Rows, begin: &str, file: &str, out: &mut Writer, odd: &mut Oddities) {
        for (column, name) in rows.columns.iter().enumerate() {
            // Of another kind than those of the files above, which have one slash.
            let key = [file.as_bytes(), b"//", name].concat();
            let Found::Wanted(named) = self.names.find(&key, |key| key.split_once("//").map(|(file, name)| family(begin, file, name)))
            else {
                odd.line(file, name);
                continue;
            };
            let mut family = out.family(&named.name, Kind::Untyped, &named.help);
            for (labels, values) in &rows.rows {
                if let Some(Some(value)) = values.get(column) {
                    family.sample_of(labels, &[], *value);
                }
            }
        }
    }
}

/// The names and the numbers of an `io`: two lines behind one that tells of the file itself.
fn columns(bytes: &[u8]) -> Option<(impl Iterator<Item = &[u8]>, impl Iterator<Item = &[u8]>)> {
    let mut lines = parse::lines(bytes);
    let names = lines.find(|line| parse::fields(line).next() == Some(b"nread"))?;
    let numbers = lines.next()?;
    (parse::fields(names).count() == parse::fields(numbers).count()).then(|| (parse::fields(names), parse::fields(numbers)))
}

/// Numbers of many things (there may be thousands of data sets) under names that are known only when they were read.
#[derive(Default)]
struct Rows {
    columns: Vec<Box<[u8]>>,
    rows: Vec<(LabelSet, Vec<Option<Value>>)>,
}

impl Rows {
    /// More columns than any version of ZFS has.
    const MOST_COLUMNS: usize = 256;

    fn row(&mut self, labels: LabelSet) -> usize {
        self.rows.push((labels, Vec::new()));
        self.rows.len() - 1
    }

    /// A number of a row. The second of one name counts. A column more than there may be is told.
    fn put(&mut self, row: usize, name: &[u8], value: Value, odd: &mut Oddities) {
        let column = match self.columns.iter().position(|known| **known == *name) {
            Some(column) => column,
            None if self.columns.len() >= Self::MOST_COLUMNS => return odd.line("one column too many", name),
            None => {
                self.columns.push(name.into());
                self.columns.len() - 1
            }
        };
        let Some((_, values)) = self.rows.get_mut(row) else { return };
        if values.len() <= column {
            values.resize(column + 1, None);
        }
        if let Some(slot) = values.get_mut(column) {
            *slot = Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> (Vec<(String, Value)>, Option<String>, u64) {
        let (mut found, mut odd) = (Vec::new(), Oddities::default());
        let dataset = statistics("x", bytes, &mut odd, |name, number, _| found.push((parse::text(name).into_owned(), number)));
        (found, dataset.map(|name| parse::text(name).into_owned()), odd.count)
    }

    #[test]
    fn types_and_names() {
        let (found, dataset, odd) =
            read(b"1 1 0x01\nname  type data\na 4 7\nb 3 -7\nc 7 text\nd 4 x\ndataset_name   7    7 pool/a  b c\ne 4\n");
        assert_eq!(found, [("a".to_owned(), Value::Unsigned(7)), ("b".to_owned(), Value::Signed(-7))]);
        assert_eq!(dataset.as_deref(), Some("7 pool/a  b c"));
        assert_eq!(odd, 1);
        assert_eq!(read(b"a 4 7\n").2, 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "name type data\n([a-z_]{1,4}( [0-9]{1,3}){0,3}\n){0,6}", pool in "nread( [a-z]{1,3}){0,4}\n([0-9x]{1,3} ?){0,5}\n") {
            read(&bytes);
            read(text.as_bytes());
            for bytes in [&*bytes, pool.as_bytes()] {
                let _ = columns(bytes).map(|(names, numbers)| names.zip(numbers).count());
            }
        }
    }
}
