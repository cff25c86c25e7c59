//! One connection of a generator: writes rendered bytes, reads until the answer ends.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::response::{BadResponse, Head, parse};
use crate::limits::REPLY_BYTES_MAX;

/// Bytes that are read at once: an answer fits.
const READ_BYTES: usize = 4 * 1024;

/// Why a request has no answer.
#[derive(Debug, Error)]
pub(super) enum Broken {
    #[error("connect: {0}")]
    Connect(io::ErrorKind),
    #[error("write: {0}")]
    Write(io::ErrorKind),
    #[error("read: {0}")]
    Read(io::ErrorKind),
    #[error("closed before the answer")]
    Closed,
    #[error("answer: {0}")]
    Response(#[from] BadResponse),
    #[error("answer: too long")]
    TooLong,
    #[error("no answer within the deadline")]
    Deadline,
    #[error("no request")]
    Request,
}

impl Broken {
    /// Which of a few causes it is.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Connect(io::ErrorKind::ConnectionRefused) => "connect: refused",
            Self::Connect(_) => "connect",
            Self::Write(_) => "write",
            Self::Read(io::ErrorKind::ConnectionReset) => "read: reset",
            Self::Read(_) => "read",
            Self::Closed => "closed before the answer",
            Self::Response(_) | Self::TooLong => "answer that cannot be read",
            Self::Deadline => "no answer within the deadline",
            Self::Request => "no request",
        }
    }

    /// Whether the server may have done what it was asked to.
    pub(super) fn may_have_been_served(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Request => false,
            Self::Write(_)
            | Self::Read(_)
            | Self::Closed
            | Self::Response(_)
            | Self::TooLong
            | Self::Deadline => true,
        }
    }
}

/// A connection, or the intention to have one.
#[derive(Debug)]
pub(super) struct Connection {
    addr: SocketAddr,
    stream: Option<TcpStream>,
    inbox: Vec<u8>,
}

impl Connection {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self { addr, stream: None, inbox: Vec::with_capacity(READ_BYTES) }
    }

    /// Connects if necessary.
    pub(super) async fn ready(&mut self) -> Result<(), Broken> {
        if self.stream.is_none() {
            let stream =
                TcpStream::connect(self.addr).await.map_err(|e| Broken::Connect(e.kind()))?;
            stream.set_nodelay(true).map_err(|e| Broken::Connect(e.kind()))?;
            self.stream = Some(stream);
        }
        Ok(())
    }

    /// Sends a request and reads its answer. A connection that broke, or that the server closes,
    /// is opened anew by the next call. Not cancel-safe.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Head, Broken> {
        self.ready().await?;
        // Taken out: only a whole exchange leaves a connection that can be used again.
        let Some(mut stream) = self.stream.take() else {
            return Err(Broken::Closed);
        };
        stream.write_all(request).await.map_err(|e| Broken::Write(e.kind()))?;
        let head = self.read(&mut stream).await?;
        if head.keep_alive {
            self.stream = Some(stream);
        }
        Ok(head)
    }

    /// The answer that was read last, head and body.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.inbox
    }

    async fn read(&mut self, stream: &mut TcpStream) -> Result<Head, Broken> {
        self.inbox.clear();
        let mut found = None;
        loop {
            self.inbox.reserve(READ_BYTES);
            let read = stream.read_buf(&mut self.inbox).await;
            if read.map_err(|e| Broken::Read(e.kind()))? == 0 {
                return Err(Broken::Closed);
            }
            if found.is_none() {
                found = parse(&self.inbox)?;
            }
            let Some(head) = found else { continue };
            if head.total_bytes() > REPLY_BYTES_MAX {
                return Err(Broken::TooLong);
            }
            match self.inbox.len().cmp(&head.total_bytes()) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(head),
                std::cmp::Ordering::Greater => return Err(BadResponse::Surplus.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::{Broken, Connection};

    /// Proves that an answer which trickles in byte by byte is read whole, that surplus bytes are
    /// an error, and that the connection is opened anew after it.
    #[tokio::test]
    async fn trickles_and_surplus() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            for surplus in ["", "x", ""] {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut request = [0; 4];
                stream.read_exact(&mut request).await.unwrap();
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                if surplus.is_empty() {
                    for byte in answer.bytes() {
                        stream.write_all(&[byte]).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                } else {
                    stream.write_all(format!("{answer}{surplus}").as_bytes()).await.unwrap();
                }
                drop(stream.read(&mut request).await);
            }
        });
        let mut connection = Connection::new(addr);
        assert_eq!(connection.exchange(b"ping").await.unwrap().body_bytes, 2);
        let broken = connection.exchange(b"ping").await.unwrap_err();
        assert!(matches!(broken, Broken::Response(_)), "{broken}");
        assert_eq!(connection.exchange(b"ping").await.unwrap().status, 200);
        drop(connection);
        server.await.unwrap();
    }
}
