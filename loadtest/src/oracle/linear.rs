//! Whether what clients saw of one item can have happened one after the other, on a counter.
//!
//! Of every item its units are counted: never were more taken for certain than there are, and whoever was told
//! "sold out" was told so while so many may have been taken. Where there are not too many requests, an order of all
//! of them is looked for as well, which sees more.

mod counts;
mod events;
mod search;
#[cfg(test)]
mod tests;

use self::events::{Event, events};
use self::search::{Found, search};
use super::digest::Digest;
use super::verdict::{Check, Finding, Lines, NotSearched, Why};
use crate::limits::LINEAR_REQUESTS_MAX;
use crate::ops::ItemView;

/// Each item's requests fit into one line of time; and of which items that could be found out.
pub(super) fn one_line_of_time(digest: &Digest<'_>) -> (Check, Lines) {
    let mut finding = Finding::of("one line of time");
    let mut lines = Lines::default();
    for item in &digest.evidence.ledger.items {
        let stock = digest.evidence.books.items.iter().find(|known| known.item_id == item.id);
        if stock.and_then(|known| known.created_stock) != Some(item.stock) {
            lines.leave_out(&item.id, Why::Restocked);
            continue;
        }
        let events = events(digest, item);
        let counted = counts::more_than_there_is(&events, item.stock)
            .or_else(|| counts::sold_out_too_early(&events, item.stock));
        let searched = match &counted {
            Some(_) => Ok(Found::None),
            None => find(digest, &events, item),
        };
        let fault = match (counted, searched) {
            (Some(fault), _) => Some(fault),
            (None, Ok(Found::None)) => Some(format!(
                "{} requests for {} units fit into no order",
                events.len(),
                item.stock
            )),
            (None, Ok(Found::Order | Found::GaveUp) | Err(_)) => None,
        };
        finding.look(fault.map(|fault| format!("{}: {fault}", item.id)));
        match searched {
            Ok(Found::Order | Found::None) => lines.searched += 1,
            Ok(Found::GaveUp) => lines.leave_out(&item.id, Why::GaveUp),
            Err(why) => lines.leave_out(&item.id, why),
        }
    }
    (finding.check(), lines)
}

/// Looks for an order, or says why not.
fn find(digest: &Digest<'_>, events: &[Event], item: &ItemView) -> Result<Found, Why> {
    let lost = digest.evidence.scope.lost_below.is_some();
    let found = if is_plenty(events, item.stock) {
        Found::Order
    } else if events.len() > LINEAR_REQUESTS_MAX {
        return Err(Why::TooMany);
    } else {
        search(events, item.stock)
    };
    // A fault is one all the same.
    if lost && found != Found::None { Err(Why::MayBeLost) } else { Ok(found) }
}

/// Whether any order would do: there was enough for all, and nobody was told otherwise.
fn is_plenty(events: &[Event], stock: i64) -> bool {
    events.iter().all(|event| event.kind != events::Kind::Finds)
        && events.iter().filter(|event| event.is_taking()).map(|event| event.units).sum::<i64>()
            <= stock
}

impl Lines {
    fn leave_out(&mut self, item: &str, why: Why) {
        self.not_searched.push(NotSearched { item: item.to_owned(), why });
    }
}
