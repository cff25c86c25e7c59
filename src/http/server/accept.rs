//! Accepting: one connection after the other, while there is room, and without spinning while there
//! is none.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::limits;

/// A connection that has a place among all. It does not block, and is on no runtime yet.
pub(super) struct Accepted {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    pub permit: OwnedSemaphorePermit,
}

/// Takes connections off the kernel's backlog.
pub(super) struct Acceptor {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    user_timeout: Duration,
    pause: Pause,
}

impl Acceptor {
    /// At most so many connections at a time; whoever takes nothing for `user_timeout` is cut off by
    /// the kernel, too, and so is whoever is gone when the connection has been closed here.
    pub(super) fn new(
        listener: TcpListener,
        connections_max: usize,
        user_timeout: Duration,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(connections_max));
        Self { listener, permits, user_timeout, pause: Pause::default() }
    }

    /// The next connection, once there is room for it. `None`: there was none after all, go on.
    /// Cancel-safe: neither a permit nor a connection is lost.
    pub(super) async fn next(&mut self) -> Option<Accepted> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        match self.accept().await {
            Ok((stream, peer)) => {
                self.pause.over();
                if let Err(error) = self.tune(&stream) {
                    debug!(%peer, %error, "connection could not be tuned");
                }
                Some(Accepted { stream, peer, permit })
            }
            Err(error) => {
                if !is_of_connection(&error) {
                    let (pause, failures) = self.pause.next();
                    if let Some(failures) = failures {
                        warn!(%error, failures, "cannot accept");
                    }
                    tokio::time::sleep(pause).await;
                }
                None
            }
        }
    }

    /// Ends the listener, and gives those connections that the kernel had accepted for it by now, as far as
    /// there is room: who is in its queue when it closes would be reset. A listener that others hold as
    /// well keeps its queue.
    pub(super) fn rest(self) -> Vec<Accepted> {
        let mut rest = Vec::new();
        if let Ok(listener) = self.listener.into_std() {
            while let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned()
                && let Ok((stream, peer)) = listener.accept()
                && stream.set_nonblocking(true).is_ok()
            {
                rest.push(Accepted { stream, peer, permit });
            }
        }
        rest
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((stream.into_std()?, peer))
    }

    fn tune(&self, stream: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(stream);
        socket.set_tcp_nodelay(true)?;
        // Left to itself the kernel takes megabytes for whoever asks much and takes nothing.
        socket.set_send_buffer_size(limits::SEND_BUFFER_BYTES)?;
        socket.set_tcp_user_timeout(Some(self.user_timeout))
    }
}

/// Of one connection: the next may be fine. Anything else is of the process or the machine (no
/// descriptors, no memory): it will not go away at once, and a loop that spins on it makes
/// everything worse.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// How long to wait after failures, and how many to tell of at once.
#[derive(Debug, Default)]
struct Pause {
    /// Failures in a row.
    row: u32,
    untold: u64,
    told: Option<Instant>,
}

impl Pause {
    fn over(&mut self) {
        self.row = 0;
    }

    /// The next wait, and, at most once a second, the failures since the last time.
    fn next(&mut self) -> (Duration, Option<u64>) {
        let (shortest, longest) = limits::ACCEPT_BACKOFF_MS;
        let doubled = shortest.saturating_mul(1_u64.checked_shl(self.row).unwrap_or(u64::MAX));
        self.row = self.row.saturating_add(1);
        self.untold += 1;
        let now = Instant::now();
        let every = Duration::from_millis(limits::ACCEPT_LOG_MS);
        let due = self.told.is_none_or(|told| now.duration_since(told) >= every);
        let tell = due.then(|| {
            self.told = Some(now);
            std::mem::take(&mut self.untold)
        });
        (Duration::from_millis(doubled.min(longest)), tell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that pauses grow to their bound and begin anew after a success, and that a thousand
    /// failures are a line a second, in which none is forgotten.
    #[tokio::test(start_paused = true)]
    async fn pauses() {
        let (shortest, longest) = limits::ACCEPT_BACKOFF_MS;
        let mut pause = Pause::default();
        let begin = Instant::now();
        let (mut lines, mut told) = (0, 0);
        for failure in 0..1_000 {
            let (wait, tell) = pause.next();
            let grown = shortest << failure.min(20);
            assert_eq!(wait, Duration::from_millis(grown.min(longest)), "{failure}");
            lines += u64::from(tell.is_some());
            told += tell.unwrap_or(0);
            tokio::time::sleep(wait).await;
        }
        let seconds = begin.elapsed().as_secs();
        assert!((seconds / 2..=seconds + 1).contains(&lines), "{lines} lines in {seconds} s");
        assert_eq!(told + pause.untold, 1_000);
        pause.over();
        assert_eq!(pause.next().0, Duration::from_millis(shortest));
    }
}
