//! Any bytes in any file that a collector reads. Input: which reading, in two bytes, and then the bytes.
#![no_main]

use std::sync::LazyLock;

use skep_fuzz::Reading;

static READINGS: LazyLock<Vec<Reading>> = LazyLock::new(|| {
    let readings = skep_fuzz::readings();
    // Each reading with what the file has: where a run begins.
    if let Some(folder) = std::env::var_os("SKEP_FUZZ_SEEDS") {
        for (number, reading) in (0u16..).zip(&readings) {
            let seed = [&number.to_le_bytes(), reading.whole()].concat();
            std::fs::write(std::path::Path::new(&folder).join(format!("seed-{number}")), seed).unwrap();
        }
        std::fs::remove_dir_all(skep_fuzz::place()).unwrap();
        std::process::exit(0);
    }
    readings
});

libfuzzer_sys::fuzz_target!(init: { LazyLock::force(&READINGS); }, |bytes: &[u8]| {
    let Some((number, bytes)) = bytes.split_first_chunk() else { return };
    READINGS[usize::from(u16::from_le_bytes(*number)) % READINGS.len()].with(bytes);
});
