//! How far a route is acknowledged, on disk: one small JSON file a route, written as a whole and moved into place.
//!
//! ```text
//! <state>/cursors/<route, made safe for a file name>-<hash>.json
//! ```
//!
//! A cursor that cannot be read is moved aside and told; the route then begins as a new one, and what is sent again is recognised by its id.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::assemble::Run;
use super::steer::limit::Window;
use super::{ContainerId, Place, Stream};

/// The form of the file. A file of a later form is not guessed at.
const VERSION: u32 = 1;

/// Where a route is in one container's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Every entry before this place has been read; all of it is acknowledged but for what is held.
    pub place: Place,
    /// The greatest of Docker's times read so far: which of the containers that are gone is the oldest.
    pub time: i64,
    /// By stream, where an entry begins whose line is not complete: the reading of this stream begins there.
    pub held: [Option<Place>; 2],
    /// By stream, the lines that have the time of the last one.
    pub runs: [Option<Run>; 2],
    /// By stream, how far its rate is used up, where a label limits it.
    pub windows: [Option<Window>; 2],
}

/// All positions of a route, and what its sink wants to be kept with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    /// By container.
    pub containers: BTreeMap<ContainerId, Position>,
    /// `file://`: how long its output is.
    pub sink: Option<serde_json::Value>,
}

/// The file of a cursor.
#[derive(Debug)]
pub struct CursorFile {
    path: PathBuf,
    buffer: Vec<u8>,
}

/// What was found where a cursor should be.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A cursor.
    Cursor(Cursor),
    /// Nothing: the route is new.
    Nothing,
    /// Something that is no cursor of this form; it was moved aside. The sentence says what and where to.
    Odd(String),
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    version: u32,
    route: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sink: Option<serde_json::Value>,
    containers: BTreeMap<String, PositionOnDisk>,
}

#[derive(Serialize, Deserialize)]
struct PositionOnDisk {
    file: String,
    offset: u64,
    time: i64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    streams: BTreeMap<String, StreamOnDisk>,
}

#[derive(Serialize, Deserialize)]
struct StreamOnDisk {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<(String, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<Run>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<Window>,
}

/// A name for the file of a route: readable, safe, and another for every route.
#[must_use]
pub fn file_name(route: &str) -> String {
    let readable: String = route
        .chars()
        .take(40)
        .map(|character| if character.is_ascii_alphanumeric() || character == '-' { character } else { '_' })
        .collect();
    format!("{readable}-{:08x}", xxh3_64(route.as_bytes()) & 0xffff_ffff)
}

impl CursorFile {
    /// The cursor file of `route` below the state directory. Nothing is opened yet.
    #[must_use]
    pub fn new(state: &Path, route: &str) -> Self {
        Self { path: state.join("cursors").join(format!("{}.json", file_name(route))), buffer: Vec::new() }
    }

    /// Reads the cursor.
    ///
    /// # Errors
    /// When there is one and the system does not let it be read: a route must not begin anew for that.
    pub fn load(&self, route: &str) -> io::Result<Found> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            // Where there can be no directory, there is no cursor either.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        match parse(&text, route) {
            Ok(cursor) => Ok(Found::Cursor(cursor)),
            Err(why) => {
                let aside = self.path.with_extension("odd");
                fs::rename(&self.path, &aside)?;
                Ok(Found::Odd(format!("{}: {why}; it was moved to {}", self.path.display(), aside.display())))
            }
        }
    }

    /// Writes the cursor: to a file beside it, to the disk, and over the old one in one step.
    ///
    /// # Errors
    /// What the system said. The old cursor is then still there.
    pub fn save(&mut self, route: &str, cursor: &Cursor) -> io::Result<()> {
        self.buffer.clear();
        serde_json::to_writer(&mut self.buffer, &on_disk(route, cursor))?;
        self.buffer.push(b'\n');
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let beside = self.path.with_extension("new");
        // It says which containers ran here, and for file:// where the output is: nobody else's business.
        let create = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside);
        let mut file = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
                create()?
            }
            created => created?,
        };
        file.write_all(&self.buffer)?;
        file.sync_data()?;
        drop(file);
        fs::rename(&beside, &self.path)
    }
}

fn on_disk(route: &str, cursor: &Cursor) -> OnDisk {
    let containers = cursor.containers.iter().map(|(id, position)| {
        let mut streams = BTreeMap::new();
        for (stream, ((held, run), rate)) in Stream::ALL.iter().zip(position.held.iter().zip(&position.runs).zip(position.windows)) {
            if held.is_some() || run.is_some() || rate.is_some() {
                let held = held.map(|place| (place.file.to_string(), place.offset));
                streams.insert(stream.as_str().to_owned(), StreamOnDisk { held, run: run.clone(), rate });
            }
        }
        let position =
            PositionOnDisk { file: position.place.file.to_string(), offset: position.place.offset, time: position.time, streams };
        (id.as_str().to_owned(), position)
    });
    OnDisk { version: VERSION, route: route.to_owned(), sink: cursor.sink.clone(), containers: containers.collect() }
}

