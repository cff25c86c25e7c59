//! Bytes from a peer, and the patience for them: for a head, for the next request, for the last ones.
//!
//! hyper's own timer makes no difference between a head and the silence before it. And it keeps its buffers
//! through that silence: the stream says when they may go, and keeps the first bytes that come then.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
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
    /// Within the silence between two requests in turn: until the connection may rest.
    pub rest: Duration,
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
    /// The alarm is set for a rest; the silence ends then.
    idle_until: Option<Instant>,
    /// The peer has said its end during this request, by its number: the alarm is set for that.
    half_closed: Option<u64>,
    /// A write was not taken.
    unsent: bool,
    /// The connection was told to end for its silence (HTTP/2, which has a word for that).
    told: bool,
    /// Bytes that were read and are still to be given.
    unread: Bytes,
    /// Bytes that were thrown away since the end was said; `None` before that.
    lingered: Option<usize>,
}

impl<T> Awaited<T> {
    pub(super) fn new(inner: T, pulse: Arc<Pulse>, patience: Patience) -> Self {
        Self {
            inner,
            pulse,
            patience,
            awaited: None,
            alarm: Alarm::default(),
            idle_until: None,
            half_closed: None,
            unsent: false,
            told: false,
            unread: Bytes::new(),
            lingered: None,
        }
    }

    /// Whether it was said that nothing follows.
    pub(super) fn has_ended(&self) -> bool {
        self.lingered.is_some()
    }

    /// Sets the alarm for what is waited for now.
    fn arm(&mut self) {
        let awaited = (self.pulse.phase(), self.pulse.begun());
        if self.awaited != Some(awaited) {
            let Patience { head, idle, rest } = self.patience;
            self.awaited = Some(awaited);
            self.idle_until = None;
            match awaited.0 {
                Phase::Head => self.alarm.set(Instant::now() + head),
                Phase::Idle if self.pulse.order() == Order::InTurn && rest < idle => {
                    let now = Instant::now();
                    self.alarm.set(now + rest);
                    self.idle_until = Some(now + idle);
                }
                Phase::Idle => self.alarm.set(Instant::now() + idle),
                Phase::Busy => self.alarm.clear(),
            }
        }
    }

    /// Ready once the patience is at its end.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.arm();
        ready!(self.alarm.poll(context));
        if let Some(until) = self.idle_until.take() {
            // Nor one that has said its end: what still comes then is thrown away, and is no request.
            if !self.unsent && self.lingered.is_none() {
                self.pulse.rest();
            }
            self.alarm.set(until);
            ready!(self.alarm.poll(context));
        }
        if self.tells() {
            ready!(self.alarm.poll(context));
        }
        Poll::Ready(())
    }

    /// Whether there is still something to do about a patience that is at its end: where requests come at once,
    /// the connection is told to end, for which it has a moment. This is its own task, which sees that it is
    /// spent once hyper has nothing more to do.
    fn tells(&mut self) -> bool {
        let tells = self.pulse.order() == Order::AtOnce && !self.told;
        if tells {
            self.told = true;
            self.pulse.spend();
            self.alarm.set(Instant::now() + Duration::from_millis(limits::LINGER_MS));
        }
        tells
    }

    /// Ready once the peer's end is to be told. hyper gives up a request on whose connection it finds one.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.pulse.order() != Order::InTurn || self.pulse.phase() != Phase::Busy {
            return Poll::Ready(());
        }
        let request = Some(self.pulse.begun());
        if self.half_closed != request {
            self.half_closed = request;
            self.alarm.set(Instant::now() + Duration::from_millis(limits::HALF_CLOSED_MS));
        }
        self.alarm.poll(context)
    }

    fn too_late() -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, "no request in time")
    }
}

impl<T: AsyncRead + Unpin> Awaited<T> {
    /// Takes back what was read too early.
    pub(super) fn put_back(&mut self, unread: Bytes) {
        if !unread.is_empty() {
            self.unread = unread;
        }
    }

