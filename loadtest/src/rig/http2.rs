//! HTTP/2: several requests at a time over one connection.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::Tls;
use super::answer::Answer;
use super::connection::Broken;

/// A connection that several share; opened by whoever needs it first, and again after it broke.
#[derive(Clone, Debug)]
pub(super) struct Multiplexed {
    target: SocketAddr,
    tls: Option<Tls>,
    sender: Arc<Mutex<Option<SendRequest<Full<Bytes>>>>>,
}

impl Multiplexed {
    pub(super) fn new(target: SocketAddr, tls: Option<Tls>) -> Self {
        Self { target, tls, sender: Arc::default() }
    }

    /// Sends a request, which is given as the bytes that HTTP/1.1 would have. Cancel-safe: the
    /// stream is reset, the connection stays.
    pub(super) async fn exchange(&self, request: &[u8]) -> Result<Answer, Broken> {
        let request = translate(self.target, self.tls.is_some(), request).ok_or(Broken::Request)?;
        let mut sender = self.sender().await?;
        let answer = sender.send_request(request).await.map_err(|e| self.broken(&e))?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|e| self.broken(&e))?.to_bytes();
        Ok(Answer::of_parts(parts.status.as_u16(), &parts.headers, &body))
    }

    /// Connects if necessary.
    pub(super) async fn ready(&self) -> Result<(), Broken> {
        self.sender().await.map(drop)
    }

    async fn sender(&self) -> Result<SendRequest<Full<Bytes>>, Broken> {
        let mut shared = self.sender.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream =
            TcpStream::connect(self.target).await.map_err(|e| Broken::Connect(e.kind()))?;
        stream.set_nodelay(true).map_err(|e| Broken::Connect(e.kind()))?;
        let sender = match &self.tls {
            Some(tls) => {
                let stream = tls.connect(stream).await.map_err(|e| Broken::Connect(e.kind()))?;
                self.speak(stream).await?
            }
            None => self.speak(stream).await?,
        };
        *shared = Some(sender.clone());
        Ok(sender)
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<SendRequest<Full<Bytes>>, Broken> {
        let opened = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|e| self.broken(&e))?;
        // It ends with its last sender; what broke it is seen by those who use it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn broken(&self, _: &hyper::Error) -> Broken {
        Broken::Closed
    }
}

/// The request that these bytes of HTTP/1.1 mean.
fn translate(target: SocketAddr, tls: bool, bytes: &[u8]) -> Option<Request<Full<Bytes>>> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?, first.next()?);
    let scheme = if tls { "https" } else { "http" };
    let mut request = Request::builder().method(method).uri(format!("{scheme}://{target}{path}"));
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let hop = [header::HOST, header::CONNECTION];
        if !hop.iter().any(|dropped| dropped.as_str().eq_ignore_ascii_case(name)) {
            request = request.header(name, value);
        }
    }
    request.body(Full::new(Bytes::copy_from_slice(&bytes[end + 4..]))).ok()
}

#[cfg(test)]
mod tests {
    use super::translate;

    /// Proves that method, path, headers and body survive, and that `Host` becomes the authority.
    #[test]
    fn translates() {
        let target = "127.0.0.1:8080".parse().unwrap();
        let bytes =
            b"POST /a?b HTTP/1.1\r\nhost: h\r\nx-user-id: u1\r\ncontent-length: 2\r\n\r\n{}";
        let request = translate(target, false, bytes).unwrap();
        assert_eq!(request.uri(), "http://127.0.0.1:8080/a?b");
        assert_eq!(request.method(), "POST");
        assert_eq!(request.headers()["x-user-id"], "u1");
        assert!(!request.headers().contains_key("host"));
        assert!(translate(target, false, b"POST").is_none());
    }
}
