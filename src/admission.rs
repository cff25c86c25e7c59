//! Admission: what can be refused without asking the ledger. No I/O, cheapest first.
//!
//! 1. the sale's window, by this gateway's clock (the ledger's decides);
//! 2. the sold-out latch;
//! 3. token buckets per user, address and sale, and for all together ([`Buckets`]);
//! 4. the backlog: what waits between the ledger and the store has a bound.
//!
//! None of these may tell a winner "no": the gate asks [`crate::catalog::Seen`] first whether the
//! request may be the retry of one that has already been granted. A bucket that is empty refuses retries
//! as well, for that is no "no": it says "later".

mod breaker;
mod bucket;
mod buckets;
mod card;
mod guard;
mod keys;
mod limit;
mod network;
mod settings;
mod standing;

pub use breaker::{Breaker, Change, Condition, Pass, Verdict};
pub use buckets::{Asking, Buckets};
pub use card::check_sale;
pub use guard::{Guard, Guarded};
pub use limit::Limit;
pub use settings::{AdmissionSettings, HeaderStyle, Mode, RateSetting, ReadSettings};
pub use standing::{Admitted, RateLimited, Standing};

use crate::engine::Position;
use crate::limits;

/// Whether the store is so far behind a lane that no more should be promised.
pub fn is_backlogged(head: Position, digested: Position) -> bool {
    head.seq.saturating_sub(digested.seq) > limits::BACKLOG_EVENTS_MAX
}
