//! `node_bcachefs_*` from `/sys/fs/bcachefs/<uuid>`. Sources: bcachefs' `fs/bcachefs/sysfs.c`, `sb-counters.c`, `sb-errors.c` and its "Principles of Operation".

use super::families::Families;
use super::{AS_NODE_EXPORTER, CollectError, Collector, Entry, Oddities, Pass, Presence, entry, storage};
use crate::config::Settings;
use crate::host::{Reader, parse};
use crate::present;

pub(super) const ENTRY: Entry = entry!("bcachefs", on, &[], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Bcachefs { as_node_exporter: settings.is_on(AS_NODE_EXPORTER.name) }))
}

struct Bcachefs {
    as_node_exporter: bool,
}

impl Collector for Bcachefs {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let names = present!(pass.host.sys_names("fs/bcachefs"));
        let (host, out, odd) = pass.split();
        let mut families = Families::default();
        for uuid in &names {
            let directory = format!("fs/bcachefs/{uuid}");
            // A file among them, and one that was unmounted since, has no names in it.
            let children = storage::names(host, odd, &directory);
            if children.is_empty() {
                continue;
            }
            let mut one = One { host, odd, families: &mut families, uuid, directory };
            one.whole(self.as_node_exporter);
            one.counters();
            for (child, device) in children.iter().filter_map(|child| Some((child, child.strip_prefix("dev-")?))) {
                one.device(child, device);
            }
        }
        families.write(out);
        Ok(if families.is_empty() { Presence::Absent } else { Presence::Present })
    }
}

/// A file system that is being read.
struct One<'a> {
    host: &'a mut Reader,
    odd: &'a mut Oddities,
    families: &'a mut Families,
    uuid: &'a str,
    directory: String,
}

impl One<'_> {
    /// What is of the file system as a whole.
    fn whole(&mut self, as_node_exporter: bool) {
        let uuid = ("uuid", self.uuid);
        self.families.gauge("node_bcachefs_info", "Filesystem information.", &[uuid], 1u64);
        let file = format!("{}/btree_cache_size", self.directory);
        if let Some(size) = storage::read_as(self.host, self.odd, &file, bytes) {
            self.families.gauge("node_bcachefs_btree_cache_size_bytes", "Btree cache memory usage in bytes.", &[uuid], size);
        }
        self.lines("compression_stats", |families, fields| {
            let [algorithm, compressed, uncompressed] = fields.get(..3)?.try_into().ok()?;
            let (compressed, uncompressed) = (bytes(compressed)?, bytes(uncompressed)?);
            let labels = [uuid, ("algorithm", &*word(algorithm))];
            families.gauge("node_bcachefs_compression_compressed_bytes", "Compressed size by algorithm.", &labels, compressed);
            families.gauge("node_bcachefs_compression_uncompressed_bytes", "Uncompressed size by algorithm.", &labels, uncompressed);
            Some(())
        });
        self.lines("errors", |families, fields| {
            let [name, count] = fields.get(..2)?.try_into().ok()?;
            let count = error_count(count, fields.len() == 2 && !as_node_exporter)?;
            let labels = [uuid, ("error_type", &*word(name))];
            families.counter("node_bcachefs_errors_total", "Error count by error type.", &labels, count);
            Some(())
        });
        self.lines("btree_write_stats", |families, fields| {
            let [kind, count, size] = fields.get(..3)?.try_into().ok()?;
            let (count, size) = (parse::unsigned(count)?, bytes(size)?);
            let labels = [uuid, ("type", &*word(kind))];
            families.counter("node_bcachefs_btree_writes_total", "Number of btree writes by type.", &labels, count);
            families.gauge("node_bcachefs_btree_write_average_size_bytes", "Average btree write size by type.", &labels, size);
            Some(())
        });
    }

    /// The lines of a file, each as its fields, given to `take`, which adds what they say. The first line, which may be a heading, and lines of one word
    /// are passed over when `take` refuses them; any other is odd.
    fn lines(&mut self, file: &str, mut take: impl FnMut(&mut Families, &[&[u8]]) -> Option<()>) {
        let file = format!("{}/{file}", self.directory);
        let Some(text) = storage::file(self.host, self.odd, &file) else { return };
        for (number, line) in parse::lines(text).enumerate() {
            let fields: Vec<&[u8]> = parse::fields(line).take(4).collect();
            if take(self.families, &fields).is_none() && number > 0 && fields.len() > 1 {
                self.odd.line(&file, line);
            }
        }
    }

    /// The counters, each a file and a family of its own. There are over a hundred, other ones with each version.
    fn counters(&mut self) {
        let directory = format!("{}/counters", self.directory);
        for counter in storage::names(self.host, self.odd, &directory) {
            let file = format!("{directory}/{counter}");
            let Some(text) = storage::file(self.host, self.odd, &file) else { continue };
            match counter_value(text) {
                Some(value) => {
                    let name = format!("node_bcachefs_{}_total", as_name(&counter));
                    let help = format!("Bcachefs counter {counter} since filesystem creation.");
                    self.families.counter(&name, &help, &[("uuid", self.uuid)], value);
                }
                None => self.odd.line(&file, text),
            }
        }
    }

    /// A device: `<uuid>/dev-<device>`.
    fn device(&mut self, child: &str, device: &str) {
        let directory = format!("{}/{child}", self.directory);
        let labels = [("uuid", self.uuid), ("device", device)];
        let [label, state] =
            ["label", "state"].map(|file| storage::text(self.host, self.odd, &format!("{directory}/{file}")).unwrap_or_default());
        self.families.gauge(
            "node_bcachefs_device_info",
            "Device information.",
            &[("uuid", self.uuid), ("device", device), ("label", &label), ("state", &state)],
            1u64,
        );
        for (file, name, help) in [
            ("bucket_size", "node_bcachefs_device_bucket_size_bytes", "Bucket size in bytes."),
            ("nbuckets", "node_bcachefs_device_buckets", "Total number of buckets."),
            ("durability", "node_bcachefs_device_durability", "Device durability setting."),
        ] {
            if let Some(number) = storage::read_as(self.host, self.odd, &format!("{directory}/{file}"), bytes) {
                self.families.gauge(name, help, &labels, number);
            }
        }

        let file = format!("{directory}/io_done");
        let mut operation = None;
        for line in storage::file(self.host, self.odd, &file).map(parse::lines).into_iter().flatten() {
            let Some((key, value)) = key_and_value(line) else { continue };
            match (operation, parse::unsigned(value)) {
                _ if value.is_empty() => operation = ["read", "write"].into_iter().find(|known| known.as_bytes() == key),
                (Some(operation), Some(number)) => {
                    self.families.counter(
                        "node_bcachefs_device_io_done_bytes_total",
                        "IO bytes by operation type and data type.",
                        &[labels[0], labels[1], ("operation", operation), ("data_type", &word(key))],
                        number,
                    );
                }
                (Some(_), None) => self.odd.line(&file, line),
                (None, _) => {}
            }
        }

        let file = format!("{directory}/io_errors");
        let mut is_total = false;
        for line in storage::file(self.host, self.odd, &file).map(parse::lines).into_iter().flatten() {
            if line.starts_with(b"IO errors since ") {
                // The second part counts from when somebody reset it.
                is_total = line.starts_with(b"IO errors since filesystem creation");
            } else if is_total && let Some((key, value)) = key_and_value(line) {
                match parse::unsigned(value) {
                    Some(number) => {
                        self.families.counter(
                            "node_bcachefs_device_io_errors_total",
                            "IO errors by error type.",
                            &[labels[0], labels[1], ("type", &word(key))],
                            number,
                        );
                    }
                    None => self.odd.line(&file, line),
                }
            }
        }
    }
}

