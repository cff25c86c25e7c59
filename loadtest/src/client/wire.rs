//! One TCP connection, driven by whoever waits for its answer.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::reply::{Fault, Reply};
use crate::limits::REPLY_BYTES_MAX;

type Outgoing = Request<Full<Bytes>>;

pub(super) struct Wire {
    sender: SendRequest<Full<Bytes>>,
    connection: Pin<Box<Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
    /// The connection has ended and must not be polled again.
    ended: bool,
}

/// What became of a request on a wire.
pub(super) enum Sent {
    Answered(Reply),
    /// Not a byte was written; here it is back.
    Unwritten(Outgoing),
    Failed(Fault),
}

impl Wire {
    /// Connects. Every error here means that nothing was sent.
    pub(super) async fn connect(addr: SocketAddr) -> Result<Self, Fault> {
        let stream = TcpStream::connect(addr).await.map_err(not_sent)?;
        stream.set_nodelay(true).map_err(not_sent)?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(not_sent)?;
        Ok(Self { sender, connection: Box::pin(connection), ended: false })
    }

    /// Whether it still takes a request; notices a server that closed in the meantime.
    pub(super) async fn ready(&mut self) -> bool {
        let Self { sender, connection, ended } = self;
        if *ended || drive(connection, ended, sender.ready()).await.is_err() {
            return false;
        }
        // It may have ended while the sender was still glad.
        !*ended
    }

    /// Sends a request and collects its answer. After anything but an answer the wire is spent.
    pub(super) async fn send(&mut self, request: Outgoing) -> Sent {
        let Self { sender, connection, ended } = self;
        let sending = sender.try_send_request(request);
        match drive(connection, ended, sending).await {
            Ok(response) => match drive(connection, ended, collect(response)).await {
                Ok(reply) => Sent::Answered(reply),
                Err(fault) => Sent::Failed(fault),
            },
            Err(mut failed) => match failed.take_message() {
                Some(unwritten) => Sent::Unwritten(unwritten),
                None => Sent::Failed(Fault::Disconnected(chain(&failed.into_error()))),
            },
        }
    }
}

/// Runs the connection until `future` is ready.
async fn drive<F: Future>(
    connection: &mut Pin<Box<Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
    ended: &mut bool,
    future: F,
) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if !*ended && connection.as_mut().poll(cx).is_ready() {
            // Its error, if any, also reaches the future that waits for the answer.
            *ended = true;
        }
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn collect(response: Response<hyper::body::Incoming>) -> Result<Reply, Fault> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, REPLY_BYTES_MAX)
        .collect()
        .await
        .map_err(|cause| Fault::Disconnected(format!("in the answer's body: {cause}")))?
        .to_bytes();
    Ok(Reply::new(head.status.as_u16(), &head.headers, body))
}

fn not_sent(cause: impl fmt::Display) -> Fault {
    Fault::NotSent(cause.to_string())
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("ended", &self.ended).finish_non_exhaustive()
    }
}
