//! Any bytes as text files of users: a byte 0xff begins the next file.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use skep::collect;
use skep::config::Settings;
use skep::host::Root;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(skep_fuzz::place);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let files = bytes.split(|byte| *byte == 0xff).take(3);
    let mut paths = Vec::new();
    for (number, text) in files.enumerate() {
        let path = FOLDER.join(format!("{number}.prom"));
        fs::write(&path, text).unwrap();
        paths.push(path);
    }
    let mut settings = Settings::default();
    settings.set("collector.textfile.directory", vec![FOLDER.display().to_string()]);
    let entry = collect::ENTRIES.iter().find(|entry| entry.name == "textfile").unwrap();
    let none = || FOLDER.join("none");
    let root = Arc::new(Root { proc: none(), sys: none(), rootfs: none(), udev: none() });
    skep_fuzz::run(&mut *(entry.build)(&settings).unwrap(), &root);
    for path in paths {
        fs::remove_file(path).unwrap();
    }
});
