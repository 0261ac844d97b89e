//! The server: its listeners, its limits, its end. The pages are in [`routes`].

pub mod health;
mod page;
pub mod routes;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use routes::Pages;

/// A request's head has to be there by then, counted from the end of the answer before: longer than the usual pauses between scrapes, so that their
/// connections stay, and short enough that one who only connects does not keep a place for ever.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Connections at one time over all listeners: those of scrapers stay open between scrapes.
const MAX_CONNECTIONS: usize = 512;
/// The largest head that is read.
const HEAD_BYTES: usize = 16 << 10;

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

/// Serves the pages on `listeners` until `stop`, then lets the requests under way end.
pub async fn serve(listeners: Vec<TcpListener>, pages: Arc<Pages>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        tasks.spawn(accept(listener, Arc::clone(&pages), Arc::clone(&places), stop.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!("a listener has ended: {error}");
        }
    }
}

async fn accept(listener: TcpListener, pages: Arc<Pages>, places: Arc<Semaphore>, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = stop.cancelled() => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
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
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("nodelay: {error}");
        }
        let connection = graceful.watch(connection(stream, Arc::clone(&pages)));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("connection: {error}");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(Duration::from_secs(5), graceful.shutdown()).await.is_err() {
        tracing::debug!("connections were still open at the end");
    }
}

fn connection<S>(
    stream: S,
    pages: Arc<Pages>,
) -> http1::Connection<
    TokioIo<S>,
    impl hyper::service::HttpService<hyper::body::Incoming, ResBody = routes::Body, Error = std::convert::Infallible, Future: Send>,
>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let pages = Arc::clone(&pages);
        async move { Ok::<_, std::convert::Infallible>(pages.answer(request).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
}
