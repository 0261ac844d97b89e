//! A Docker engine that answers by script, on a unix socket: what a real one does only when it is ill.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// What the engine answers to one request.
pub(crate) enum Reply {
    /// 200 with this body.
    Json(String),
    /// Another status, with the message that the engine wraps in JSON.
    Status(u16, &'static str),
    /// Nothing, for as long as the client waits.
    Hang,
    /// A head, and half of the body that it promised.
    Broken,
    /// 200 with these bytes in chunks, and an end of the body, or a connection that breaks before it.
    #[allow(dead_code, reason = "only the logs' test has a use for it")]
    Bytes(Vec<u8>, bool),
    /// The stream of events: these lines, then what [`FakeEngine::event`] says, until [`FakeEngine::end_streams`].
    Stream(Vec<String>),
}

type Script = dyn Fn(&str) -> Reply + Send + Sync;

/// A running engine. Dropping it closes its socket and removes it.
pub(crate) struct FakeEngine {
    path: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
    events: broadcast::Sender<Option<String>>,
    task: JoinHandle<()>,
}

impl FakeEngine {
    /// Listens at `path` and answers each path with query by `script`.
    pub(crate) fn start(path: &Path, script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        let script: Arc<Script> = Arc::new(script);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (events, _) = broadcast::channel(100);
        let (seen, sender) = (requests.clone(), events.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, script.clone(), seen.clone(), sender.clone()));
            }
        });
        Self { path: path.to_path_buf(), requests, events, task }
    }

    /// The address for a client.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// The paths with queries that were asked for until now.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Sends a line to all streams of events.
    pub(crate) fn event(&self, line: &str) {
        let _ = self.events.send(Some(line.to_owned()));
    }

    /// Ends all streams of events.
    pub(crate) fn end_streams(&self) {
        let _ = self.events.send(None);
    }

    /// How many streams of events are open.
    pub(crate) fn streams(&self) -> usize {
        self.events.receiver_count()
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.task.abort();
        let _ = self.events.send(None);
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(mut stream: UnixStream, script: Arc<Script>, seen: Arc<Mutex<Vec<String>>>, events: broadcast::Sender<Option<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let reply = script(&path);
    // Subscribed before the request is known to have come: whoever waits for it misses no event.
    let mut live = events.subscribe();
    seen.lock().unwrap().push(path);
    let whole = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let text = match reply {
        Reply::Json(body) => whole("200 OK", &body),
        Reply::Status(status, message) => whole(&format!("{status} No"), &format!("{{\"message\":\"{message}\"}}")),
        Reply::Broken => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[{\"Id\":".to_owned(),
        Reply::Hang => {
            drop(live);
            // The client's end of the connection tells when it gave up.
            let _ = stream.read_u8().await;
            return;
        }
        Reply::Bytes(bytes, is_whole) => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            for piece in bytes.chunks(30_000) {
                let _ = stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await;
                let _ = stream.write_all(piece).await;
                let _ = stream.write_all(b"\r\n").await;
            }
            if is_whole {
                let _ = stream.write_all(b"0\r\n\r\n").await;
            }
            return;
        }
        Reply::Stream(lines) => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            for line in lines {
                let _ = write_chunk(&mut stream, &line).await;
            }
            while let Ok(Some(line)) = live.recv().await {
                if write_chunk(&mut stream, &line).await.is_err() {
                    return;
                }
            }
            let _ = stream.write_all(b"0\r\n\r\n").await;
            return;
        }
    };
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn write_chunk(stream: &mut UnixStream, line: &str) -> std::io::Result<()> {
    stream.write_all(format!("{:x}\r\n{line}\n\r\n", line.len() + 1).as_bytes()).await
}
