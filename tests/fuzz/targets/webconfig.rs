//! Any text as the file of `--web.config.file`.
#![no_main]

use std::path::Path;

libfuzzer_sys::fuzz_target!(|text: &str| drop(skep::config::web::parse(text, Path::new("/nonexistent"))));
