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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use self::accept::{Accepted, Acceptor};
use self::connection::{Front, Refused};
use super::settings::HttpSettings;
use super::tls::Tls;
use crate::limits;
use crate::metrics::Metrics;
use crate::runtimes::Handles;

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
    /// So long after an answer a silent connection gives its buffers back.
    pub rest: Duration,
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
            rest: ms(limits::REST_MS),
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
    malformed: Counter,
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
            malformed: metrics
                .counter("floodgate_connections_malformed_total", std::slice::from_ref(&listener)),
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
///
/// It accepts on the runtime that it is called on, and deals connections out to `runtimes` in turn: each
/// stays where it is dealt to.
pub async fn serve<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    tuning: Tuning,
    runtimes: Handles,
    mut stop: watch::Receiver<bool>,
) {
    let mut acceptor = Acceptor::new(listener, tuning.connections_max, tuning.write_stall);
    let (linger, drain, open) = (tuning.linger, tuning.drain, tuning.counts.open.clone());
    let front = Arc::new(Front::new(service, tuning));
    let (stage, stages) = watch::channel(Stage::Serve);
    let mut connections = JoinSet::new();
    let mut turn = 0;
    let mut serve = |connections: &mut JoinSet<()>, Accepted { stream, peer, permit }| {
        let kept = (permit, Open::new(&open));
        let (front, stages) = (Arc::clone(&front), stages.clone());
        turn += 1;
        let serve = async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => front.serve(stream, peer, stages, kept).await,
                Err(error) => warn!(%peer, %error, "a connection could not be dealt out"),
            }
        };
        connections.spawn_on(serve, runtimes.at_turn(turn));
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::runtimes::{Runtimes, here};

    /// Answers with the runtime that it is asked on.
    struct Where;

    impl Service for Where {
        async fn answer(
            self: Arc<Self>,
            _: SocketAddr,
            _: Request<Incoming>,
        ) -> Response<Full<Bytes>> {
            Response::new(Full::from(here().to_string()))
        }
    }

    /// Where a connection is, by the last character of an answer to it.
    async fn ask(connection: &mut TcpStream) -> char {
        connection.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        loop {
            if let Some((_, body)) = answer.split_once("\r\n\r\n")
                && let Some(told) = body.chars().next()
            {
                return told;
            }
            let mut read = [0; 512];
            let length = connection.read(&mut read).await.unwrap();
            assert_ne!(length, 0, "{answer}");
            answer.push_str(str::from_utf8(&read[..length]).unwrap());
        }
    }

    /// Proves that each runtime gets as many connections as the other, that a connection stays where it is,
    /// and that a stop ends those of all.
    #[test]
    fn dealt_out() {
        let runtimes = Runtimes::start(2).unwrap();
        runtimes.block_on(async {
            let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let address = listener.local_addr().unwrap();
            let (metrics, settings) = (Metrics::new(), HttpSettings::default());
            let tuning = Tuning::public(&settings, Vec::new(), 100, &metrics);
            let (stop, stops) = watch::channel(false);
            let listener = TcpListener::from_std(listener).unwrap();
            let served =
                tokio::spawn(serve(listener, Arc::new(Where), tuning, runtimes.handles(), stops));
            let (mut places, mut connections) = (Vec::new(), Vec::new());
            for _ in 0..4 {
                let mut connection = TcpStream::connect(address).await.unwrap();
                let place = ask(&mut connection).await;
                assert_eq!(ask(&mut connection).await, place);
                places.push(place);
                connections.push(connection);
            }
            places.sort_unstable();
            assert_eq!(places, ['0', '0', '1', '1']);
            stop.send_replace(true);
            served.await.unwrap();
            for mut connection in connections {
                assert_eq!(connection.read(&mut [0]).await.unwrap(), 0);
            }
        });
        runtimes.shutdown(Duration::from_secs(60));
    }
}
