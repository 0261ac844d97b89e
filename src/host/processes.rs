//! Processes and their threads: what there is, and the state of each.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::read::{fill, fill_once};
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

/// The open files of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenFiles {
    /// All of them.
    pub all: u64,
    /// Those that are sockets; `None` when the kernel does not say what the files are.
    pub sockets: Option<u64>,
}

impl Reader {
    /// Reads `<proc>/<pid>/name`.
    ///
    /// # Errors
    /// [`ReadError`], [absent](ReadError::is_absent) when the process has ended.
    pub fn process_file(&mut self, pid: u32, name: &str) -> Result<&[u8], ReadError> {
        self.set_task(pid, None, name);
        match fill(&self.path, &mut self.buffer) {
            Ok(()) => Ok(&self.buffer),
            Err(source) => Err(ReadError { path: self.path.clone(), source }),
        }
    }

    /// Reads `<proc>/<pid>/task/<tid>/schedstat`.
    ///
    /// # Errors
    /// As [`Reader::process_file`], of the thread.
    pub fn thread_schedstat(&mut self, pid: u32, thread: u32) -> Result<&[u8], ReadError> {
        self.set_task(pid, Some(thread), "schedstat");
        match fill_once(&self.path, &mut self.buffer) {
            Ok(()) => Ok(&self.buffer),
            Err(source) => Err(ReadError { path: self.path.clone(), source }),
        }
    }

    /// Counts `<proc>/<pid>/fd`. Listing it takes the process' user or `CAP_DAC_OVERRIDE`; where that is refused the directory's size tells the number (since Linux
    /// 6.2), and one more for each `accept(2)` that waits, which holds a number already.
    /// What a file is takes the rights of `ptrace(2)`, and sockets are counted only where it is told of all.
    ///
    /// # Errors
    /// [`ReadError`], [absent](ReadError::is_absent) when the process has ended.
    pub fn open_files(&mut self, pid: u32) -> Result<OpenFiles, ReadError> {
        self.set_task(pid, None, "fd");
        let count = || -> io::Result<OpenFiles> {
            let mut found = OpenFiles { all: 0, sockets: Some(0) };
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                found.all += 1;
                let Some(sockets) = found.sockets else { continue };
                match fs::read_link(entry.path()) {
                    Ok(target) => found.sockets = Some(sockets + u64::from(target.as_os_str().as_bytes().starts_with(b"socket:"))),
                    // Closed since it was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(_) => found.sockets = None,
                }
            }
            Ok(found)
        };
        count()
            .or_else(|refused| match self.path.metadata() {
                Ok(directory) if directory.len() > 0 => Ok(OpenFiles { all: directory.len(), sockets: None }),
                _ => Err(refused),
            })
            .map_err(|source| ReadError { path: self.path.clone(), source })
    }

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
    fn files_and_sockets_of_this_process() {
        let mut reader = Reader::new(Arc::new(Root::find(Some("/proc".into()), None, None, None)));
        let mut child = std::process::Command::new("sleep").arg("1000").stdin(std::process::Stdio::null()).spawn().unwrap();
        let before = reader.open_files(child.id()).unwrap();
        assert!(before.all >= 3 && before.sockets.is_some_and(|sockets| sockets <= before.all));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(reader.open_files(child.id()).unwrap_err().is_absent());
        let _listener = std::os::unix::net::UnixListener::bind_addr(
            &<std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(format!(
                "skep-{}",
                std::process::id()
            ))
            .unwrap(),
        )
        .unwrap();
        assert!(reader.open_files(std::process::id()).unwrap().sockets.is_some_and(|sockets| sockets >= 1));
        let own = std::process::id();
        assert!(reader.process_file(own, "limits").unwrap().starts_with(b"Limit"));
        // Not on a kernel without CONFIG_SCHED_INFO.
        if let Ok(line) = reader.thread_schedstat(own, own) {
            assert_eq!(parse::fields(line.trim_ascii()).count(), 3);
        }
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
