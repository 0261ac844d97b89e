//! The invariants at the top of `src/lib.rs`, as far as they can be seen in the source.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on fails"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Every source file with its code only: without comments, and without the tests at its end.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                // Tests in files of their own.
                if path.file_name().is_some_and(|name| name != "tests") {
                    folders.push(path);
                }
            } else if path.file_name().is_some_and(|name| name == "tests.rs") {
                continue;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let lines: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
                found.push((path.strip_prefix(&root).unwrap().display().to_string(), lines.join("\n")));
            }
        }
    }
    assert!(found.len() > 30, "the sources are found");
    found
}

/// The files below one of `folders` in which one of `words` stands, but for those in `but`.
fn offenders(folders: &[&str], words: &[&str], but: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, code) in sources() {
        let inside = folders.is_empty() || folders.iter().any(|folder| path.starts_with(folder));
        if !inside || but.iter().any(|exempt| path.starts_with(exempt)) {
            continue;
        }
        for word in words {
            if code.contains(word) {
                found.push(format!("{path}: {word}"));
            }
        }
    }
    found
}

#[test]
fn only_host_opens_host_files() {
    // Sockets to the kernel and to system services are as good as files of the host.
    let opens =
        ["std::fs", "File::open", "fs::read", "rustix::fs::open", "rustix::net", "std::net::T", "std::net::U", "std::os::unix::net"];
    assert_eq!(
        offenders(&["collect/", "cgroup/", "containers/", "exposition/", "model/", "swarm/node"], &opens, &[]),
        Vec::<String>::new()
    );
}

#[test]
fn host_paths_are_below_a_root() {
    let absolute =
        ["new(\"/", "join(\"/", "from(\"/", "open(\"/", "read(\"/", "read_to_string(\"/", "read_link(\"/", "read_dir(\"/", "proc(\"/"];
    // host/namespaces.rs asks for this process' own namespace, and host/sys.rs for its own code: no host files.
    let exempt = ["host/root.rs", "host/namespaces.rs", "host/sys.rs"];
    assert_eq!(offenders(&["collect/", "cgroup/", "containers/", "host/"], &absolute, &exempt), Vec::<String>::new());
}

#[test]
fn collectors_are_synchronous_and_know_nothing_of_docker_or_http() {
    let words = ["async ", ".await", "crate::docker", "crate::http", "tokio", "hyper", "bollard"];
    assert_eq!(offenders(&["collect/", "cgroup/", "model/"], &words, &[]), Vec::<String>::new());
}

#[test]
fn a_cgroup_is_never_taken_from_proc_pid_cgroup() {
    assert_eq!(offenders(&["cgroup/", "containers/"], &["self/cgroup", "}/cgroup", "1/cgroup"], &[]), Vec::<String>::new());
}

#[test]
fn no_api_call_inside_a_scrape() {
    // The thread behind disk usage is no part of a scrape, and the option is named after the engine.
    let exempt = ["containers/disk/task.rs", "containers/disk/options.rs", "containers/disk/plan.rs"];
    let words = ["Engine", "docker::api", "bollard"];
    assert_eq!(offenders(&["containers/", "exposition/", "collect/"], &words, &exempt), Vec::<String>::new());
}

#[test]
fn model_depends_on_nothing() {
    assert_eq!(offenders(&["model/"], &["use crate::", "std::fs", "std::net", "tokio"], &[]), Vec::<String>::new());
}

#[test]
fn assembly_and_records_know_no_clock() {
    let clocks = ["SystemTime", "Instant", "rand"];
    assert_eq!(
        offenders(&["logs/assemble.rs", "logs/record.rs", "logs/reader/", "logs/enrich.rs", "logs/steer/"], &clocks, &[]),
        Vec::<String>::new()
    );
}

#[test]
fn unsafe_code_stands_in_one_file() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"deny\""));
    assert_eq!(offenders(&[], &["unsafe ", "unsafe{", "allow(unsafe_code", "expect(unsafe_code"], &["host/sys.rs"]), Vec::<String>::new());
}

#[test]
fn no_unwrap_outside_tests() {
    assert_eq!(offenders(&[], &[".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!("], &[]), Vec::<String>::new());
}

#[test]
fn every_invariant_is_written_down() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for number in 1..=13 {
        assert!(map.contains(&format!("//! {number:2}. ")), "invariant {number}");
    }
}
