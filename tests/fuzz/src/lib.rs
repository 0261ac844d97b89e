//! What the fuzz targets share: trees of machines in memory, and which collectors read which of their files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep::collect::{self, Collector, Pass};
use skep::config::Settings;
use skep::exposition::{Writer, openmetrics};
use skep::host::{Reader, Root};

#[path = "../../support/tree.rs"]
mod tree;

/// The folder of the recorded machines.
const MACHINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/host");

/// A place for files that are written a thousand times a second.
#[must_use]
pub fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let place = parent.join(format!("skep-fuzz-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    place
}

/// A collector, and a file that it reads.
pub struct Reading {
    entry: &'static collect::Entry,
    settings: Arc<Settings>,
    root: Arc<Root>,
    path: PathBuf,
    whole: Vec<u8>,
}

/// Every collector with every file that it opens of every recorded machine, in an order that stays as long as the machines do.
#[must_use]
pub fn readings() -> Vec<Reading> {
    let place = place();
    let mut names: Vec<_> = fs::read_dir(MACHINES).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort_unstable();
    let mut readings = Vec::new();
    for name in names {
        let directory = place.join(&name);
        let files: BTreeSet<PathBuf> = tree::copy(&Path::new(MACHINES).join(&name), &directory).into_iter().collect();
        let below = |name: &str| directory.join(name);
        let root = Arc::new(Root { proc: below("proc"), sys: below("sys"), rootfs: below("root"), udev: below("udev") });
        let settings = Arc::new(tree::everything(&directory));
        let watch = tree::Watch::over(&directory);
        for entry in collect::ENTRIES {
            watch.opened();
            run(&mut *(entry.build)(&settings).unwrap(), &root);
            for file in watch.opened().intersection(&files) {
                let path = directory.join(file);
                let whole = fs::read(&path).unwrap();
                readings.push(Reading { entry, settings: Arc::clone(&settings), root: Arc::clone(&root), path, whole });
            }
        }
    }
    readings
}

impl Reading {
    /// What the file has when nobody has touched it.
    #[must_use]
    pub fn whole(&self) -> &[u8] {
        &self.whole
    }

    /// Reads twice with other bytes in the file, then once more with its own: whatever comes of it is an exposition.
    pub fn with(&self, bytes: &[u8]) {
        fs::write(&self.path, bytes).unwrap();
        let mut collector = (self.entry.build)(&self.settings).unwrap();
        run(&mut *collector, &self.root);
        run(&mut *collector, &self.root);
        fs::write(&self.path, &self.whole).unwrap();
        run(&mut *collector, &self.root);
    }
}

/// Runs a collector and looks at what it writes.
pub fn run(collector: &mut dyn Collector, root: &Arc<Root>) {
    let mut reader = Reader::new(Arc::clone(root));
    let mut writer = Writer::new(Arc::default());
    let mut pass = Pass::new(&mut reader, &mut writer);
    drop(collector.collect(&mut pass));
    let text = std::str::from_utf8(writer.text()).expect("UTF-8");
    check(text);
    check_open(&openmetrics::of_text(text.as_bytes()));
}

/// Every line is of its form, no sample is there twice, and the samples of a family follow its head.
pub fn check(text: &str) {
    let (mut families, mut samples, mut family) = (BTreeSet::new(), BTreeSet::new(), "");
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# HELP ") {
            family = head.split(' ').next().unwrap();
            assert!(families.insert(family), "family twice: {line}");
        } else if let Some(head) = line.strip_prefix("# TYPE ") {
            assert_eq!(head.split(' ').next().unwrap(), family);
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().unwrap();
            let suffix = name.strip_prefix(family).unwrap_or("another family");
            assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "of {family}: {line}");
            assert!(samples.insert(series), "sample twice: {line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert_eq!(series.contains('{'), series.ends_with('}'), "{line}");
        }
    }
}

/// OpenMetrics ends in its mark.
pub fn check_open(text: &[u8]) {
    assert!(text.ends_with(b"# EOF\n"));
}
