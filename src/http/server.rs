//! Connections: accepted, bounded, served, and drained.
//!
//! Everything that waits for a peer has a bound here: a head, a body, silence, an answer that is not
//! taken, a connection as a whole.

mod accept;
mod alarm;
mod awaited;
mod connection;
mod crowd;
mod proxy;
mod pulse;
mod pushed;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use ipnet::IpNet;
use metrics::{Counter, Gauge};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use self::accept::{Accepted, Acceptor};
use self::connection::{Front, Refused};
use super::settings::HttpSettings;
use super::tls::Tls;
use crate::limits;
use crate::metrics::Metrics;

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
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Open connections; above it new ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// Open connections of one address; above it new ones are closed at once.
    pub connections_per_address: usize,
    /// Peers that are not counted by address, and may speak for others.
    pub trusted_proxies: Vec<IpNet>,
    /// Every connection begins with a proxy's header that says whose it is.
    pub proxy_protocol: bool,
    /// What is spoken below HTTP, if not HTTP itself.
    pub tls: Option<Arc<Tls>>,
    /// From a request's first byte, or the connection's begin, to the end of its head.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// A write that comes to nothing for so long is given up.
    pub write_stall: Duration,
    /// With so many answers a connection ends.
    pub requests_max: u64,
    /// And with the first one after so long.
    pub age_max: Duration,
    /// Once the listener is to stop, a connection that is kept alive has so long for one more request, with
    /// whose answer it ends.
    pub linger: Duration,
    /// How long connections may then finish what they are at.
    pub drain: Duration,
    /// What is counted.
    pub counts: Counts,
}

impl Tuning {
    /// Of the settings, for buyers; at most so many connections, which the process has descriptors
    /// for.
    pub fn public(
        settings: &HttpSettings,
        trusted_proxies: Vec<IpNet>,
        connections_max: usize,
        metrics: &Metrics,
    ) -> Self {
        let ms = Duration::from_millis;
        Self {
            connections_max: settings.connections_max.min(connections_max),
            connections_per_address: settings.connections_per_address,
            trusted_proxies,
            proxy_protocol: false,
            tls: None,
            head: ms(settings.head_ms),
            idle: ms(settings.idle_ms),
            write_stall: ms(settings.write_stall_ms),
            requests_max: settings.connection_requests,
            age_max: ms(settings.connection_ms),
            linger: ms(limits::DRAIN_LINGER_MS),
            drain: ms(limits::DRAIN_MS),
            counts: Counts::new(metrics, "public"),
        }
    }

    /// The same for operators, whose addresses are not counted.
    pub fn ops(settings: &HttpSettings, connections_max: usize, metrics: &Metrics) -> Self {
        Self {
            connections_max,
            connections_per_address: connections_max,
            linger: Duration::ZERO,
            drain: Duration::from_secs(1),
            counts: Counts::new(metrics, "ops"),
            ..Self::public(settings, Vec::new(), connections_max, metrics)
        }
    }
}

/// What a listener counts.
#[derive(Clone, Debug)]
pub struct Counts {
    open: Gauge,
    refused_address: Counter,
    refused_proxy: Counter,
    refused_handshake: Counter,
}

impl Counts {
    /// Under the listener's name.
    pub fn new(metrics: &Metrics, listener: &'static str) -> Self {
        let listener = ("listener", listener.to_owned());
        let refused = |reason: &'static str| {
            let labels = [listener.clone(), ("reason", reason.to_owned())];
            metrics.counter("floodgate_connections_refused_total", &labels)
        };
        Self {
            open: metrics.gauge("floodgate_connections", std::slice::from_ref(&listener)),
            refused_address: refused("address"),
            refused_proxy: refused("proxy"),
            refused_handshake: refused("handshake"),
        }
    }

    fn refused(&self, refused: Refused) {
        match refused {
            Refused::Address => self.refused_address.increment(1),
            Refused::Proxy => self.refused_proxy.increment(1),
            Refused::Handshake => self.refused_handshake.increment(1),
        }
    }
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

/// How far a listener is with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It does not stop.
    Serve,
    /// Each connection has one more answer.
    Last,
    /// And none but those that are under way.
    Close,
}

/// Accepts and serves until `stop` becomes true. Then it takes what the kernel has accepted already, and no
/// more; gives each connection one more answer, for `tuning.linger`; lets those that are at a request finish
/// it; and returns. Connections that take longer than `tuning.drain` are cut.
pub async fn serve<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    tuning: Tuning,
    mut stop: watch::Receiver<bool>,
) {
    let mut acceptor = Acceptor::new(listener, tuning.connections_max, tuning.write_stall);
    let (linger, drain, open) = (tuning.linger, tuning.drain, tuning.counts.open.clone());
    let front = Arc::new(Front::new(service, tuning));
    let (stage, stages) = watch::channel(Stage::Serve);
    let mut connections = JoinSet::new();
    let serve = |connections: &mut JoinSet<()>, Accepted { stream, peer, permit }| {
        let kept = (permit, Open::new(&open));
        connections.spawn(Arc::clone(&front).serve(stream, peer, stages.clone(), kept));
    };
    loop {
        let accepted = tokio::select! {
            // Cancel-safe both: no permit and no connection is lost by the other branch.
            accepted = acceptor.next() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some(accepted) = accepted else { continue };
        // Those that have ended make room in the set for those that come.
        while connections.try_join_next().is_some() {}
        serve(&mut connections, accepted);
    }
    for accepted in acceptor.rest() {
        serve(&mut connections, accepted);
    }
    let mut ended = async |within| {
        let all = async { while connections.join_next().await.is_some() {} };
        tokio::time::timeout(within, all).await.is_ok()
    };
    stage.send_replace(Stage::Last);
    let lingered = ended(linger).await;
    stage.send_replace(Stage::Close);
    if !lingered && !ended(drain).await {
        warn!("connections are cut: they take longer than the drain limit");
    }
    connections.shutdown().await;
}

/// Counts a connection as long as it is open, also if its task panics.
struct Open(Gauge);

impl Open {
    fn new(open: &Gauge) -> Self {
        open.increment(1.0);
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
