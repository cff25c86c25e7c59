//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Method;
use hyper::body::Body;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Sleep;
use tracing::debug;

use super::awaited::{Awaited, Patience};
use super::crowd::{Crowd, Place};
use super::pulse::{Lifetime, Order, Phase, Pulse};
use super::pushed::Pushed;
use super::{Counts, Service, Stage, Tuning, proxy};
use crate::http::tls::{self, Handshakes, Tls, TlsStream};
use crate::limits;

/// Serves the connections of one listener.
pub(super) struct Front<S> {
    service: Arc<S>,
    crowd: Arc<Crowd>,
    proxy_protocol: bool,
    tls: Option<(Arc<Tls>, Handshakes)>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    patience: Patience,
    stall: Duration,
    lifetime: Lifetime,
    counts: Counts,
}

/// A connection that may send requests.
struct Opened {
    wire: Wire,
    peer: SocketAddr,
    /// Given back when the connection ends.
    _place: Place,
}

/// What carries it.
enum Wire {
    Plain(Pushed<TcpStream>),
    Tls(Box<TlsStream<Pushed<TcpStream>>>),
}

/// Why a connection may send none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Its address has as many as it may.
    Address,
    /// It does not begin with the header that a proxy has to send, or is no proxy's.
    Proxy,
    /// No TLS, or not in time.
    Handshake,
}

impl<S: Service> Front<S> {
    pub(super) fn new(service: Arc<S>, tuning: Tuning) -> Self {
        Self {
            service,
            crowd: Crowd::new(tuning.connections_per_address, tuning.trusted_proxies),
            proxy_protocol: tuning.proxy_protocol,
            tls: tuning.tls.map(|tls| (tls, Handshakes::new())),
            http1: http1_builder(),
            http2: http2_builder(),
            patience: Patience { head: tuning.head, idle: tuning.idle, rest: tuning.rest },
            stall: tuning.write_stall,
            lifetime: Lifetime { requests: tuning.requests_max, age: tuning.age_max },
            counts: tuning.counts,
        }
    }

    /// Serves until the peer, a bound, or the listener's stage ends it: one more answer once it is
    /// [`Stage::Last`], the one that is under way once it is [`Stage::Close`]. What is kept is given back at
    /// the end.
    pub(super) async fn serve<K: Send>(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        mut stage: watch::Receiver<Stage>,
        _kept: K,
    ) {
        let opened = tokio::select! {
            // Nothing is owed to whoever has not asked for anything.
            _ = stage.wait_for(|stage| *stage == Stage::Close) => return,
            opened = self.open(stream, peer) => opened,
        };
        match opened {
            Ok(Opened { wire, peer, _place }) => match wire {
                Wire::Plain(stream) => self.speak(Order::InTurn, stream, peer, stage).await,
                Wire::Tls(stream) => {
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
                    let order = if http2 { Order::AtOnce } else { Order::InTurn };
                    // Whoever speaks without has no room for it in the task.
                    Box::pin(self.speak(order, *stream, peer, stage)).await;
                }
            },
            Err(refused) => {
                debug!(%peer, ?refused, "connection refused");
                self.counts.refused(refused);
            }
        }
    }

    /// Whose connection it is, whether there is a place for it, and what is spoken on it.
    async fn open(&self, mut stream: TcpStream, peer: SocketAddr) -> Result<Opened, Refused> {
        let peer = if self.proxy_protocol {
            if !self.crowd.trusts(peer.ip()) {
                return Err(Refused::Proxy);
            }
            let read = Box::pin(proxy::read(&mut stream));
            let announced = tokio::time::timeout(self.patience.head, read).await;
            // A proxy that speaks for itself (a health check) announces nobody.
            announced.ok().flatten().ok_or(Refused::Proxy)?.unwrap_or(peer)
        } else {
            peer
        };
        let place = self.crowd.admit(peer.ip()).ok_or(Refused::Address)?;
        let stream = Pushed::new(stream, self.stall);
        let wire = match &self.tls {
            None => Wire::Plain(stream),
            Some((tls, handshakes)) => {
                let shaken = Box::pin(handshakes.shake(tls, stream)).await;
                let stream = shaken.ok_or(Refused::Handshake)?;
                Wire::Tls(Box::new(stream))
            }
        };
        Ok(Opened { wire, peer, _place: place })
    }

