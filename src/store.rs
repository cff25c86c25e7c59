//! The store: the shop's books. Orders, carts, and how far each lane's outbox has been digested.
//!
//! What the ledger gave away arrives here exactly once by construction: a batch of events and the
//! cursor that says they were digested are one transaction. There is no acknowledgement that could be
//! lost between the two, and a batch that comes again finds the cursor moved.

pub mod chain;
#[cfg(test)]
pub(crate) mod contract;
pub mod digest;
pub mod postgres;
pub mod snapshot;
pub mod sqlite;

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

use crate::carts::{Cart, CartChange, CartKey, CartRefusal};
use crate::clock::Millis;
use crate::engine::{Actor, Event, Position};
use crate::orders::{Order, OrderMark};
use crate::outbox::{Record, Unreadable};
use crate::sale::{
    ItemId, LaneId, PaymentRef, Reservation, ReservationId, SaleDefinition, SaleId, UserId,
};

pub use digest::DeadLetter;

/// Where the books are.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreAt {
    /// In a file of SQLite's.
    File(PathBuf),
    /// In a database of PostgreSQL's.
    Postgres(String),
}

impl fmt::Debug for StoreAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            // It may hold a password.
            Self::Postgres(_) => f.write_str("Postgres(***)"),
        }
    }
}

impl StoreAt {
    /// Where a configuration has them: `database_url`, or the data dir.
    ///
    /// # Errors
    /// In words that name the key.
    pub fn of(database_url: Option<&str>, data_dir: &Path) -> Result<Self, String> {
        let Some(url) = database_url else { return Ok(Self::File(sqlite::path(data_dir))) };
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let is_file = !path.is_empty() && !path.contains('?') && path != ":memory:";
            let wrong = "database_url: sqlite: must be followed by the path of a file".to_owned();
            return if is_file { Ok(Self::File(path.into())) } else { Err(wrong) };
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            postgres::check_url(url)?;
            return Ok(Self::Postgres(url.to_owned()));
        }
        Err("database_url must begin with postgres:// or sqlite:".to_owned())
    }
}

/// What a store answers with.
pub type Job<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The books.
///
/// Contract of every implementation:
/// - `digest` is one transaction: all events of the batch, or what had to be put aside of them, and
///   the cursor; it has no effect unless the cursor stands where the batch begins, and nobody else has
///   the lane's lease;
/// - events take effect once: a version that is not higher than the order's is ignored;
/// - no more than an item's stock is ever allocated, whatever the events say: an event that would
///   do so goes to the dead letters;
/// - a cart change that was answered is durable;
/// - the audit log only grows, and each entry carries the hash of the one before it: the same events make
///   the same [`chain`] whatever the store.
pub trait Store: Send + Sync {
    /// Makes these the books of a ledger, unless they are one's already; says whose they are.
    fn bind(&self, ledger: String) -> Job<'_, String>;
    /// How far a lane has been digested.
    fn cursor(&self, lane: LaneId) -> Job<'_, Position>;
    /// Takes or renews the lease of a lane, unless another holder has it.
    fn claim(&self, lane: LaneId, holder: Holder) -> Job<'_, Claim>;
    /// Gives the lease of a lane back before it runs out.
    fn release(&self, lane: LaneId, holder: Holder) -> Job<'_, ()>;
    /// Digests a batch, and renews the lease.
    fn digest(&self, batch: Arc<Batch>) -> Job<'_, Digested>;
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
    /// Moves a guest's own lines into a user's cart, adding up; the guest's cart is empty then.
    fn merge_carts(
        &self,
        guest: UserId,
        user: UserId,
        expected: Option<u64>,
    ) -> Job<'_, Result<Cart, CartRefusal>>;
    /// Carts into which users themselves put some of these items, at most `max`.
    fn carts_with(&self, items: Vec<ItemId>, max: usize) -> Job<'_, Vec<(UserId, Cart)>>;
    /// What could not be digested, oldest first, after a mark; at most `max`.
    fn dead_letters(
        &self,
        after: Option<DeadMark>,
        max: usize,
    ) -> Job<'_, Vec<(LaneId, DeadLetter)>>;
    /// Digests a dead letter after all. `None`: there is none.
    fn retry_dead_letter(&self, mark: DeadMark, actor: Actor) -> Job<'_, Option<Retried>>;
    /// Gives a dead letter up. `false`: there is none.
    fn drop_dead_letter(&self, mark: DeadMark, actor: Actor) -> Job<'_, bool>;
    /// Makes the books what a ledger's events say, as far as nobody has moved on since that was looked at:
    /// nothing is done where the books have been mended or a dead letter settled since `mended` times.
    /// Says how many rows that changed.
    fn mend(&self, mends: Arc<[Mend]>, mended: u64) -> Job<'_, u64>;
    /// Moves orders of a sale that is over out of the writer's way: at most `max` that wait for no payment.
    /// They are shown as before, and come back when they move once more. Says how many.
    fn archive_orders(&self, sale: SaleId, max: usize, actor: Actor) -> Job<'_, u64>;
    /// Adds to the audit log what was changed about a gateway.
    fn note(&self, note: Note) -> Job<'_, ()>;
    /// What operators did, newest first, skipping the first `skip`; at most `max`.
    fn audit_log(&self, skip: usize, max: usize) -> Job<'_, Vec<Value>>;
    /// Whether the store answers.
    fn ping(&self) -> Job<'_, ()>;
}