/// A word as a label: without the colon of a table's first column.
fn word(field: &[u8]) -> std::borrow::Cow<'_, str> {
    parse::text(field.strip_suffix(b":").unwrap_or(field))
}

fn key_and_value(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
    Some((key.trim_ascii(), value.strip_prefix(b":")?.trim_ascii()))
}

/// A size as bcachefs prints it for people: `720`, `28.2k`, `10.8T`. Three digits are all that is known of it.
fn bytes(field: &[u8]) -> Option<f64> {
    let (letter, number) = match field.split_last() {
        Some((letter, number)) if letter.is_ascii_alphabetic() => (Some(*letter), number),
        _ => (None, field),
    };
    let factor = match letter {
        Some(b'K') => 1024.0,
        Some(letter) => storage::binary_prefix(letter.to_ascii_uppercase()).or_else(|| storage::binary_prefix(letter))?,
        None => 1.0,
    };
    Some(storage::whole(storage::decimal(number.trim_ascii())? * factor))
}

/// The count in a line of `errors`, of which the time of the last one stands behind it. A count that fills its column leaves no blank between the two: then the
/// last ten digits are the time (in seconds since 1970, which has ten from 2001 to 2286).
fn error_count(field: &[u8], is_alone: bool) -> Option<u64> {
    const TIME: usize = 10;
    match field.len().checked_sub(TIME) {
        Some(length) if is_alone && length > 0 => {
            let (count, time) = field.split_at_checked(length)?;
            parse::unsigned(time)?;
            parse::unsigned(count)
        }
        _ => parse::unsigned(field),
    }
}

/// The value of a counter's file since the file system was made; its other line counts since it was mounted.
fn counter_value(text: &[u8]) -> Option<f64> {
    let (_, value) = parse::lines(text).filter_map(key_and_value).find(|(key, _)| *key == b"since filesystem creation")?;
    bytes(value)
}

/// A counter's name as a part of a family's: anything but letters, digits and underscores becomes an underscore.
fn as_name(counter: &str) -> String {
    counter.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_as_bcachefs_prints_them() {
        for (text, expected) in [
            ("720", 720.0),
            ("28.2k", 28876.0),
            ("512k", 524_288.0),
            ("512K", 524_288.0),
            ("2.00M", 2_097_152.0),
            ("2.05G", 2_201_170_739.0),
        ] {
            assert_eq!(bytes(text.as_bytes()), Some(expected), "{text}");
        }
        for odd in ["", "k", "-1", "1x", "inf", "NaN", "1e5", "1.2.3k"] {
            assert_eq!(bytes(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn a_count_that_ran_into_its_time() {
        assert_eq!(error_count(b"11299659571772285102", true), Some(1_129_965_957));
        assert_eq!(error_count(b"4517", false), Some(4517));
        assert_eq!(error_count(b"4517", true), Some(4517));
        assert_eq!(error_count(b"11299659571772285102", false), Some(11_299_659_571_772_285_102));
        assert_eq!(error_count(b"x1772285102", true), None);
    }

    #[test]
    fn counters_are_named_by_their_files() {
        assert_eq!(as_name("data-read.ü_2"), "data_read___2");
        assert_eq!(counter_value(b"since mount: 1\nsince filesystem creation:     44.5T\n"), Some(48_928_267_436_032.0));
        assert_eq!(counter_value(b"since mount: 1\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(text: Vec<u8>, field in "[0-9]{0,30}\\.?[0-9]{0,3}[kKMGTPE]?", alone: bool) {
            let _ = (bytes(&text), error_count(&text, alone), counter_value(&text), key_and_value(&text));
            let _ = (bytes(field.as_bytes()), error_count(field.as_bytes(), alone));
        }
    }
}
