//! Bytes to a peer: given up when it takes none of them for too long.
//!
//! Nothing in hyper bounds a write. The kernel's TCP_USER_TIMEOUT does, but where the peer's window is
//! zero and its acknowledgements go on only from version 5.11 on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::alarm::Alarm;
use crate::crash;

/// A stream whose writes fail once they have come to nothing for too long.
#[derive(Debug)]
pub(super) struct Pushed<T> {
    inner: T,
    stall: Duration,
    alarm: Alarm,
}

impl<T> Pushed<T> {
    pub(super) fn new(inner: T, stall: Duration) -> Self {
        Self { inner, stall, alarm: Alarm::default() }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Pushed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Pushed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let dies = crash::comes_to("reply: half written");
        let bytes = if dies { &bytes[..bytes.len() / 2] } else { bytes };
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        if dies {
            crash::die("reply: half written");
        }
        if written.is_ready() {
            self.alarm.clear();
            return written;
        }
        if !self.alarm.is_set() {
            let due = Instant::now() + self.stall;
            self.alarm.set(due);
        }
        ready!(self.alarm.poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets have nothing to flush.
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Proves that a peer that takes nothing is given up, and one that takes a little is not.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing() {
        const STALL: Duration = Duration::from_secs(7);
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = Pushed::new(ours, STALL);
        let began = Instant::now();
        let slow = tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(5)).await;
                theirs.read_exact(&mut [0; 8]).await.unwrap();
            }
            theirs
        });
        let error = ours.write_all(&[0; 1024]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), Duration::from_secs(25) + STALL);
        drop(slow.await.unwrap());
    }
}
