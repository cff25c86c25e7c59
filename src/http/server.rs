//! Connections: accepted, bounded, served, and drained.
//!
//! hyper's timeouts are silently off unless it is given a timer; every builder here has one.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::limits;

/// What answers requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. Must not fail: every end of a request is an answer.
    fn answer(
        self: Arc<Self>,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// How a listener treats its connections.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Open connections; above it new ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// How long connections may finish what they are at, once the listener is to stop.
    pub drain: Duration,
}

/// Binds a listener with a backlog for a crowd. It does not block, as tokio wants it.
///
/// # Errors
/// In the system's words.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted gateway takes its port back although connections of the old one linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Accepts and serves until `stop` becomes true; then accepts no more, lets every connection finish
/// the request it is at, and returns. Connections that take longer than `tuning.drain` are cut.
pub async fn serve<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    tuning: Tuning,
    mut stop: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(tuning.connections_max));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits::HEAD_READ_MS))
        .max_buf_size(limits::CONNECTION_BUFFER_BYTES_MAX)
        .max_headers(limits::HEADERS_MAX)
        // Head and body in one write. (Not by `pipeline_flush`, which holds an answer back while
        // anything of what follows has been read: a refused body would swallow its own refusal.)
        .writev(false);
    loop {
        let accepted = tokio::select! {
            // Cancel-safe both: no permit and no connection is lost by the other branch.
            accepted = accept(&listener, &permits) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let service = Arc::clone(&service);
        let answer = service_fn(move |request| {
            let service = Arc::clone(&service);
            async move { Ok::<_, std::convert::Infallible>(service.answer(peer, request).await) }
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), answer));
        // Those that have ended make room in the set for those that come.
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            if let Err(error) = connection.await {
                debug!(%peer, %error, "connection ended");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(tuning.drain, graceful.shutdown()).await.is_err() {
        warn!("connections are cut: they take longer than the drain limit");
    }
    connections.shutdown().await;
}

type Permit = tokio::sync::OwnedSemaphorePermit;

/// The next connection, once there is room for it. `None`: there was none after all, go on.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, Permit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            if let Err(error) = tune(&stream) {
                debug!(%peer, %error, "connection could not be tuned");
            }
            Some((stream, peer, permit))
        }
        Err(error) => {
            // Of one connection: the next may be fine. Of the process (no descriptors, no memory): it
            // will not go away at once, and a loop that spins on it makes everything worse.
            let of_connection = matches!(
                error.kind(),
                io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::Interrupted
            );
            if !of_connection {
                warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(limits::ACCEPT_BACKOFF_MS)).await;
            }
            None
        }
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    // Whoever does not take what was sent to them is cut off by the kernel.
    socket.set_tcp_user_timeout(Some(Duration::from_millis(limits::WRITE_STALL_MS)))?;
    Ok(())
}
