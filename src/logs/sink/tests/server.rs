//! A server that answers by a script and keeps what it took, by id, as Elasticsearch would.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// How the server answers one bulk request; without a script it takes everything.
#[derive(Debug, Clone)]
pub(in crate::logs) enum Reply {
    /// Each item gets one of these statuses in turn; a 201 takes it, if it is new.
    Items(Vec<u16>),
    /// The whole request is refused.
    Whole(u16, &'static str),
    /// Everything is taken, and the answer breaks off.
    Cut,
    /// Everything is taken, and the connection ends without an answer.
    Close,
    /// Everything is taken, and the answer is of another kind.
    Text(&'static str),
    /// Everything is taken, and the answer has that many bytes.
    Long(usize),
    /// Everything is taken, the connection ends without an answer, and the data stream rolls over to this index.
    Roll(&'static str),
    /// Everything is taken, and no answer comes.
    Silence,
}

#[derive(Debug, Default)]
pub(in crate::logs) struct Server {
    pub(in crate::logs) script: VecDeque<Reply>,
    /// Documents by id.
    pub(in crate::logs) taken: BTreeMap<String, String>,
    /// The backing index that takes records; an id is known in the index that took it only.
    pub(in crate::logs) backing: Option<String>,
    pub(in crate::logs) template_bodies: Vec<String>,
    /// Documents in the order in which they were taken.
    pub(in crate::logs) arrived: Vec<String>,
    /// Copies of one id that were offered when it was there already.
    pub(in crate::logs) conflicts: u64,
    pub(in crate::logs) requests: u64,
    pub(in crate::logs) templates: Vec<String>,
    pub(in crate::logs) authorizations: Vec<Option<String>>,
    pub(in crate::logs) gzip: u64,
    /// A request with more records than this gets 413; one with this word in it, 400.
    pub(in crate::logs) most_records: Option<usize>,
    pub(in crate::logs) poison: Option<&'static str>,
    pub(in crate::logs) template_status: Option<u16>,
    pub(in crate::logs) credentials: Option<&'static str>,
}

pub(in crate::logs) type Shared = Arc<Mutex<Server>>;

fn body(text: impl Into<Bytes>) -> BoxBody<Bytes, std::io::Error> {
    http_body_util::Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed()
}

fn answer(status: u16, text: impl Into<Bytes>) -> Response<BoxBody<Bytes, std::io::Error>> {
    Response::builder().status(status).body(body(text)).unwrap()
}

pub(in crate::logs) async fn serve(listener: TcpListener, shared: Shared) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| handle(Arc::clone(&shared), request));
            // A connection that the script breaks ends in an error, as it should.
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await.ok();
        });
    }
}

async fn handle(shared: Shared, request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, std::io::Error>>, std::io::Error> {
    let (head, incoming) = request.into_parts();
    let raw = incoming.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let mut text = String::new();
    if head.headers.get("content-encoding").is_some_and(|value| value == "gzip") {
        flate2::read::GzDecoder::new(&*raw).read_to_string(&mut text)?;
        shared.lock().unwrap().gzip += 1;
    } else {
        text = String::from_utf8(raw.to_vec()).unwrap();
    }
    let reply = {
        let mut server = shared.lock().unwrap();
        let authorization = head.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        server.authorizations.push(authorization.clone());
        if server.credentials.is_some() && authorization.as_deref() != server.credentials {
            return Ok(answer(401, r#"{"error":{"type":"security_exception","reason":"no"},"status":401}"#));
        }
        if head.method == "PUT" {
            server.templates.push(head.uri.path().to_owned());
            server.template_bodies.push(text);
            return Ok(answer(server.template_status.unwrap_or(200), r#"{"acknowledged":true}"#));
        }
        assert_eq!(head.headers["content-type"], "application/x-ndjson");
        assert!(head.uri.path().ends_with("/_bulk") && text.ends_with('\n'));
        server.requests += 1;
        let lines: Vec<&str> = text.lines().collect();
        if server.most_records.is_some_and(|most| lines.len() / 2 > most) {
            return Ok(answer(413, "<html>too large</html>"));
        }
        if server.poison.is_some_and(|poison| text.contains(poison)) {
            return Ok(answer(400, r#"{"error":{"type":"json_parse_exception","reason":"Unexpected character"},"status":400}"#));
        }
        let reply = server.script.pop_front().unwrap_or(Reply::Items(vec![201]));
        let statuses = match &reply {
            Reply::Whole(status, text) => return Ok(answer(*status, *text)),
            Reply::Items(statuses) => statuses.clone(),
            _ => vec![201],
        };
        let mut items = Vec::new();
        for (pair, status) in lines.chunks(2).zip(statuses.iter().cycle()) {
            let action: serde_json::Value = serde_json::from_str(pair[0]).unwrap();
            let mut id = action["create"]["_id"].as_str().unwrap().to_owned();
            let index = server.backing.clone().unwrap_or_else(|| action["create"]["_index"].as_str().unwrap().to_owned());
            if server.backing.is_some() {
                id = format!("{index}/{id}");
            }
            let status = match (*status, server.taken.contains_key(&id)) {
                (201, true) => 409,
                (status, _) => status,
            };
            match status {
                201 => {
                    server.taken.insert(id, pair[1].to_owned());
                    server.arrived.push(pair[1].to_owned());
                }
                409 => server.conflicts += 1,
                _ => {}
            }
            let error = serde_json::json!({"type": match status { 400 => "mapper_parsing_exception", 404 => "index_not_found_exception", _ => "x" }, "reason": "r"});
            items.push(if status == 201 {
                serde_json::json!({"create": {"_index": index, "status": 201}})
            } else {
                serde_json::json!({"create": {"status": status, "error": error}})
            });
        }
        if let Reply::Roll(index) = &reply {
            server.backing = Some((*index).to_owned());
        }
        (reply, serde_json::json!({"errors": true, "items": items}).to_string())
    };
    match reply {
        (Reply::Items(_), text) => Ok(answer(200, text)),
        (Reply::Cut, text) => {
            let half = Bytes::from(text).slice(..100);
            let frames = stream::iter([Ok(Frame::data(half)), Err(std::io::Error::other("cut"))]);
            Ok(Response::new(BodyExt::boxed(StreamBody::new(frames))))
        }
        (Reply::Text(other), _) => Ok(answer(200, other)),
        (Reply::Long(bytes), _) => Ok(answer(200, vec![b' '; bytes])),
        (Reply::Silence, _) => std::future::pending().await,
        _ => Err(std::io::Error::other("closed")),
    }
}

pub(in crate::logs) async fn start() -> (SocketAddr, Shared) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Shared::default();
    tokio::spawn(serve(listener, Arc::clone(&shared)));
    (address, shared)
}

pub(in crate::logs) fn script(shared: &Shared, replies: impl IntoIterator<Item = Reply>) {
    shared.lock().unwrap().script.extend(replies);
}

pub(in crate::logs) fn count(shared: &Shared) -> usize {
    shared.lock().unwrap().taken.len()
}
