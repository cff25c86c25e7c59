//! What this gateway knows of a sale: its window, and the sold-out latch.

use crate::catalog::SaleCard;
use crate::clock::Millis;
use crate::engine::OrderedLine;
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