    /// HTTP/1.1 or, where requests come at once, HTTP/2.
    async fn speak<T>(
        &self,
        order: Order,
        stream: T,
        peer: SocketAddr,
        stage: watch::Receiver<Stage>,
    ) where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let pulse = Pulse::new(order, self.lifetime);
        let mut stream = TokioIo::new(Awaited::new(stream, Arc::clone(&pulse), self.patience));
        let service = Arc::clone(&self.service);
        let turns = Arc::clone(&pulse);
        let mut answer = service_fn(move |request| {
            // Before hyper looks whether the client is still there.
            let (service, turn) = (Arc::clone(&service), turns.begin());
            // hyper keeps room for a whole one of these as long as the connection is open.
            Box::pin(async move {
                let only_head = order == Order::AtOnce && request.method() == Method::HEAD;
                let mut answer = service.answer(peer, request).await;
                if only_head {
                    // hyper leaves the body out in HTTP/1 only.
                    let body = std::mem::take(answer.body_mut());
                    let length = body.size_hint().exact().map(HeaderValue::from);
                    answer.headers_mut().extend(length.map(|length| (CONTENT_LENGTH, length)));
                }
                if turn.end() && order == Order::InTurn {
                    // Told with an answer, not by closing: nobody's request is lost to it.
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            })
        });
        let mut longest = pin!(tokio::time::sleep(self.longest()));
        let mut stopped = pin!(stopped(&pulse, stage));
        let mut bounds =
            Bounds { pulse: &pulse, longest: longest.as_mut(), stopped: Some(stopped.as_mut()) };
        let ended = match order {
            Order::InTurn => loop {
                let mut connection = self.http1.serve_connection(stream, answer);
                let finish = |connection: Pin<&mut _>| {
                    http1::Connection::graceful_shutdown(connection);
                };
                match bounds.run(Pin::new(&mut connection), finish).await {
                    Pause::Rest => {}
                    Pause::End(ended) => {
                        let mut stream = connection.into_parts().io.into_inner();
                        if matches!(ended, Some(Ok(()))) && !stream.has_ended() {
                            // Where an upgrade was named, hyper leaves the end to whoever would go on. It is
                            // bounded like any.
                            let _ = stream.shutdown().await;
                        }
                        break ended;
                    }
                }
                // Many connections wait for the second in which a sale opens: without hyper's buffers.
                let parts = connection.into_parts();
                (stream, answer) = (parts.io, parts.service);
                stream.inner_mut().put_back(parts.read_buf);
                poll_fn(|context| bounds.poll_rest(stream.inner_mut(), context)).await;
            },
            Order::AtOnce => {
                let mut connection = Box::pin(self.http2.serve_connection(stream, answer));
                let finish = |connection: Pin<&mut _>| {
                    http2::Connection::graceful_shutdown(connection);
                };
                match bounds.run(connection.as_mut(), finish).await {
                    // Only streams in turn say so.
                    Pause::Rest => None,
                    Pause::End(ended) => ended,
                }
            }
        };
        match ended {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                if error.is_parse() {
                    self.counts.malformed.increment(1);
                }
                debug!(%peer, %error, "connection ended");
            }
            None => debug!(%peer, "connection cut: it has lived too long"),
        }
    }

    /// Beyond its age a connection ends with its next answer. One that still has not ended is kept
    /// alive by somebody who takes his answer in crumbs.
    fn longest(&self) -> Duration {
        let last = Duration::from_millis(limits::CONNECTION_LAST_MS);
        self.lifetime.age.saturating_add(self.patience.idle).saturating_add(last)
    }
}

