//! Bytes from a peer, and the patience for them: for a head, for the next request, for the last ones.
//!
//! hyper's own timer makes no difference between a head and the silence before it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::pulse::{Order, Phase, Pulse};
use crate::limits;

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub head: Duration,
    pub idle: Duration,
}

/// A stream that fails when its peer takes too long.
#[derive(Debug)]
pub(super) struct Awaited<T> {
    inner: T,
    pulse: Arc<Pulse>,
    patience: Patience,
    /// What the alarm was set for: another phase, or the same of another request, sets it anew.
    awaited: Option<(Phase, u64)>,
    alarm: Alarm,
    /// Bytes that were thrown away since the end was said; `None` before that.
    lingered: Option<usize>,
}

impl<T> Awaited<T> {
    pub(super) fn new(inner: T, pulse: Arc<Pulse>, patience: Patience) -> Self {
        let alarm = Alarm::default();
        Self { inner, pulse, patience, awaited: None, alarm, lingered: None }
    }

    /// Sets the alarm for what is waited for now.
    fn arm(&mut self) {
        let awaited = (self.pulse.phase(), self.pulse.begun());
        if self.awaited != Some(awaited) {
            self.awaited = Some(awaited);
            match awaited.0 {
                Phase::Head => self.alarm.set(Instant::now() + self.patience.head),
                Phase::Idle => self.alarm.set(Instant::now() + self.patience.idle),
                Phase::Busy => self.alarm.clear(),
            }
        }
    }

    fn too_late() -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, "no request in time")
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Awaited<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if read.is_pending() {
            self.arm();
            ready!(self.alarm.poll(context));
            return Poll::Ready(Err(Self::too_late()));
        }
        if buffer.filled().len() > before {
            self.pulse.stirs();
        }
        // A head in turn is bounded by its size. Where requests come at once, bytes that are none
        // could come without a pause, for ever.
        if self.pulse.order() == Order::AtOnce {
            self.arm();
            if self.alarm.is_over() {
                return Poll::Ready(Err(Self::too_late()));
            }
        }
        read
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Awaited<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    /// Says that nothing follows, and then reads on for a moment. A socket that is closed on unread
    /// bytes is reset, and the reset can overtake the answer: the client would see a broken
    /// connection where it should read what is wrong.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut lingered = match this.lingered {
            Some(lingered) => lingered,
            None => {
                ready!(Pin::new(&mut this.inner).poll_shutdown(context))?;
                let moment = Duration::from_millis(limits::LINGER_MS);
                this.alarm.set(Instant::now() + moment);
                0
            }
        };
        let mut scratch = [0; 4 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = Pin::new(&mut this.inner).poll_read(context, &mut buffer);
            let came = buffer.filled().len();
            lingered += came;
            this.lingered = Some(lingered);
            match read {
                Poll::Ready(Ok(())) if came > 0 && lingered <= limits::LINGER_BYTES_MAX => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return this.alarm.poll(context).map(Ok),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::super::pulse::{Lifetime, Order};
    use super::*;

    const PATIENCE: Patience =
        Patience { head: Duration::from_secs(5), idle: Duration::from_secs(15) };

    fn pair(order: Order) -> (Awaited<DuplexStream>, DuplexStream, Arc<Pulse>) {
        let (ours, theirs) = tokio::io::duplex(64);
        let lifetime = Lifetime { requests: 1_000, age: Duration::from_secs(3_600) };
        let pulse = Pulse::new(order, lifetime);
        (Awaited::new(ours, Arc::clone(&pulse), PATIENCE), theirs, pulse)
    }

    async fn timed_out(stream: &mut Awaited<DuplexStream>) -> Duration {
        let began = Instant::now();
        let error = loop {
            match stream.read(&mut [0; 16]).await {
                Ok(read) => assert!(read > 0, "it ends with an error"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        began.elapsed()
    }

    /// A peer that says a little, every second, for ever.
    fn trickle(mut theirs: DuplexStream) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            while theirs.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
    }

    /// Proves that a peer that never says anything is cut after the patience for a head.
    #[tokio::test(start_paused = true)]
    async fn silence() {
        let (mut ours, _theirs, _) = pair(Order::InTurn);
        assert_eq!(timed_out(&mut ours).await, PATIENCE.head);
    }

    /// Proves that bytes that never become a head do not buy time, however often they come.
    #[tokio::test(start_paused = true)]
    async fn a_trickle() {
        let (mut ours, theirs, _) = pair(Order::InTurn);
        let trickle = trickle(theirs);
        assert_eq!(timed_out(&mut ours).await, PATIENCE.head);
        drop(ours);
        trickle.await.unwrap();
    }

    /// Proves that between requests there is more patience, which the next head's first byte ends,
    /// and that a request that is being served has no bound here.
    #[tokio::test(start_paused = true)]
    async fn between_requests() {
        let (mut ours, mut theirs, pulse) = pair(Order::InTurn);
        let turn = pulse.begin();
        let long = Duration::from_secs(100);
        let served = tokio::time::timeout(long, ours.read(&mut [0; 16])).await;
        assert!(served.is_err(), "it is our own turn");
        turn.end();
        assert_eq!(timed_out(&mut ours).await, PATIENCE.idle);
        pulse.begin().end();
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(timed_out(&mut ours).await, PATIENCE.head);
    }

    /// Proves that where requests come at once, bytes without a request neither begin a head nor
    /// keep the connection.
    #[tokio::test(start_paused = true)]
    async fn bytes_without_a_request() {
        let (mut ours, theirs, pulse) = pair(Order::AtOnce);
        pulse.begin().end();
        let trickle = trickle(theirs);
        assert_eq!(timed_out(&mut ours).await, PATIENCE.idle);
        drop(ours);
        trickle.await.unwrap();
    }

    /// Proves the same for bytes that come without a pause.
    #[tokio::test(start_paused = true)]
    async fn bytes_without_a_pause() {
        let (mut ours, mut theirs, pulse) = pair(Order::AtOnce);
        pulse.begin().end();
        let flood = tokio::spawn(async move {
            while theirs.write_all(&[0; 64]).await.is_ok() {
                // Something has to move the time.
                tokio::time::advance(Duration::from_millis(1)).await;
            }
        });
        assert_eq!(timed_out(&mut ours).await.as_secs(), PATIENCE.idle.as_secs());
        drop(ours);
        flood.await.unwrap();
    }

    /// Proves that what still comes after the end is taken, within bounds of time and size.
    #[tokio::test(start_paused = true)]
    async fn lingering() {
        let (mut ours, mut theirs, _) = pair(Order::InTurn);
        let peer = tokio::spawn(async move {
            theirs.write_all(&[0; 1024]).await.unwrap();
            theirs.shutdown().await.unwrap();
            theirs
        });
        ours.shutdown().await.unwrap();
        let mut theirs = peer.await.unwrap();
        assert_eq!(theirs.read(&mut [0; 16]).await.unwrap(), 0, "told that nothing follows");
        let (mut ours, theirs, _) = pair(Order::InTurn);
        let began = Instant::now();
        ours.shutdown().await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_millis(limits::LINGER_MS));
        drop(theirs);
        let (mut ours, mut theirs, _) = pair(Order::InTurn);
        let flood = tokio::spawn(async move { while theirs.write_all(&[0; 64]).await.is_ok() {} });
        ours.shutdown().await.unwrap();
        drop(ours);
        flood.await.unwrap();
    }
}
