//! What comes back: an answer, or a fault that says whether the request may have had an effect.

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{self, HeaderName};
use thiserror::Error;

const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// One whole answer, with the headers that a buyer acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// `Retry-After`, in whole seconds.
    pub retry_after: Option<u64>,
    /// `Idempotent-Replayed: true`.
    pub idempotent_replayed: bool,
    /// `Location`.
    pub location: Option<String>,
    /// `ETag`, with its quotes.
    pub etag: Option<String>,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    pub(super) fn new(status: u16, headers: &HeaderMap, body: Bytes) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            status,
            retry_after: text(header::RETRY_AFTER).and_then(|value| value.parse().ok()),
            idempotent_replayed: text(IDEMPOTENT_REPLAYED) == Some("true"),
            location: text(header::LOCATION).map(str::to_owned),
            etag: text(header::ETAG).map(str::to_owned),
            body,
        }
    }

    /// Whether the status is of the 2xx family.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, Error)]
pub enum Fault {
    /// Not a byte of the request was written: it certainly had no effect.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The connection broke after the request was, at least in part, written: outcome unknown.
    #[error("disconnected, outcome unknown: {0}")]
    Disconnected(String),
    /// No whole answer within the deadline: outcome unknown.
    #[error("no answer within the deadline, outcome unknown")]
    Deadline,
}

impl Fault {
    /// Whether the request may have had an effect: ask again with the same key.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::NotSent(_) => false,
            Self::Disconnected(_) | Self::Deadline => true,
        }
    }

    /// Whether the server seems to be gone, rather than slow.
    #[must_use]
    pub fn is_disconnect(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Disconnected(_) => true,
            Self::Deadline => false,
        }
    }
}
