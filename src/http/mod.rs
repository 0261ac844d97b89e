//! The server: its listeners, its limits, its end. The pages are in [`routes`], and [`Guard`] stands before them.

mod certificate;
mod coding;
mod gzip;
mod guard;
pub mod health;
mod paced;
mod page;
mod password;
pub mod routes;
mod seats;
mod tls;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

pub use guard::Guard;
use paced::Paced;
pub use routes::Pages;
use seats::{Seat, Seats};

/// A request's head has to be there by then, counted from the end of the answer before: longer than the usual pauses between scrapes, so that their
/// connections stay, and short enough that one who only connects does not keep a place for ever.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The first request's head has to be there by then: who connects has something to ask.
const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// A TLS handshake has to be done by then.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at one time over all listeners: those of scrapers stay open between scrapes.
const MAX_CONNECTIONS: usize = 512;
/// TLS handshakes at one time, each with buffers and arithmetic of its own.
const MAX_HANDSHAKES: usize = 64;
/// The largest head that is read.
const HEAD_BYTES: usize = 16 << 10;
/// What a browser is told that speaks plain HTTP where TLS is; Go's words.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Opens the addresses. An address of all (`[::]:7537`) falls back to IPv4 where the machine has no IPv6.
///
/// # Errors
/// A sentence naming the address that cannot be had.
pub async fn bind(addresses: &[String]) -> Result<Vec<TcpListener>, String> {
    let mut listeners = Vec::new();
    for address in addresses {
        let bound = match (TcpListener::bind(address).await, address.strip_prefix("[::]:")) {
            (Err(error), Some(port)) if error.kind() != io::ErrorKind::AddrInUse => {
                let port: u16 = port.parse().map_err(|_| format!("web.listen-address: '{address}' has no port"))?;
                TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
            }
            (bound, _) => bound,
        };
        let listener = bound.map_err(|error| {
            format!("web.listen-address: {address} cannot be opened: {error}; another program may have it, see --web.listen-address")
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Takes the listening sockets that systemd, or who else started skep, has opened and handed over.
///
/// # Errors
/// A sentence, when there are none, or one is no listening TCP socket.
pub fn adopt(inherited: Vec<OwnedFd>) -> Result<Vec<TcpListener>, String> {
    use rustix::net::{AddressFamily, SocketType, sockopt};
    let mut listeners = Vec::new();
    for socket in inherited {
        let is_stream = sockopt::socket_type(&socket).is_ok_and(|kind| kind == SocketType::STREAM);
        let is_listening = sockopt::socket_acceptconn(&socket).unwrap_or(false);
        let is_inet = sockopt::socket_domain(&socket).is_ok_and(|family| matches!(family, AddressFamily::INET | AddressFamily::INET6));
        if !(is_stream && is_listening && is_inet) {
            return Err("web.systemd-socket: one of the sockets handed over is no listening TCP socket; ListenStream=7537 in the .socket unit makes one".to_owned());
        }
        let listener = std::net::TcpListener::from(socket);
        let adopted = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
        listeners.push(adopted.map_err(|error| format!("web.systemd-socket: the system refuses: {error}"))?);
    }
    if listeners.is_empty() {
        return Err("web.systemd-socket: no socket was handed over (LISTEN_FDS); it takes a .socket unit that starts skep, or --web.listen-address instead".to_owned());
    }
    Ok(listeners)
}

struct Server {
    pages: Arc<Pages>,
    guard: Arc<Guard>,
    seats: Arc<Seats>,
    handshakes: Arc<Seats>,
    stop: CancellationToken,
}

/// Serves the pages on `listeners` until `stop`, then lets the requests under way end.
pub async fn serve(listeners: Vec<TcpListener>, pages: Arc<Pages>, guard: Arc<Guard>, stop: CancellationToken) {
    let server = Arc::new(Server { pages, guard, seats: Seats::new(MAX_CONNECTIONS), handshakes: Seats::new(MAX_HANDSHAKES), stop });
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        tasks.spawn(Arc::clone(&server).accept(listener));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!("a listener has ended: {error}");
        }
    }
}

impl Server {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, or a connection that was gone before it was taken: neither may spin nor end the listener.
                    tracing::debug!("accept: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let seat = tokio::select! {
                seat = self.seats.take() => seat,
                () = self.stop.cancelled() => break,
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!("nodelay: {error}");
            }
            tokio::spawn(Arc::clone(&self).connection(stream, Arc::new(seat), graceful.watcher()));
        }
        drop(listener);
        if tokio::time::timeout(Duration::from_secs(5), graceful.shutdown()).await.is_err() {
            tracing::debug!("connections were still open at the end");
        }
    }

    /// One connection from its first byte to its end, or until its place is another's.
    async fn connection(self: Arc<Self>, stream: TcpStream, seat: Arc<Seat>, watcher: Watcher) {
        let lost = seat.lost();
        let first_head = async {
            tokio::time::sleep(FIRST_HEAD_TIMEOUT).await;
            if seat.has_asked() {
                std::future::pending::<()>().await;
            }
        };
        let refused = tokio::select! {
            () = lost.cancelled() => "evicted",
            () = first_head => "slow",
            () = self.serve(stream, &seat, watcher) => return,
        };
        self.guard.metrics().http_refused(refused);
    }

    async fn serve(&self, stream: TcpStream, seat: &Arc<Seat>, watcher: Watcher) {
        let in_force = self.guard.now().await;
        match &in_force.tls {
            None => self.http(Paced::new(stream), seat, watcher).await,
            Some(config) => {
                // A slow one gives way to the next, so that none waits for it.
                let handshake = self.handshakes.take().await;
                let lost = handshake.lost();
                let done = tokio::select! {
                    done = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshaken(stream, Arc::clone(config))) => done.unwrap_or(Err("slow")),
                    () = lost.cancelled() => Err("evicted"),
                    () = self.stop.cancelled() => return,
                };
                drop((handshake, in_force));
                match done {
                    Ok(stream) => self.http(stream, seat, watcher).await,
                    Err(reason) => self.guard.metrics().http_refused(reason),
                }
            }
        }
    }

    async fn http(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, seat: &Arc<Seat>, watcher: Watcher) {
        let service = service_fn(|request| async move {
            let _busy = seat.busy();
            let in_force = self.guard.now().await;
            let mut answer = match self.guard.admit(&in_force, hyper::Request::headers(&request)).await {
                Ok(()) => self.pages.answer(request).await,
                Err(answer) => answer,
            };
            in_force.dress(&mut answer);
            Ok::<_, Infallible>(answer)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!("connection: {error}");
        }
    }
}

/// TLS on a connection; or why not, as the metric's reason.
async fn handshaken(mut stream: TcpStream, config: Arc<ServerConfig>) -> Result<TlsStream<Paced<TcpStream>>, &'static str> {
    let mut first = [0u8];
    match stream.peek(&mut first).await {
        // No record of TLS begins with a letter, and each request of HTTP does.
        Ok(1) if first.iter().all(u8::is_ascii_uppercase) => {
            let told = async {
                stream.write_all(NOT_TLS).await?;
                stream.shutdown().await?;
                // What was sent is taken, else the system cuts the connection off before the answer is read.
                tokio::io::copy(&mut (&mut stream).take(64 << 10), &mut tokio::io::sink()).await
            };
            if let Ok(Err(error)) | Err(error) = tokio::time::timeout(Duration::from_secs(1), told).await.map_err(io::Error::from) {
                tracing::debug!("plain HTTP: {error}");
            }
            Err("plain_http")
        }
        Ok(1) => TlsAcceptor::from(config).accept(Paced::new(stream)).await.map_err(|error| {
            tracing::debug!("TLS: {error}");
            "tls"
        }),
        _ => Err("tls"),
    }
}
