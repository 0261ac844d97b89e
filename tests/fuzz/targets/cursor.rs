//! Any bytes as a cursor file. One that is read is written and read again as the same.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use skep::logs::cursor::{CursorFile, Found, file_name};

const ROUTE: &str = "stdout";

static STATE: LazyLock<std::path::PathBuf> = LazyLock::new(|| {
    let state = skep_fuzz::place();
    fs::create_dir_all(state.join("cursors")).unwrap();
    state
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fs::write(STATE.join("cursors").join(format!("{}.json", file_name(ROUTE))), bytes).unwrap();
    let mut file = CursorFile::new(&STATE, ROUTE);
    if let Found::Cursor(cursor) = file.load(ROUTE).unwrap() {
        file.save(ROUTE, &cursor).unwrap();
        assert_eq!(file.load(ROUTE).unwrap(), Found::Cursor(cursor));
    }
});
