//! `skep healthcheck`: asked over an abstract unix socket, whatever TLS or passwords guard the port.
//!
//! Abstract names belong to the network namespace, so a check inside the container reaches its own agent and no other, and nothing has to be written to
//! a read-only root.

use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(3);

/// The name is made of the port, so that two agents on one machine keep apart.
fn address(listen: &[String]) -> io::Result<SocketAddr> {
    let port = listen.first().and_then(|address| address.rsplit_once(':')).map_or("7537", |(_, port)| port);
    SocketAddr::from_abstract_name(format!("skep-health-{port}"))
}

/// Answers checks until `stop`. An answer is given by the same threads that serve the pages: when they stand still, so does it.
///
/// # Errors
/// When the name is taken: another agent of this port runs in this network namespace.
pub async fn answer(listen: &[String], stop: CancellationToken) -> io::Result<()> {
    let listener = UnixListener::bind_addr(&address(listen)?)?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return Ok(()),
        };
        match accepted {
            Ok((mut stream, _)) => {
                let answered = tokio::io::AsyncWriteExt::write_all(&mut stream, b"ok\n").await;
                if let Err(error) = answered {
                    tracing::debug!("health check: {error}");
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Asks the agent that runs with the same listen address.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn ask(listen: &[String]) -> Result<(), String> {
    let asked = || -> io::Result<String> {
        let mut stream = UnixStream::connect_addr(&address(listen)?)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.flush()?;
        let mut answer = [0u8; 8];
        let length = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned())
    };
    match asked() {
        Ok(answer) if answer == "ok\n" => Ok(()),
        Ok(_) => Err("the agent answers something else than ok".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Err("no agent runs here with this listen address".to_owned()),
        Err(error) => Err(format!("the agent does not answer: {error}")),
    }
}
