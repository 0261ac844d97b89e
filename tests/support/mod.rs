//! What the tests of this crate share: recorded machines, collectors run over them, and golden files.

pub(crate) mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep::collect::{self, CollectError, Collector, Pass, Presence};
use skep::config::Settings;
use skep::exposition::Writer;
use skep::host::{Reader, Root};

/// A path below `tests/`.
pub(crate) fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(relative)
}

/// The trees of a recorded machine.
pub(crate) fn recorded(machine: &str) -> Root {
    at(&path("fixtures/host").join(machine))
}

/// The trees below a directory.
pub(crate) fn at(directory: &Path) -> Root {
    Root { proc: directory.join("proc"), sys: directory.join("sys"), rootfs: directory.join("root"), udev: directory.join("udev") }
}

/// The default of every flag, with `given` laid over it.
pub(crate) fn settings(given: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::default();
    for flag in collect::flags() {
        if let Some(default) = flag.default {
            settings.set(flag.name, vec![default.to_owned()]);
        }
    }
    for (name, value) in given {
        settings.set(name, vec![(*value).to_owned()]);
    }
    settings
}

/// What a collector gave in one pass.
pub(crate) struct Collected {
    pub(crate) result: Result<Presence, CollectError>,
    pub(crate) text: String,
    pub(crate) oddities: u64,
    pub(crate) example: String,
}

/// Runs a collector once over the trees of `root`.
pub(crate) fn run(collector: &mut dyn Collector, root: Root) -> Collected {
    let mut reader = Reader::new(Arc::new(root));
    let mut writer = Writer::new(Arc::default());
    let mut pass = Pass::new(&mut reader, &mut writer);
    let result = collector.collect(&mut pass);
    let (oddities, example) = pass.oddities();
    Collected { result, text: String::from_utf8(writer.text().to_vec()).unwrap(), oddities, example }
}

/// Every line of an exposition is of its form, no sample is there twice, and the samples of a family follow its head.
pub(crate) fn check_exposition(text: &str) {
    let mut samples = std::collections::BTreeSet::new();
    let mut families = std::collections::BTreeSet::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# HELP ") {
            family = head.split(' ').next().unwrap();
            assert!(families.insert(family), "family twice: {line}");
        } else if let Some(head) = line.strip_prefix("# TYPE ") {
            assert_eq!(head.split(' ').next().unwrap(), family);
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(samples.insert(series), "sample twice: {line}");
            let name = series.split('{').next().unwrap();
            let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("of {family}: {line}"));
            assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "of {family}: {line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}

/// Compares with `tests/golden/NAME`, or writes it when `UPDATE_GOLDEN=1` is in the environment.
pub(crate) fn golden(name: &str, text: &str) {
    let file = path("golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|wish| wish == "1") {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", file.display()));
    for (number, (expected, found)) in expected.lines().zip(text.lines()).enumerate() {
        assert_eq!(expected, found, "{name}, line {}", number + 1);
    }
    assert_eq!(expected.lines().count(), text.lines().count(), "{name}: other number of lines");
}
