//! The fastest server that could possibly answer: hyper with a fixed answer of the size of a real
//! one. What Floodgate costs on top of it is what Floodgate costs.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::limits::BARE_CONNECTIONS_MAX;
use crate::stop::StopFlag;

/// A 201 as the contract describes it.
const BODY: &str = concat!(
    r#"{"reservation_id":"0193f0b2-7d4c-7a31-9c5e-2f6b8d1e4a70","sale_id":"bench","#,
    r#""status":"held","lines":[{"item_id":"sku-1","quantity":1,"unit_price":1999,"#,
    r#""currency":"EUR"}],"total":1999,"currency":"EUR","held_at":"2025-11-20T23:24:00.123Z","#,
    r#""expires_at":"2025-11-20T23:34:00.123Z","durability":"fsync"}"#
);

/// The headers of a real 201 beside `content-length` and `date`, which hyper adds to both.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (
        header::LOCATION,
        HeaderValue::from_static("/v1/reservations/0193f0b2-7d4c-7a31-9c5e-2f6b8d1e4a70"),
    ),
    (
        HeaderName::from_static("x-request-id"),
        HeaderValue::from_static("0193f0b2-7d4c-7a31-9c5e-2f6b8d1e4a71"),
    ),
];

/// The first bytes of a client that speaks HTTP/2 without having been asked.
const HTTP2_BEGINS: &[u8; 4] = b"PRI ";

/// Serves until `shutdown` is ready, on `threads` threads with a single-threaded runtime each.
/// Blocks the calling thread. Connections are then cut: to watch for a shutdown on each would cost
/// more than to answer.
///
/// # Errors
///
/// The listener or a runtime cannot be set up.
pub fn serve(
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
    threads: usize,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let stop = StopFlag::new();
    thread::scope(|scope| {
        let mut others = Vec::new();
        for _ in 1..threads {
            let (listener, stop) = (listener.try_clone()?, stop.clone());
            others.push(
                scope.spawn(move || serve_on_one(listener, async move { stop.wait().await })),
            );
        }
        let served = serve_on_one(listener, shutdown);
        stop.set();
        for other in others {
            other.join().map_err(|_| io::Error::other("a thread panicked"))??;
        }
        served
    })
}

fn serve_on_one(listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let open = Arc::new(Semaphore::new(BARE_CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            // A permit before the accept: further connections wait in the backlog.
            let accepted = async {
                let permit = open.clone().acquire_owned().await;
                (listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                accepted = accepted => accepted,
                () = &mut shutdown => break,
            };
            let Ok((stream, _)) = accepted else { continue };
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            connections.spawn(async move {
                speak(stream).await;
                drop(permit);
            });
            while connections.try_join_next().is_some() {}
        }
        connections.shutdown().await;
        Ok(())
    })
}

/// HTTP/1.1, or HTTP/2 where the client begins with it. A connection that breaks is the client's
/// business.
async fn speak(stream: TcpStream) {
    let mut begin = [0; HTTP2_BEGINS.len()];
    let peeked = stream.peek(&mut begin).await;
    let io = TokioIo::new(stream);
    if peeked.is_ok() && begin == *HTTP2_BEGINS {
        let http2 = http2::Builder::new(TokioExecutor::new());
        drop(http2.serve_connection(io, service_fn(answer)).await);
    } else {
        drop(http1::Builder::new().serve_connection(io, service_fn(answer)).await);
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let mut response = Response::new(Full::new(Bytes::from_static(BODY.as_bytes())));
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().extend(HEADERS.map(|(name, value)| (Some(name), value)));
    Ok(response)
}
