//! One request and how it ended.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Level;
use crate::limits::REQUEST_UNDER_WAY;

/// A refusal code, or the kind of an unknown.
pub type Code = Cow<'static, str>;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// A reservation.
    Reserve,
    /// A reservation with a used key and another body; only a refusal is right.
    Misuse,
    /// The buyer looks at the reservation.
    Look,
    /// The buyer cancels.
    Cancel,
    /// A payment arrives.
    Confirm,
}

/// How a request ended, as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// Sent, not answered yet; for ever so if the client died.
    Invoke,
    /// Granted.
    Ok,
    /// A definite no, with its code.
    No(Code),
    /// Nobody knows, with the kind of fault.
    Unknown(Code),
}

/// Units of one item.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Line {
    /// The item.
    pub item_id: Arc<str>,
    /// How many units of it.
    pub quantity: u32,
}

/// What a 201 said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The sale.
    pub sale_id: Arc<str>,
    /// The lines, in the order of the answer.
    pub lines: Vec<Line>,
    /// The price of all lines, in minor units.
    pub total: i64,
    /// Since when the units are held, in milliseconds since the epoch.
    pub held_at_ms: i64,
    /// Until when, in milliseconds since the epoch.
    pub expires_at_ms: i64,
    /// A digest of the whole body: a replay has to be the same to the byte.
    pub body_digest: u64,
    /// What the reservation survives; without it, the 201 said nothing that anybody knows.
    #[serde(default)]
    pub level: Option<Level>,
}

/// One request of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number in the history.
    pub seq: u64,
    /// What was asked for.
    pub op: Op,
    /// Who asked.
    pub user: Arc<str>,
    /// The idempotency key of a reservation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// The payment's reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_ref: Option<Arc<str>>,
    /// What was to be reserved; empty for the other operations.
    #[serde(default, skip_serializing_if = "no_lines")]
    pub lines: Arc<[Line]>,
    /// Which clock its times are of: those of one tell how long, those of two only which came first.
    #[serde(default)]
    pub clock: u32,
    /// When it was sent, on the history's own monotonic clock.
    pub start_us: u64,
    /// When it ended; zero while it has not.
    pub end_us: u64,
    /// How it ended.
    pub seen: Seen,
    /// The server marked its answer as a replay, or the client repeated a finished request.
    #[serde(default)]
    pub replayed: bool,
    /// The reservation: the one that was made, or the one that the request was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Arc<str>>,
    /// What the 201 said, for a reservation that was granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Box<Receipt>>,
}

fn no_lines(lines: &Arc<[Line]>) -> bool {
    lines.is_empty()
}

impl Entry {
    /// The outcome under which a report counts this request.
    #[must_use]
    pub fn outcome(&self) -> &str {
        match (&self.seen, self.op, self.replayed) {
            (Seen::Invoke | Seen::Unknown(_), _, _) => "unknown",
            (Seen::No(code), _, _) => code,
            (Seen::Ok, Op::Reserve, false) => "reserved",
            (Seen::Ok, Op::Reserve, true) => "replayed",
            (Seen::Ok, Op::Misuse, _) => "key-reuse-accepted",
            (Seen::Ok, Op::Look, _) => "seen",
            (Seen::Ok, Op::Cancel, false) => "cancelled",
            (Seen::Ok, Op::Cancel, true) => "cancel-replayed",
            (Seen::Ok, Op::Confirm, false) => "confirmed",
            (Seen::Ok, Op::Confirm, true) => "confirm-replayed",
        }
    }

    /// From when on nothing of it can be under way any more. Where the client gave up the server may still be
    /// at it, for as long as the contract lets it.
    #[must_use]
    pub fn over_us(&self) -> u64 {
        let gave_up = matches!(&self.seen, Seen::Unknown(code) if code == "deadline");
        let still = if gave_up { REQUEST_UNDER_WAY.as_micros() } else { 0 };
        self.end_us.saturating_add(u64::try_from(still).unwrap_or(u64::MAX))
    }

    /// Whether nobody knows how it ended.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        match self.seen {
            Seen::Invoke | Seen::Unknown(_) => true,
            Seen::Ok | Seen::No(_) => false,
        }
    }
}

/// A digest of a body (FNV-1a, 64 bits): stable between runs, which the standard hasher is not.
#[must_use]
pub fn digest(body: &[u8]) -> u64 {
    body.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