    /// Ready once there is something to do: bytes have come, or nothing will, or the silence has been too
    /// long. What it is, the next read tells.
    pub(super) fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.unread.is_empty() {
            return Poll::Ready(());
        }
        /// On the stack: most heads are shorter.
        const FIRST_BYTES: usize = 1024;
        let mut scratch = [0; FIRST_BYTES];
        let mut buffer = ReadBuf::new(&mut scratch);
        if Pin::new(&mut self.inner).poll_read(context, &mut buffer).is_pending() {
            return self.alarm.poll(context);
        }
        self.unread = Bytes::copy_from_slice(buffer.filled());
        Poll::Ready(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Awaited<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = if self.unread.is_empty() {
            Pin::new(&mut self.inner).poll_read(context, buffer)
        } else {
            let length = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(length));
            Poll::Ready(Ok(()))
        };
        if read.is_pending() {
            ready!(self.poll_patience(context));
            return Poll::Ready(Err(Self::too_late()));
        }
        if buffer.filled().len() > before {
            self.pulse.stirs();
        } else if matches!(read, Poll::Ready(Ok(()))) {
            ready!(self.poll_end(context));
        }
        // A head in turn is bounded by its size. Where requests come at once, bytes that are none
        // could come without a pause, for ever.
        if self.pulse.order() == Order::AtOnce {
            self.arm();
            if self.alarm.is_over() && !self.tells() {
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
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.unsent = written.is_pending();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.unsent = flushed.is_pending();
        if !self.unsent && self.pulse.phase() == Phase::Idle {
            // hyper may be waiting for bytes since before the answer: no read sets the alarm for this silence.
            // Whatever it says, the next read says again.
            self.arm();
            let _ = self.alarm.poll(context);
            if self.half_closed.take().is_some() {
                // It has its answer. The next read tells its end.
                context.waker().wake_by_ref();
            }
        }
        flushed
    }

    /// Says that nothing follows, and then reads on for a moment. A socket that is closed on unread
    /// bytes is reset, and the reset can overtake the answer: the client would see a broken
    /// connection where it should read what is wrong.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut lingered = match this.lingered {
            Some(lingered) => lingered,
            None => {
                // hyper may find only now, in the poll that was to begin a rest, that it has to end.
                this.pulse.is_to_rest();
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
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::super::pulse::{Lifetime, Order};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Patience =
        Patience { head: SECOND.saturating_mul(5), idle: SECOND.saturating_mul(15), rest: SECOND };

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

    /// Proves that a connection may rest after a short silence and not before, not while an answer is not
    /// taken, and that the whole silence is bounded as before.
    #[tokio::test(start_paused = true)]
    async fn rest() {
        let (mut ours, _theirs, pulse) = pair(Order::InTurn);
        pulse.begin().end();
        let began = Instant::now();
        poll_fn(|context| {
            let mut scratch = [0; 16];
            let read = Pin::new(&mut ours).poll_read(context, &mut ReadBuf::new(&mut scratch));
            assert!(read.is_pending());
            if pulse.is_to_rest() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert_eq!(began.elapsed(), PATIENCE.rest);
        poll_fn(|context| ours.poll_rest(context)).await;
        assert_eq!(began.elapsed(), PATIENCE.idle);
        timed_out(&mut ours).await;

        let (mut ours, _theirs, pulse) = pair(Order::InTurn);
        let taken = tokio::time::timeout(SECOND, ours.write_all(&[0; 65])).await;
        assert!(taken.is_err(), "it takes 64");
        pulse.begin().end();
        timed_out(&mut ours).await;
        assert!(!pulse.is_to_rest());
    }

    /// Proves that what comes to an end of a rest is read afterwards, after what was read before it.
    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost_in_a_rest() {
        let (mut ours, mut theirs, _) = pair(Order::InTurn);
        theirs.write_all(b"second").await.unwrap();
        poll_fn(|context| ours.poll_rest(context)).await;
        theirs.write_all(b"third").await.unwrap();
        drop(theirs);
        let mut read = String::new();
        ours.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "secondthird");
        let (mut ours, _theirs, _) = pair(Order::InTurn);
        ours.put_back(Bytes::from_static(b"first"));
        poll_fn(|context| ours.poll_rest(context)).await;
        let mut few = [0; 3];
        ours.read_exact(&mut few).await.unwrap();
        assert_eq!(&few, b"fir");
        assert_eq!(ours.read(&mut few).await.unwrap(), 2);
    }

    /// Proves that where requests come at once, bytes without a request neither begin a head nor
    /// keep the connection, which is told to end a moment before it is cut.
    #[tokio::test(start_paused = true)]
    async fn bytes_without_a_request() {
        let (mut ours, theirs, pulse) = pair(Order::AtOnce);
        pulse.begin().end();
        let trickle = trickle(theirs);
        let told = tokio::time::timeout(PATIENCE.idle, timed_out(&mut ours)).await;
        assert!(told.is_err() && pulse.is_spent());
        assert_eq!(timed_out(&mut ours).await, Duration::from_millis(limits::LINGER_MS));
        drop(ours);
        trickle.await.unwrap();
    }

    /// Proves that bytes that come without a pause do not keep it either.
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
