//! The ledger: the one authority on stock and reservations.
//!
//! A ledger is a number of lanes. Each lane has a bounded inbox; whatever waits in it is the next
//! batch, and a batch is one atomic step: every command in it is decided, what happened is made
//! durable together with its outbox record, and only then is anybody answered. An idle
//! lane answers at once; a busy one forms larger batches by itself, and in a crowd lets them gather.
//!
//! The trait offers no way to read something and write it back later: every operation is a
//! [`Command`], and every command is one decision.

#[cfg(test)]
pub(crate) mod contract;
pub mod embedded;
pub mod journal;
pub(crate) mod lane;
pub mod name;
mod pace;
pub(crate) mod postman;
pub mod redis;
#[cfg(test)]
mod sweepers;

use std::time::Duration;

pub use lane::LaneGauge;
use lane::{Inbox, Ticket, inbox};

use governor::Quota;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use crate::clock::Millis;
use crate::engine::{Command, Position};
use crate::sale::{LaneId, Outcome};

/// Atomic decisions, in lanes.
///
/// Contract of every implementation:
/// - a command is decided once, wholly, at one instant of the ledger's clock;
/// - an answer is given after what it says is as durable as the ledger promises, never before;
/// - a command that was submitted is decided even if nobody waits for its answer any more, but for a
///   reservation that is still in the inbox when its client goes: that one is not made;
/// - repeating a command is safe: each is idempotent under its own identity;
/// - the commands of one lane are decided one after the other.
pub trait Ledger: Send + Sync {
    /// How many lanes there are.
    fn lanes(&self) -> u16;

    /// Hands a command to a lane. Does not block and does no I/O.
    ///
    /// # Errors
    /// [`Fault::Overloaded`] where the lane's inbox is full, [`Fault::Unavailable`] where the lane is
    /// not working: in both cases nothing has happened and nothing will.
    fn submit(&self, lane: LaneId, command: Command) -> Result<Pending, Fault>;

    /// Position of the lane's last outbox record.
    fn head(&self, lane: LaneId) -> watch::Receiver<Position>;

    /// How long whoever comes now would wait in a lane's inbox; zero where there is no crowd. Cheap.
    fn wait(&self, lane: LaneId) -> Duration;

    /// How busy a lane is.
    fn gauge(&self, lane: LaneId) -> LaneGauge;

    /// Whether a lane works.
    fn health(&self, lane: LaneId) -> Health;

    /// Until when this gateway has every id that was granted in the catalog's [`crate::catalog::Seen`],
    /// whoever granted it. Where other gateways decide too, it follows them, a little behind.
    fn known(&self, lane: LaneId) -> Knowledge;
}

/// Until when a gateway knows who has units of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Knowledge {
    /// Number of the last event; 0 where nothing is certain.
    pub seq: u64,
    /// The lane's clock then.
    pub now: Millis,
}

impl Knowledge {
    /// Of whoever decides alone.
    pub const EVERYTHING: Self = Self { seq: u64::MAX, now: Millis(u64::MAX) };
}

/// Whether a lane works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It decides.
    Up,
    /// It may have forgotten, and decides nothing until it has been compared with the books.
    Fenced,
    /// It cannot be reached, or has failed.
    Down,
}

/// An answer under way. Dropping it does not take the command back.
pub type Pending = oneshot::Receiver<Result<Answer, Fault>>;

/// A definite answer, and where in the lane's history it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What was decided.
    pub outcome: Outcome,
    /// The lane's position once this was decided: when the store has digested as much, it has
    /// digested this.
    pub position: Position,
}

/// The ledger gave no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// More waits than the lane can take. Definitely not done.
    #[error("the lane's inbox is full")]
    Overloaded,
    /// The lane does not work. Definitely not done.
    #[error("the ledger is unavailable")]
    Unavailable,
    /// The lane may have forgotten, and is being brought back to what is known. Definitely not done.
    #[error("the lane is fenced")]
    Fenced,
    /// The user asks too often, through whatever gateways. Definitely not done.
    #[error("the user asks too often")]
    RateLimited {
        /// How often they may.
        quota: Quota,
        /// How long until they may again.
        wait: Duration,
    },
    /// Done or not: nobody knows yet. Asking again with the same identity tells.
    #[error("the outcome is unknown")]
    Unknown,
}

/// What a 201 promises: what the reservation survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The gateway's death. The embedded ledger keeps nothing so little: it promises `fsync` at least.
    Memory,
    /// The death of the ledger's machine: it is synced to its disk.
    #[default]
    Fsync,
    /// The loss of that machine: a replica has it too.
    Replicated,
    /// Anything that the store survives: the order is committed there.
    Stored,
}

impl Durability {
    /// The word on the wire and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Memory => "memory",
            Durability::Fsync => "fsync",
            Durability::Replicated => "replicated",
            Durability::Stored => "stored",
        }
    }
}
