//! The store: the shop's books. Orders, carts, and how far each lane's outbox has been digested.
//!
//! What the ledger gave away arrives here exactly once by construction: a batch of events and the
//! cursor that says they were digested are one transaction. There is no acknowledgement that could be
//! lost between the two, and a batch that comes again finds the cursor moved.

#[cfg(test)]
pub(crate) mod contract;
pub mod sqlite;

use std::future::Future;
use std::pin::Pin;

use serde_json::Value;

use crate::carts::{Cart, CartChange, CartRefusal};
use crate::clock::Millis;
use crate::engine::{Event, Position};
use crate::orders::{Order, OrderMark};
use crate::outbox::{Record, Unreadable};
use crate::sale::{LaneId, ReservationId, UserId};

/// What a store answers with.
pub type Job<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The books.
///
/// Contract of every implementation:
/// - `digest` is one transaction: all events of the batch, or what had to be put aside of them, and
///   the cursor; it has no effect unless the cursor stands where the batch begins;
/// - events take effect once: a version that is not higher than the order's is ignored;
/// - no more than an item's stock is ever allocated, whatever the events say: an event that would
///   do so goes to the dead letters;
/// - a cart change that was answered is durable.
pub trait Store: Send + Sync {
    /// How far a lane has been digested.
    fn cursor(&self, lane: LaneId) -> Job<'_, Position>;
    /// Digests records that follow `cursor` without a gap.
    fn digest(&self, lane: LaneId, cursor: Position, batch: Vec<Digestible>) -> Job<'_, Digested>;
    /// What was digested of a lane after `seq`, in order, at most `max` records; nothing where the store
    /// does not keep it.
    fn archive(&self, lane: LaneId, seq: u64, max: usize) -> Job<'_, Vec<Record>>;
    /// A user's order.
    fn order(&self, user: UserId, id: ReservationId) -> Job<'_, Option<Order>>;
    /// A user's orders, newest first, after a mark; at most `max`.
    fn orders(&self, user: UserId, after: Option<OrderMark>, max: usize) -> Job<'_, Vec<Order>>;
    /// A user's cart.
    fn cart(&self, user: UserId) -> Job<'_, Cart>;
    /// Changes a user's cart, if it has the `expected` version (where one is given).
    fn change_cart(
        &self,
        user: UserId,
        expected: Option<u64>,
        change: CartChange,
    ) -> Job<'_, Result<Cart, CartRefusal>>;
    /// What operators did, newest first, skipping the first `skip`; at most `max`.
    fn audit_log(&self, skip: usize, max: usize) -> Job<'_, Vec<Value>>;
    /// Whether the store answers.
    fn ping(&self) -> Job<'_, ()>;
}

/// A record of the outbox on its way into the books.
#[derive(Clone, Debug)]
pub struct Digestible {
    /// As it was read.
    pub record: Record,
    /// Its events, or why there are none.
    pub events: Result<Vec<Event>, Unreadable>,
}

impl From<Record> for Digestible {
    fn from(record: Record) -> Self {
        Self { events: record.decode(), record }
    }
}

impl Digestible {
    /// The instant of its events.
    pub fn at(&self) -> Millis {
        self.record.at
    }
}

/// What a transaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digested {
    /// Where the cursor stands now.
    pub cursor: Position,
    /// Orders that are new in the books.
    pub orders: u64,
    /// Events and records that were put aside.
    pub dead_letters: u64,
}

/// The store gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// More waits than it can take. Not done.
    #[error("too many jobs wait for the store")]
    Overloaded,
    /// Somebody else has moved the lane's cursor: whoever asked is not its writer any more. Not done.
    #[error("the cursor stands at {}-{}, not where the batch begins", .0.epoch, .0.seq)]
    Fenced(Position),
    /// It failed; a transaction was rolled back, unless the failure came while it was committed. To
    /// be tried again after a look at the cursor.
    #[error("the store failed: {0}")]
    Failed(String),
}
