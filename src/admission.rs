//! Admission: what can be refused without asking the ledger. No I/O, cheapest first.
//!
//! 1. the sale's window, by this gateway's clock (the ledger's decides);
//! 2. the sold-out latch;
//! 3. token buckets per address, user and sale (their place in the path; not in this version);
//! 4. the backlog: what waits between the ledger and the store has a bound.
//!
//! None of these may turn a winner away: the gate asks [`crate::catalog::Seen`] first whether the
//! request may be the retry of one that has already been granted.

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
fn check_latch(card: &SaleCard, lines: &[OrderedLine]) -> Option<Refusal> {
    let items = lines.iter().filter_map(|line| card.item(card.item_index(&line.item)?));
    let mut sold_out = items.filter(|item| item.available() == 0);
    sold_out.next().map(|item| Refusal::SoldOut { held: item.held() > 0 })
}

/// Whether the store is so far behind a lane that no more should be promised.
pub fn is_backlogged(head: Position, digested: Position) -> bool {
    head.seq.saturating_sub(digested.seq) > limits::BACKLOG_EVENTS_MAX
}
