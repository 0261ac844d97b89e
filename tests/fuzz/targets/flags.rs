//! Any text as a command line, an argument a line, in skep's own form and in the old ones; and then as the settings of every part.
#![no_main]

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use skep::collect;
use skep::config::layers::{Surroundings, merge};
use skep::config::{Config, cli};

/// No environment; each file has the whole input in it.
struct Nothing<'a>(&'a [u8]);

impl Surroundings for Nothing<'_> {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, _: &Path) -> io::Result<String> {
        Ok(String::from_utf8_lossy(self.0).into_owned())
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let arguments = bytes.split(|byte| *byte == b'\n').map(|argument| OsString::from_vec(argument.to_vec()));
    let Ok(line) = cli::parse(arguments) else { return };
    let Ok(settings) = merge(&line.values, &Nothing(bytes)) else { return };
    drop(collect::build(&settings));
    drop(Config::of(settings));
});