fn parse(text: &[u8], route: &str) -> Result<Cursor, String> {
    let whole: serde_json::Value = serde_json::from_slice(text).map_err(|error| format!("not a whole cursor file ({error})"))?;
    let version = whole.get("version").and_then(serde_json::Value::as_u64);
    if version != Some(VERSION.into()) {
        return Err(format!(
            "a cursor of form {}, and this skep reads form {VERSION}",
            version.map_or_else(|| "?".to_owned(), |form| form.to_string())
        ));
    }
    let found: OnDisk = serde_json::from_slice(text).map_err(|error| format!("not a cursor file ({error})"))?;
    if found.route != route {
        return Err(format!("the cursor of another route ({})", found.route));
    }
    let mut cursor = Cursor { sink: found.sink, ..Cursor::default() };
    for (id, position) in found.containers {
        let place = |file: &str, offset| {
            file.parse().map(|file| Place { file, offset }).map_err(|()| format!("'{file}' is no fingerprint of a file"))
        };
        let mut held = [None, None];
        let mut runs = [None, None];
        let mut windows = [None, None];
        for (stream, ((held, run), window)) in Stream::ALL.iter().zip(held.iter_mut().zip(runs.iter_mut()).zip(windows.iter_mut())) {
            if let Some(of) = position.streams.get(stream.as_str()) {
                *run = of.run.clone();
                *window = of.rate;
                *held = of.held.as_ref().map(|(file, offset)| place(file, *offset)).transpose()?;
            }
        }
        let id = ContainerId::new(&id).ok_or_else(|| format!("'{id}' is no id of a container"))?;
        let place = place(&position.file, position.offset)?;
        cursor.containers.insert(id, Position { place, time: position.time, held, runs, windows });
    }
    Ok(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Fingerprint;

    fn cursor() -> Cursor {
        let place = |hash, offset| Place { file: Fingerprint { first_time: 1_700_000_000_123_456_789, hash }, offset };
        let run = Run { time: 5, seen: vec![(u128::MAX, 1), (7, 3)] };
        let windows = [None, Some(Window { begin: -7, count: 3 })];
        let position = Position { place: place(1, 4096), time: 9, held: [None, Some(place(2, 17))], runs: [Some(run), None], windows };
        Cursor {
            containers: BTreeMap::from([(ContainerId::new(&"ab".repeat(32)).unwrap(), position)]),
            sink: Some(serde_json::json!({"length": 7})),
        }
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let state = tempfile::tempdir().unwrap();
        let mut file = CursorFile::new(state.path(), "es");
        assert_eq!(file.load("es").unwrap(), Found::Nothing);
        file.save("es", &cursor()).unwrap();
        assert_eq!(file.load("es").unwrap(), Found::Cursor(cursor()));
        let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777;
        assert_eq!((mode(&file.path), mode(file.path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn a_cursor_from_before_there_were_rates() {
        let text = format!(
            r#"{{"version":1,"route":"es","containers":{{"{}":{{"file":"5-{:016x}","offset":7,"time":9,"streams":{{"stderr":{{"held":["5-{:016x}",3]}}}}}}}}}}"#,
            "ab".repeat(32),
            1,
            1
        );
        let cursor = parse(text.as_bytes(), "es").unwrap();
        let position = cursor.containers.values().next().unwrap();
        assert_eq!((position.place.offset, position.held[1].map(|place| place.offset), position.windows), (7, Some(3), [None, None]));
    }

    #[test]
    fn what_is_no_cursor_is_moved_aside_and_told() {
        let state = tempfile::tempdir().unwrap();
        let mut file = CursorFile::new(state.path(), "es");
        file.save("es", &cursor()).unwrap();
        let whole = fs::read(&file.path).unwrap();
        let future = String::from_utf8(whole.clone()).unwrap().replace("\"version\":1", "\"version\":2");
        for odd in [&whole[..whole.len() / 2], b"", b"[]", future.as_bytes()] {
            fs::write(&file.path, odd).unwrap();
            assert!(matches!(file.load("es").unwrap(), Found::Odd(_)));
            assert_eq!(file.load("es").unwrap(), Found::Nothing);
        }
        file.save("other", &cursor()).unwrap();
        assert!(matches!(file.load("es").unwrap(), Found::Odd(_)), "the cursor of another route");
    }

    #[test]
    fn an_old_cursor_outlives_a_save_that_fails() {
        let state = tempfile::tempdir().unwrap();
        let mut file = CursorFile::new(state.path(), "es");
        file.save("es", &cursor()).unwrap();
        fs::create_dir(file.path.with_extension("new")).unwrap();
        file.save("es", &Cursor::default()).unwrap_err();
        assert_eq!(file.load("es").unwrap(), Found::Cursor(cursor()));
    }

    #[test]
    fn file_names_are_safe_and_differ() {
        assert_eq!(file_name("a/../b c").len(), "a____b_c-".len() + 8);
        assert_ne!(file_name("a/b"), file_name("a_b"));
        assert!(file_name("../../etc").chars().all(|character| character.is_ascii_alphanumeric() || "-_".contains(character)));
    }
}
