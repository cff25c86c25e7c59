//! Load generators. Closed loop: a fixed number of connections, each asking as fast as it is
//! answered, to find what a server can do at most. Open loop: a fixed rate, come what may, with
//! latencies measured from the intended start, to find how it feels.

mod answer;
mod closed;
mod connection;
mod http2;
mod meter;
mod open;
mod plan;
mod request;
mod response;
mod stats;
#[cfg(test)]
mod tests;
mod tls;

pub use answer::ReservationId;
pub(crate) use answer::reservation_of;
pub use open::{OpenReport, PhaseReport, Refused, Second, Seen, Times, Visits};
pub use plan::{Backoff, OpenPlan, Phase, Protocol, Retry};
pub use request::{GetRequest, ReserveRequest};
pub use response::{BadResponse, Head, parse};
pub use stats::{LatencyPercentiles, Rps, Stats, Summary};
pub use tls::Tls;

use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

/// Renders request number `n` as the bytes of an HTTP/1.1 request, appending to the buffer.
pub trait Render: Send + Sync + 'static {
    /// Appends the bytes.
    fn render(&self, n: u64, out: &mut Vec<u8>);
}

impl<F: Fn(u64, &mut Vec<u8>) + Send + Sync + 'static> Render for F {
    fn render(&self, n: u64, out: &mut Vec<u8>) {
        self(n, out);
    }
}

impl Render for Box<dyn Render> {
    fn render(&self, n: u64, out: &mut Vec<u8>) {
        self.as_ref().render(n, out);
    }
}

/// When a closed loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After this time; what is in flight is waited for.
    Elapsed(Duration),
    /// After this many requests, or this time at most.
    Count(u64, Duration),
}

/// Why a run could not begin.
#[derive(Debug, Error)]
pub enum RigError {
    /// Nothing to do.
    #[error("{0} must be at least 1")]
    Nothing(&'static str),
    /// More than this program can do.
    #[error("{0} must be at most {1}")]
    TooMany(&'static str, u64),
    /// A histogram that cannot be made.
    #[error("histogram: {0}")]
    Histogram(String),
}

/// Drives a server as fast as it answers; requests are numbered from `first`.
///
/// # Errors
///
/// A run that makes no sense; faults of the server are counted, not returned.
pub async fn closed(
    addr: SocketAddr,
    connections: usize,
    until: Until,
    first: u64,
    render: impl Render,
) -> Result<Stats, RigError> {
    check(connections)?;
    closed::run(addr, connections, until, first, render).await
}

/// Drives a server as the plan says, whatever it answers. What is due while all connections are busy
/// waits, and its waiting counts as latency; what has waited for too long is dropped, and counted.
/// Visitors are numbered from 0 on, and each try of one sends the same bytes.
///
/// # Errors
///
/// As for [`closed`].
pub async fn open(plan: OpenPlan, render: impl Render) -> Result<(OpenReport, Seen), RigError> {
    open::run(plan, render).await
}

fn check(connections: usize) -> Result<(), RigError> {
    if connections == 0 { Err(RigError::Nothing("connections")) } else { Ok(()) }
}
