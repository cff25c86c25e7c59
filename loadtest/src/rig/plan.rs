//! What an open loop is to do: how many come when, over which connections, and how those behave who
//! are refused.

use std::net::SocketAddr;
use std::time::Duration;

use super::{RigError, Tls};
use crate::limits::{
    BACKOFF_FIRST, BACKOFF_MAX_DEFAULT, CONNECTIONS_DEFAULT, CONNECTIONS_MAX, OPEN_VISITS_MAX,
    PATIENCE_DEFAULT, REQUEST_DEADLINE, STREAMS_DEFAULT,
};

/// An open loop.
#[derive(Clone, Debug)]
pub struct OpenPlan {
    /// Where to connect; connections are spread over them in turn.
    pub targets: Vec<SocketAddr>,
    /// Connections, at most.
    pub connections: usize,
    /// What is spoken.
    pub protocol: Protocol,
    /// HTTP/2 by TLS; without it, by prior knowledge.
    pub tls: Option<Tls>,
    /// A connection takes more than one request. HTTP/2 always does.
    pub keep_alive: bool,
    /// One after the other.
    pub phases: Vec<Phase>,
    /// What those do who get no 201.
    pub retry: Retry,
    /// How long a request waits for its answer.
    pub deadline: Duration,
    /// How long one that is due waits for a free connection; then it is dropped.
    pub patience: Duration,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1: one request at a time on a connection.
    Http1,
    /// HTTP/2: so many requests at a time on a connection.
    Http2 {
        /// Requests under way on one connection, at most.
        streams: usize,
    },
}

impl Protocol {
    /// HTTP/2 with the usual number of streams.
    pub const HTTP2: Self = Self::Http2 { streams: STREAMS_DEFAULT };
}

/// A time with a rate of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// What it is called in the report.
    pub name: String,
    /// Arrivals a second, retries apart.
    pub rate: f64,
    /// How long it lasts.
    pub time: Duration,
}

impl Phase {
    /// How many arrive in it.
    #[must_use]
    pub fn arrivals(&self) -> u64 {
        (self.rate * self.time.as_secs_f64()).round() as u64
    }
}

/// What those do who get no 201.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// How often they ask again, at most.
    pub times: u32,
    /// After what: a status (`"503"`), a problem's code (`"sold-out"`), or `"unanswered"`.
    pub on: Vec<String>,
    /// How long they wait.
    pub backoff: Backoff,
    /// They wait at least as long as `Retry-After` says.
    pub honour_retry_after: bool,
}

/// How long somebody waits before asking again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// Not at all.
    None,
    /// A random time up to a bound that doubles with each try.
    Exponential {
        /// The bound before the first retry.
        first: Duration,
        /// The bound, at most.
        max: Duration,
    },
}

impl Backoff {
    /// As well-behaved clients wait.
    pub const POLITE: Self = Self::Exponential { first: BACKOFF_FIRST, max: BACKOFF_MAX_DEFAULT };
}

impl Default for Retry {
    /// Nobody asks again.
    fn default() -> Self {
        Self { times: 0, on: Vec::new(), backoff: Backoff::POLITE, honour_retry_after: true }
    }
}

impl Retry {
    /// How long to wait before try number `tries + 1`; `None` if there is none.
    pub(super) fn wait(&self, tries: u32, refusal: &Refusal<'_>) -> Option<Duration> {
        if tries > self.times || !self.on.iter().any(|wanted| refusal.is(wanted)) {
            return None;
        }
        let backoff = match self.backoff {
            Backoff::None => Duration::ZERO,
            Backoff::Exponential { first, max } => {
                let doublings = tries.saturating_sub(1).min(20);
                first.saturating_mul(1 << doublings).min(max).mul_f64(fastrand::f64())
            }
        };
        let asked = if self.honour_retry_after { refusal.retry_after } else { None };
        // Everybody who is told the same second would come in the same moment: spread over it.
        let asked =
            asked.map(|s| Duration::from_secs(s) + Duration::from_secs(1).mul_f64(fastrand::f64()));
        Some(backoff.max(asked.unwrap_or_default()))
    }
}

/// Why somebody has no 201.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal<'a> {
    /// `None`: no answer.
    pub status: Option<u16>,
    pub code: &'a str,
    pub retry_after: Option<u64>,
}

impl Refusal<'_> {
    fn is(&self, wanted: &str) -> bool {
        match self.status {
            None => wanted == "unanswered",
            Some(status) => wanted == self.code || wanted.parse() == Ok(status),
        }
    }
}

impl OpenPlan {
    /// One phase, and nobody asks again.
    #[must_use]
    pub fn steady(target: SocketAddr, rate: f64, time: Duration) -> Self {
        Self {
            targets: vec![target],
            connections: CONNECTIONS_DEFAULT,
            protocol: Protocol::Http1,
            tls: None,
            keep_alive: true,
            phases: vec![Phase { name: "all".to_owned(), rate, time }],
            retry: Retry::default(),
            deadline: REQUEST_DEADLINE,
            patience: PATIENCE_DEFAULT,
        }
    }

    /// How many arrive in all phases.
    #[must_use]
    pub fn arrivals(&self) -> u64 {
        self.phases.iter().map(Phase::arrivals).sum()
    }

    /// How long all phases last.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.phases.iter().map(|phase| phase.time).sum()
    }

    /// Requests that can be under way at once.
    pub(super) fn slots(&self) -> usize {
        match self.protocol {
            Protocol::Http1 => self.connections,
            Protocol::Http2 { streams } => self.connections.saturating_mul(streams),
        }
    }

    pub(super) fn check(&self) -> Result<(), RigError> {
        if self.targets.is_empty() {
            return Err(RigError::Nothing("targets"));
        }
        if self.slots() == 0 {
            return Err(RigError::Nothing("connections"));
        }
        if self.slots() > CONNECTIONS_MAX {
            return Err(RigError::TooMany("connections times streams", CONNECTIONS_MAX as u64));
        }
        if self.phases.is_empty()
            || self.phases.iter().any(|p| !p.rate.is_finite() || p.rate <= 0.0)
        {
            return Err(RigError::Nothing("rate"));
        }
        if self.arrivals() > OPEN_VISITS_MAX {
            return Err(RigError::TooMany("arrivals", OPEN_VISITS_MAX));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, Refusal, Retry};

    fn refused(status: u16, code: &str, retry_after: Option<u64>) -> Refusal<'_> {
        Refusal { status: Some(status), code, retry_after }
    }

    /// Proves that retries end, that only what was named is tried again, and that `Retry-After` counts
    /// where it is honoured and only there.
    #[test]
    fn waits() {
        let on = vec!["503".to_owned(), "sold-out".to_owned(), "unanswered".to_owned()];
        let rude = Retry { times: 2, on, backoff: Backoff::None, honour_retry_after: false };
        assert_eq!(rude.wait(1, &refused(503, "overloaded", Some(3))), Some(Duration::ZERO));
        assert_eq!(rude.wait(2, &refused(409, "sold-out", None)), Some(Duration::ZERO));
        assert_eq!(rude.wait(3, &refused(409, "sold-out", None)), None);
        assert_eq!(rude.wait(1, &refused(409, "limit-reached", None)), None);
        let lost = Refusal { status: None, code: "", retry_after: None };
        assert_eq!(rude.wait(1, &lost), Some(Duration::ZERO));
        let polite = Retry { honour_retry_after: true, backoff: Backoff::POLITE, ..rude };
        let waited = polite.wait(1, &refused(503, "overloaded", Some(3))).unwrap();
        assert!((3.0..=4.0).contains(&waited.as_secs_f64()), "{waited:?}");
    }
}
