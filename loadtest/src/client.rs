//! A lean HTTP/1.1 client: one kept-alive connection, one request at a time.
//!
//! The connection is driven by the task that asks, not by a task of its own, so a request costs no
//! wake-ups between tasks: the client shares its cores with the server that it measures.
//! What matters most is told apart in [`Fault`]: a request that certainly was not sent, and one
//! whose outcome nobody knows.

mod reply;
mod wire;

pub use hyper::Method;
pub use hyper::header::{self, HeaderName};
pub use reply::{Fault, Reply};

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::HeaderValue;
use hyper::{Request, Uri};

use self::wire::{Sent, Wire};
use crate::limits::REQUEST_DEADLINE;

/// A client of one address.
#[derive(Debug)]
pub struct Client {
    addr: SocketAddr,
    host: HeaderValue,
    deadline: Duration,
    /// Taken out while a request is under way, so that an abandoned one leaves no half exchange.
    wire: Option<Wire>,
    /// Whether the request under way may have reached the server.
    written: bool,
}

impl Client {
    /// A client that connects when it is first used.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        let host = HeaderValue::from_str(&addr.to_string());
        Self {
            addr,
            // An address is always a valid header value; the fallback only avoids a panic path.
            host: host.unwrap_or_else(|_| HeaderValue::from_static("localhost")),
            deadline: REQUEST_DEADLINE,
            wire: None,
            written: false,
        }
    }

    /// The same client with another deadline for each request.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The address it speaks to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends one request and waits for the whole answer.
    ///
    /// A kept-alive connection that the server closed in the meantime is replaced, but a request
    /// is sent again only if not a byte of it was written.
    ///
    /// # Errors
    ///
    /// See [`Fault`]. After a fault the next request opens a new connection.
    ///
    /// Cancel-safe for the client; the outcome of an abandoned request is unknown.
    pub async fn request(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: Bytes,
    ) -> Result<Reply, Fault> {
        let request = self.render(method, path, headers, body)?;
        self.written = false;
        match tokio::time::timeout(self.deadline, self.exchange(request)).await {
            Ok(answered) => answered,
            Err(_) if self.written => Err(Fault::Deadline),
            Err(_) => Err(Fault::NotSent("no connection within the deadline".into())),
        }
    }

    fn render(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Fault> {
        let uri = Uri::try_from(path).map_err(|bad| Fault::NotSent(bad.to_string()))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let map = request.headers_mut();
        map.insert(header::HOST, self.host.clone());
        for (name, value) in headers {
            let value = HeaderValue::from_str(value)
                .map_err(|bad| Fault::NotSent(format!("{name}: {bad}")))?;
            map.insert(name.clone(), value);
        }
        Ok(request)
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, Fault> {
        let mut request = request;
        if let Some(mut wire) = self.wire.take()
            && wire.ready().await
        {
            self.written = true;
            match wire.send(request).await {
                Sent::Answered(reply) => {
                    self.wire = Some(wire);
                    return Ok(reply);
                }
                Sent::Failed(fault) => return Err(fault),
                Sent::Unwritten(unsent) => request = unsent,
            }
            self.written = false;
        }
        let mut wire = Wire::connect(self.addr).await?;
        self.written = true;
        match wire.send(request).await {
            Sent::Answered(reply) => {
                self.wire = Some(wire);
                Ok(reply)
            }
            Sent::Failed(fault) => Err(fault),
            Sent::Unwritten(_) => Err(Fault::NotSent("closed before the request".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::{Client, Fault, Method};

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    async fn get(client: &mut Client) -> Result<super::Reply, Fault> {
        client.request(Method::GET, "/", &[], Bytes::new()).await
    }

    /// Proves that a refused connect is told as "not sent".
    #[tokio::test]
    async fn refused_connect_is_not_sent() {
        let (listener, addr) = listen().await;
        drop(listener);
        let fault = get(&mut Client::new(addr)).await.unwrap_err();
        assert!(matches!(fault, Fault::NotSent(_)), "{fault}");
        assert!(!fault.outcome_unknown());
    }

    /// Proves that a connection cut after the request was read is told as "unknown".
    #[tokio::test]
    async fn cut_after_the_request_is_unknown() {
        let (listener, addr) = listen().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
        });
        let fault = get(&mut Client::new(addr)).await.unwrap_err();
        assert!(matches!(fault, Fault::Disconnected(_)), "{fault}");
        assert!(fault.outcome_unknown());
        server.await.unwrap();
    }

    /// Proves that a silent server is told as "unknown" when the deadline passes.
    #[tokio::test]
    async fn silence_is_unknown() {
        let (listener, addr) = listen().await;
        let server = tokio::spawn(async move { listener.accept().await.unwrap() });
        let mut client = Client::new(addr).with_deadline(std::time::Duration::from_millis(50));
        let fault = get(&mut client).await.unwrap_err();
        assert!(matches!(fault, Fault::Deadline), "{fault}");
        drop(server.await.unwrap());
    }

    /// Proves that headers are read, and that a closed kept-alive connection is replaced.
    #[tokio::test]
    async fn reads_headers_and_reconnects() {
        let (listener, addr) = listen().await;
        let server = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 1024];
                assert!(stream.read(&mut buffer).await.unwrap() > 0);
                let answer = "HTTP/1.1 201 Created\r\ncontent-length: 2\r\nretry-after: 7\r\n\
                    idempotent-replayed: true\r\nlocation: /x\r\netag: \"3\"\r\n\r\nok";
                stream.write_all(answer.as_bytes()).await.unwrap();
                // Dropped here: the connection closes without `Connection: close`.
            }
        });
        let mut client = Client::new(addr);
        let reply = get(&mut client).await.unwrap();
        assert_eq!((reply.status, reply.retry_after), (201, Some(7)));
        assert!(reply.idempotent_replayed);
        assert_eq!(reply.location.as_deref(), Some("/x"));
        assert_eq!(reply.etag.as_deref(), Some("\"3\""));
        assert_eq!(&reply.body[..], b"ok");
        // The server may close before or after the client looks; both faults lead to a new wire.
        let mut answered = get(&mut client).await;
        if answered.is_err() {
            answered = get(&mut client).await;
        }
        assert_eq!(answered.unwrap().status, 201);
        server.await.unwrap();
    }
}