/// Returns when the listener wants the connection to end.
async fn stopped(pulse: &Pulse, mut stage: watch::Receiver<Stage>) {
    let last = stage.wait_for(|stage| *stage != Stage::Serve).await.map(|stage| *stage);
    // Closing a connection that is kept alive may cross the next request on the wire, which nobody
    // can tell from one that was done. So an end is told with an answer, where one is asked for in
    // time. HTTP/2 has a message of its own for that.
    if pulse.order() == Order::InTurn && matches!(last, Ok(Stage::Last)) {
        pulse.end();
        let _ = stage.wait_for(|stage| *stage == Stage::Close).await;
    }
}

/// What ends a connection, besides its peer.
struct Bounds<'c, F> {
    pulse: &'c Pulse,
    longest: Pin<&'c mut Sleep>,
    /// `None` once the listener wants it to end.
    stopped: Option<Pin<&'c mut F>>,
}

/// Why a connection is not run any further.
enum Pause<O> {
    /// It has nothing to do.
    Rest,
    /// It has ended; `None`: not in time.
    End(Option<O>),
}

impl<F: Future<Output = ()>> Bounds<'_, F> {
    fn is_stopped(&mut self, context: &mut Context<'_>) -> bool {
        if self.stopped.as_mut().is_some_and(|stopped| stopped.as_mut().poll(context).is_ready()) {
            self.stopped = None;
        }
        self.stopped.is_none()
    }

    /// Whether the next head has begun, on a connection that is kept alive and has to end: it ends with the answer to
    /// that, or when the rest of the head does not come. hyper would drop what it has read of it. (Of the
    /// first head it would not, nor of one after a rest.)
    fn is_asked(&self) -> bool {
        let asked = self.pulse.order() == Order::InTurn
            && self.pulse.begun() > 0
            && self.pulse.phase() == Phase::Head;
        if asked {
            self.pulse.end();
        }
        asked
    }

    /// Runs a connection to its end, which is near once it is spent or the listener stops, or until it
    /// may rest.
    async fn run<C: Future>(
        &mut self,
        mut connection: Pin<&mut C>,
        finish: impl Fn(Pin<&mut C>),
    ) -> Pause<C::Output> {
        let mut finishes = false;
        poll_fn(|context| {
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                    return Poll::Ready(Pause::End(Some(ended)));
                }
                // An answer that spends the connection comes with a wake-up of this task.
                let ends = self.pulse.is_spent() || (self.is_stopped(context) && !self.is_asked());
                if !finishes && ends {
                    finishes = true;
                    finish(connection.as_mut());
                    continue;
                }
                if self.longest.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Pause::End(None));
                }
                let rests = self.pulse.is_to_rest() && !finishes;
                return if rests { Poll::Ready(Pause::Rest) } else { Poll::Pending };
            }
        })
        .await
    }

    /// Ready once a connection that rests has something to do, be it to end.
    fn poll_rest<T: AsyncRead + Unpin>(
        &mut self,
        stream: &mut Awaited<T>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        if self.is_stopped(context) || self.longest.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        stream.poll_rest(context)
    }
}

fn http1_builder() -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        // The stream has timers of its own, which tell a slow head from an idle connection.
        .header_read_timeout(None)
        .max_buf_size(limits::CONNECTION_BUFFER_BYTES_MAX)
        // Head and body in one write. (Not by `pipeline_flush`, which holds an answer back while
        // anything of what follows has been read: a refused body would swallow its own refusal.)
        .writev(false);
    http1
}

fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::HTTP2_STREAMS_MAX)
        .max_pending_accept_reset_streams(limits::HTTP2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(limits::HTTP2_ERROR_RESETS_MAX)
        .max_header_list_size(limits::HTTP2_HEADER_LIST_BYTES_MAX)
        .initial_stream_window_size(limits::HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(limits::HTTP2_WINDOW_BYTES)
        .max_send_buf_size(limits::HTTP2_SEND_BUFFER_BYTES)
        .keep_alive_interval(Duration::from_millis(limits::HTTP2_PING_MS))
        .keep_alive_timeout(Duration::from_millis(limits::HTTP2_PONG_MS));
    http2
}

#[cfg(test)]
mod tests;
