//! Processes and their threads: what there is, and the state of each.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::read::fill_once;
use super::{ReadError, Reader, parse};

/// A line of `<proc>/<pid>/stat` or of `<proc>/<pid>/task/<tid>/stat`, as far as it is needed. Source: proc_pid_stat(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// `R`, `S`, `D`, ...
    pub state: u8,
    /// How many threads its process has.
    pub threads: u64,
}

impl Task {
    /// Reads a line; `None` when it is none. The name of the program stands between brackets and may have brackets and blanks in it, so what is asked
    /// for begins behind the last one.
    #[must_use]
    pub fn of(line: &[u8]) -> Option<Self> {
        let (_, rest) = line.split_at_checked(memchr::memrchr(b')', line)? + 1)?;
        let mut fields = parse::fields(rest);
        let [state] = *fields.next()? else { return None };
        let threads = fields.nth(16).and_then(parse::unsigned)?;
        state.is_ascii_alphabetic().then_some(Self { state, threads })
    }
}

impl Reader {
    /// The numbers of the processes that `<proc>` shows now.
    ///
    /// # Errors
    /// [`ReadError`] when the directory cannot be opened or read.
    pub fn pids(&mut self) -> Result<Vec<u32>, ReadError> {
        self.path.clone_from(&self.root.proc);
        self.numbered().map_err(|error| self.below_proc(error))
    }

    /// The numbers of the threads that a process has now, its own among them.
    ///
    /// # Errors
    /// [`ReadError`], [absent](ReadError::is_absent) when the process has ended.
    pub fn thread_ids(&mut self, pid: u32) -> Result<Vec<u32>, ReadError> {
        self.set_task(pid, None, "task");
        self.numbered()
    }

    /// The line of a process, or of one of its threads: one `read(2)`, for it is never longer than a page. `None` when it cannot be understood.
    ///
    /// # Errors
    /// [`ReadError`], [absent](ReadError::is_absent) when the process or the thread has ended.
    pub fn task(&mut self, pid: u32, thread: Option<u32>) -> Result<Option<Task>, ReadError> {
        self.set_task(pid, thread, "stat");
        match fill_once(&self.path, &mut self.buffer) {
            Ok(()) => Ok(Task::of(&self.buffer)),
            Err(source) => Err(ReadError { path: self.path.clone(), source }),
        }
    }

    /// Whether processes have directories of threads in `<proc>`, by those of the first one.
    #[must_use]
    pub fn shows_threads(&mut self) -> bool {
        self.set_task(1, None, "task");
        self.path.is_dir()
    }

    fn set_task(&mut self, pid: u32, thread: Option<u32>, file: &str) {
        self.path.clone_from(&self.root.proc);
        self.path.push(itoa::Buffer::new().format(pid));
        if let Some(thread) = thread {
            self.path.push("task");
            self.path.push(itoa::Buffer::new().format(thread));
        }
        self.path.push(file);
    }

    /// The names in the directory at `self.path` that are numbers.
    fn numbered(&self) -> Result<Vec<u32>, ReadError> {
        let read = || -> io::Result<Vec<u32>> {
            let mut numbers = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                let number = parse::unsigned(entry?.file_name().as_bytes()).and_then(|number| u32::try_from(number).ok());
                numbers.extend(number);
            }
            Ok(numbers)
        };
        read().map_err(|source| ReadError { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Root;
    use proptest::prelude::*;
    use std::sync::Arc;

    #[test]
    fn a_name_may_have_brackets_in_it() {
        let line = b"7 (a) R (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 12 0 29";
        assert_eq!(Task::of(line), Some(Task { state: b'S', threads: 12 }));
        for odd in [&b"7 a S 1 7"[..], b"7 (a) S 1 7 7 0", b"7 (a) SS 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 12", b""] {
            assert_eq!(Task::of(odd), None);
        }
    }

    #[test]
    fn this_process_is_among_them() {
        let mut reader = Reader::new(Arc::new(Root::find(Some("/proc".into()), None, None, None)));
        let own = std::process::id();
        assert!(reader.pids().unwrap().contains(&own) && reader.shows_threads());
        let threads = reader.thread_ids(own).unwrap();
        assert!(threads.contains(&own));
        assert!(reader.task(own, Some(own)).unwrap().is_some_and(|task| task.threads >= 1));
        assert!(reader.task(own, None).unwrap().is_some());
    }

    #[test]
    fn what_ended_is_absent() {
        let mut reader = Reader::new(Arc::new(Root::find(Some("/proc".into()), None, None, None)));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(reader.task(child.id(), None).unwrap_err().is_absent());
        assert!(reader.thread_ids(child.id()).unwrap_err().is_absent());
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>, text in "[0-9()a-zA-Z -]{0,80}") {
            let _ = (Task::of(&line), Task::of(text.as_bytes()));
        }
    }
}