/// An entry of the audit log about something that is no event of a lane.
#[derive(Clone, Debug)]
pub struct Note {
    /// Who did it.
    pub actor: Actor,
    /// What kind of thing was done.
    pub action: &'static str,
    /// To what.
    pub subject: String,
    /// How it was.
    pub before: Value,
    /// How it is.
    pub after: Value,
    /// Why, in the words of whoever did it.
    pub reason: Option<String>,
}

impl Note {
    /// Something that was done to the books, and to what of them: that is gone, or changed, by it.
    pub fn of_books(actor: &str, action: &'static str, subject: &str, before: Value) -> Self {
        let (actor, subject) = (actor.into(), subject.to_owned());
        Self { actor, action, subject, before, after: Value::Null, reason: None }
    }

    /// What stands in the log of it.
    fn documents(&self) -> (String, Option<String>) {
        (self.before.to_string(), (!self.after.is_null()).then(|| self.after.to_string()))
    }
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

/// Who writes a lane's books: a running gateway's name in leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder(pub u64);

impl Holder {
    /// A name that nobody else has.
    pub fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// How far the lane has been digested.
    pub cursor: Position,
    /// Whether the lease is the claimant's now.
    pub ours: bool,
}

/// Records that follow the cursor without a gap, and who writes them.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Of which lane.
    pub lane: LaneId,
    /// On whose lease.
    pub holder: Holder,
    /// Where the cursor stands.
    pub cursor: Position,
    /// The records.
    pub entries: Vec<Digestible>,
    /// How it is taken.
    pub care: Care,
}

/// How a batch is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// All of it or nothing.
    Whole,
    /// Each event by itself: one that the database refuses is put aside, and the others count.
    EventByEvent,
}

impl Batch {
    /// Where the cursor stands once it is digested.
    pub fn end(&self) -> Position {
        self.entries.last().map_or(self.cursor, |entry| entry.record.last)
    }
}

/// Something in the books that is not what the ledger's events say.
#[derive(Clone, Debug)]
pub enum Mend {
    /// A sale or some of its items are missing: they come as they were created.
    Sale(Box<SaleDefinition>),
    /// An item's numbers are off by so much.
    Item {
        /// Of which sale.
        sale: SaleId,
        /// Which.
        item: ItemId,
        /// To add to its stock.
        stock: i64,
        /// To add to what is allocated.
        allocated: i64,
    },
    /// An order is missing, or differs.
    Order {
        /// As it was taken.
        held: Box<Reservation>,
        /// Where it stands.
        now: digest::Standing,
        /// Its payment.
        payment: Option<PaymentRef>,
        /// The version of the order that was seen in the books, if one was: another is left alone.
        seen: Option<u32>,
    },
    /// A line that a reservation puts into a cart is missing or differs, or is there though it should
    /// not be.
    Line {
        /// Whose cart.
        user: UserId,
        /// Which reservation.
        id: ReservationId,
        /// Which item.
        item: ItemId,
        /// How many units; none: there is no such line.
        quantity: u32,
        /// The version of the order for which this is so: at another, the line is left alone.
        version: u32,
    },
}

/// A dead letter's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadMark {
    /// The lane.
    pub lane: LaneId,
    /// Where it stood there.
    pub position: Position,
}

impl DeadMark {
    /// Reads what [`DeadMark`]'s `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (lane, epoch, seq) = (number()?, number()?, number()?);
        let lane = LaneId(u16::try_from(lane).ok()?);
        parts.next().is_none().then_some(Self { lane, position: Position { epoch, seq } })
    }
}

/// `lane-epoch-seq`.
impl fmt::Display for DeadMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.lane, self.position.epoch, self.position.seq)
    }
}

/// What became of a dead letter that was tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It counts now, and has changed these carts.
    Digested(Vec<CartKey>),
    /// It still contradicts the books.
    Refused(String),
}

/// What a transaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digested {
    /// Where the cursor stands now.
    pub cursor: Position,
    /// Orders that are new in the books.
    pub orders: u64,
    /// The numbers of events and records that were put aside.
    pub dead_letters: Vec<u64>,
    /// Carts that show something else than before.
    pub carts: Vec<CartKey>,
    /// Where the lane's audit log ends, if it has grown.
    pub logged: Option<chain::Tip>,
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
    /// Another writer has the lane's lease. Not done.
    #[error("another gateway writes this lane's books")]
    Leased,
    /// The books were mended, or a dead letter settled, since they were looked at. Not done.
    #[error("somebody else has mended the books meanwhile")]
    Mended,
    /// The database refuses what it was to write. Not done; trying again may help, or the data may be
    /// what it cannot take.
    #[error("the store refuses: {0}")]
    Rejected(String),
    /// It failed; a transaction was rolled back, unless the failure came while it was committed. To
    /// be tried again after a look at the cursor.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The same because it took too long, has no room just now, or is gone.
    #[error("the store is not ready: {0}")]
    NotReady(String),
}
