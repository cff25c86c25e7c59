//! Admission: what can be refused without asking the ledger. No I/O, cheapest first.
//!
//! 1. the sale's window, by this gateway's clock (the ledger's decides);
//! 2. the sold-out latch;
//! 3. token buckets per address, user and sale (their place in the path; not in this version);
//! 4. the backlog: what waits between the ledger and the store has a bound.
//!
//! None of these may turn a winner away: the gate asks [`crate::catalog::Seen`] first whether the
//! request may be the retry of one that has already been granted.

mod breaker;
mod guard;

pub use breaker::{Breaker, Change, Condition, Pass, Verdict};
pub use guard::{Guard, Guarded};

use crate::catalog::SaleCard;
use crate::clock::Millis;
use crate::engine::{OrderedLine, Position};
use crate::limits;
use crate::sale::{Refusal, SaleState};

/// What a sale's card says of a request: `None` lets it through to the ledger.
pub fn check_sale(card: &SaleCard, now: Millis, lines: &[OrderedLine]) -> Option<Refusal> {
    match card.state(now) {
        SaleState::Open => check_latch(card, lines),
        SaleState::Scheduled => Some(Refusal::SaleNotOpen { opens_at: card.window().opens_at }),
        SaleState::Paused => Some(Refusal::SalePaused),
        SaleState::Closed => Some(Refusal::SaleClosed),
    }
}

/// The sold-out latch: closed while the ledger's last word on an item is "none". The word changes with
/// the batch that returns a unit, so it reopens as soon as that batch is durable.
///
/// It is for requests that could be granted. One that names an unknown item, or more units than anybody
/// may have, is for the ledger to refuse as what it is.
fn check_latch(card: &SaleCard, lines: &[OrderedLine]) -> Option<Refusal> {
    let sale_max = card.definition().per_user_limit.unwrap_or(limits::QUANTITY_MAX);
    let mut sold_out = None;
    for line in lines {
        let index = card.item_index(&line.item)?;
        let item_max = card.definition().items[index].per_user_limit.unwrap_or(sale_max);
        if line.quantity > item_max.min(sale_max) {
            return None;
        }
        let item = card.item(index)?;
        if item.available() == 0 && sold_out.is_none() {
            sold_out = Some(Refusal::SoldOut { held: item.held() > 0 });
        }
    }
    sold_out
}

/// Whether the store is so far behind a lane that no more should be promised.
pub fn is_backlogged(head: Position, digested: Position) -> bool {
    head.seq.saturating_sub(digested.seq) > limits::BACKLOG_EVENTS_MAX
}
