//! Taking units: replay, window, limits, stock, in that order.
//!
//! A limit is checked before the stock, so that a buyer who has theirs cannot eat what others want;
//! and a replay before everything, so that the answer to a retry is the same after the sale sold out
//! or closed.

use super::{Decided, Step};
use crate::clock::Millis;
use crate::engine::command::{OrderedLine, Reserve};
use crate::engine::event::Event;
use crate::engine::state::SaleRecord;
use crate::limits;
use crate::sale::{Line, Outcome, Refusal, Reservation, SaleState, Status, UserId};

impl Step<'_> {
    pub(super) fn reserve(&mut self, asked: &Reserve) -> Decided {
        if let Some(known) = self.state.reservation(&asked.id) {
            return replay(known, asked);
        }
        let now = self.state.now();
        let sale = self.state.sale(&asked.sale).ok_or(Refusal::UnknownSale)?;
        check_window(sale, now)?;
        let lines = priced(sale, &asked.lines)?;
        check_limits(sale, &asked.user, &lines)?;
        check_stock(sale, &lines)?;
        let hold = std::time::Duration::from_secs(u64::from(sale.definition().hold_seconds));
        let reservation = Reservation {
            id: asked.id,
            sale: asked.sale.clone(),
            user: asked.user.clone(),
            lines: lines.into_iter().map(|(_, line)| line).collect(),
            currency: Box::from(sale.definition().currency()),
            status: Status::Held,
            version: 1,
            held_at: now,
            expires_at: now.after(hold),
            payment: None,
            late_payments: Vec::new(),
        };
        self.happen(Event::Held(reservation.clone()));
        Ok(Outcome::Reserved { reservation, replayed: false })
    }
}

/// The same request again gets its reservation, whatever became of it; another request under the
/// same id is refused. The lines themselves are the fingerprint: nothing to hash, nothing to collide.
fn replay(known: &Reservation, asked: &Reserve) -> Decided {
    let same_lines =
        known.lines.len() == asked.lines.len()
            && known.lines.iter().zip(&asked.lines).all(|(line, ordered)| {
                line.item == ordered.item && line.quantity == ordered.quantity
            });
    if same_lines && known.user == asked.user && known.sale == asked.sale {
        return Ok(Outcome::Reserved { reservation: known.clone(), replayed: true });
    }
    Err(Refusal::KeyReused)
}

fn check_window(sale: &SaleRecord, now: Millis) -> Result<(), Refusal> {
    match sale.window().state(now) {
        SaleState::Open => Ok(()),
        SaleState::Scheduled => Err(Refusal::SaleNotOpen { opens_at: sale.window().opens_at }),
        SaleState::Paused => Err(Refusal::SalePaused),
        SaleState::Closed => Err(Refusal::SaleClosed),
    }
}

/// The lines by their place in the sale, with its prices. Refuses what no stock could serve: an item
/// that is not there, in whatever line, comes before an amount that is not given.
fn priced(sale: &SaleRecord, lines: &[OrderedLine]) -> Result<Vec<(usize, Line)>, Refusal> {
    let definition = sale.definition();
    let sale_max = definition.per_user_limit.unwrap_or(limits::QUANTITY_MAX);
    let mut units: u32 = 0;
    let mut refusal = None;
    let mut priced: Vec<(usize, Line)> = Vec::with_capacity(lines.len());
    for OrderedLine { item, quantity } in lines {
        let index = sale.item_index(item).ok_or_else(|| Refusal::UnknownItem(item.clone()))?;
        let known = &definition.items[index];
        let max = known.per_user_limit.unwrap_or(limits::QUANTITY_MAX).min(sale_max);
        let twice = priced.iter().any(|(other, _)| *other == index);
        if *quantity == 0 || *quantity > max || twice {
            refusal.get_or_insert(Refusal::InvalidQuantity { max });
        }
        units = units.saturating_add(*quantity);
        let line = Line { item: known.id.clone(), quantity: *quantity, unit_price: known.price };
        priced.push((index, line));
    }
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    if priced.is_empty() || units > sale_max {
        return Err(Refusal::InvalidQuantity { max: sale_max });
    }
    Ok(priced)
}

/// What the user would then hold or have bought stays within the limits of item and sale.
pub(super) fn check_limits(
    sale: &SaleRecord,
    user: &UserId,
    lines: &[(usize, Line)],
) -> Result<(), Refusal> {
    let definition = sale.definition();
    if let Some(limit) = definition.per_user_limit {
        let taken = sale.taken(user);
        let wanted: u32 = lines.iter().map(|(_, line)| line.quantity).sum();
        if taken.saturating_add(wanted) > limit {
            return Err(Refusal::LimitReached { limit, taken });
        }
    }
    for (item, line) in lines {
        if let Some(limit) = definition.items[*item].per_user_limit {
            let taken = sale.taken_of_item(user, *item);
            if taken.saturating_add(line.quantity) > limit {
                return Err(Refusal::LimitReached { limit, taken });
            }
        }
    }
    Ok(())
}

/// All lines, or none.
pub(super) fn check_stock(sale: &SaleRecord, lines: &[(usize, Line)]) -> Result<(), Refusal> {
    for (item, line) in lines {
        let counters = &sale.counters()[*item];
        if counters.available < u64::from(line.quantity) {
            return Err(Refusal::SoldOut { held: counters.held > 0 });
        }
    }
    Ok(())
}
