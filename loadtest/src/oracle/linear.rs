//! Whether what clients saw of one item can have happened one after the other, on a counter.
//!
//! The search of Wing and Gong (J. Parallel Distrib. Comput. 17, 1993): of the requests that nobody had
//! to wait for, one is taken to be the next, if the counter would have answered it so; and again, until
//! all are placed or none fits. Positions that were searched before are remembered. A request without an
//! answer may be placed anywhere after its start, or nowhere.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::digest::Digest;
use super::verdict::{Check, Finding};
use crate::history::{Entry, Op, Seen};
use crate::limits::{LATCH_REOPENS_WITHIN, LINEAR_REQUESTS_MAX, LINEAR_STATES_MAX};

/// A request that moves the counter, or was told what it is.
#[derive(Clone, Copy, Debug)]
struct Request {
    /// Which purchase it is about: a key, or a reservation without one.
    purchase: usize,
    units: i64,
    kind: Kind,
    /// Earliest and latest place in time.
    from: u64,
    until: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A 201, or nobody knows.
    Takes { told: bool },
    /// "Sold out".
    Finds,
    /// It was cancelled, or nobody knows.
    GivesBack { told: bool },
}

impl Kind {
    fn told(self) -> bool {
        match self {
            Self::Takes { told } | Self::GivesBack { told } => told,
            Self::Finds => true,
        }
    }
}

/// Where a purchase stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Purchase {
    #[default]
    Open,
    Taken,
    Over,
}

/// The counter between two requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    done: u128,
    left: i64,
    purchases: Vec<Purchase>,
}

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is such an order.
    Order,
    /// There is none.
    None,
    /// It would take too long to find out.
    GaveUp,
}

/// Each item's requests fit into one line of time. Items whose stock an operator changed, of which holds
/// ran out, or with more requests than the search is for, are left out.
pub(super) fn one_line_of_time(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("one line of time");
    if digest.evidence.scope.lost_below.is_some() {
        // What was lost was sold twice, and both were told so.
        return finding.check();
    }
    for item in &digest.evidence.ledger.items {
        let stock = digest.evidence.books.items.iter().find(|known| known.item_id == item.id);
        let created = stock.and_then(|known| known.created_stock);
        if item.expired_total > 0 || created != Some(item.stock) {
            continue;
        }
        let Some(requests) = requests(digest.evidence.history.entries(), &item.id) else {
            continue;
        };
        match search(&requests, item.stock) {
            Found::Order => finding.look(None),
            Found::None => finding.look(Some(format!(
                "{}: {} requests for {} units fit into no order",
                item.id,
                requests.len(),
                item.stock
            ))),
            Found::GaveUp => {}
        }
    }
    finding.check()
}

/// The requests for an item; `None` where they are too many, or some of them are not for it alone.
fn requests(entries: &[Entry], item: &str) -> Option<Vec<Request>> {
    let mut purchases = BTreeMap::<(&str, &str), usize>::new();
    let mut units_of = BTreeMap::<&str, (usize, i64)>::new();
    let mut requests = Vec::new();
    for entry in entries.iter().filter(|entry| entry.op == Op::Reserve) {
        let wanted: BTreeSet<_> = entry.lines.iter().map(|line| &*line.item_id).collect();
        if !wanted.contains(item) {
            continue;
        }
        let ([line], Some(key)) = (&*entry.lines, &entry.key) else { return None };
        let fresh = purchases.len();
        let purchase = *purchases.entry((&entry.user, key)).or_insert(fresh);
        let units = i64::from(line.quantity);
        if let Some(id) = &entry.reservation {
            units_of.insert(id, (purchase, units));
        }
        let kind = match &entry.seen {
            Seen::Ok => Kind::Takes { told: true },
            Seen::Invoke | Seen::Unknown(_) => Kind::Takes { told: false },
            Seen::No(code) if code == "sold-out" => Kind::Finds,
            Seen::No(_) => continue,
        };
        requests.push(request(entry, purchase, units, kind));
    }
    for entry in entries.iter().filter(|entry| entry.op == Op::Cancel) {
        let known = entry.reservation.as_deref().and_then(|id| units_of.get(id));
        let Some((purchase, units)) = known else { continue };
        let told = match &entry.seen {
            Seen::Ok => true,
            Seen::Invoke | Seen::Unknown(_) => false,
            Seen::No(_) => continue,
        };
        requests.push(request(entry, *purchase, *units, Kind::GivesBack { told }));
    }
    (requests.len() <= LINEAR_REQUESTS_MAX).then_some(requests)
}

fn request(entry: &Entry, purchase: usize, units: i64, kind: Kind) -> Request {
    // What a gateway knows of the stock may be as old as the contract lets it be.
    let slack = match kind {
        Kind::Finds => u64::try_from(LATCH_REOPENS_WITHIN.as_micros()).unwrap_or(u64::MAX),
        Kind::Takes { .. } | Kind::GivesBack { .. } => 0,
    };
    let until = if kind.told() { entry.end_us } else { u64::MAX };
    Request { purchase, units, kind, from: entry.start_us.saturating_sub(slack), until }
}

/// Looks for an order.
fn search(requests: &[Request], stock: i64) -> Found {
    let purchases = requests.iter().map(|request| request.purchase + 1).max().unwrap_or(0);
    let all = (0..requests.len()).filter(|at| requests[*at].kind.told());
    let wanted = all.fold(0_u128, |mask, at| mask | 1 << at);
    let start = Place { done: 0, left: stock, purchases: vec![Purchase::Open; purchases] };
    let mut known = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(place) = open.pop() {
        if place.done & wanted == wanted {
            return Found::Order;
        }
        if known.len() > LINEAR_STATES_MAX {
            return Found::GaveUp;
        }
        let waits = |at: &usize| place.done & (1 << at) == 0;
        let left = || (0..requests.len()).filter(waits);
        // Nothing is placed behind a request that was answered before it began.
        let first_end = left().map(|at| requests[at].until).min().unwrap_or(u64::MAX);
        for at in left().filter(|at| requests[*at].from <= first_end) {
            if let Some(mut next) = step(&place, &requests[at]) {
                next.done |= 1 << at;
                if known.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
    }
    Found::None
}

/// The counter after a request, if it would have answered so.
fn step(place: &Place, request: &Request) -> Option<Place> {
    let mut next = place.clone();
    let purchase = &mut next.purchases[request.purchase];
    match (request.kind, *purchase) {
        (Kind::Takes { .. }, Purchase::Open) if place.left >= request.units => {
            next.left -= request.units;
            *purchase = Purchase::Taken;
        }
        // The answer to a retry is the first answer, whatever became of it.
        (Kind::Takes { .. }, Purchase::Taken | Purchase::Over) => {}
        (Kind::GivesBack { .. }, Purchase::Taken) => {
            next.left += request.units;
            *purchase = Purchase::Over;
        }
        (Kind::GivesBack { .. }, Purchase::Over) => {}
        (Kind::Finds, Purchase::Open) if place.left < request.units => {}
        (Kind::Takes { .. } | Kind::GivesBack { .. }, Purchase::Open)
        | (Kind::Finds, Purchase::Open | Purchase::Taken | Purchase::Over) => return None,
    }
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::{Found, Kind, Request, search};

    fn takes(purchase: usize, from: u64, until: u64) -> Request {
        Request { purchase, units: 1, kind: Kind::Takes { told: true }, from, until }
    }

    fn finds(purchase: usize, from: u64, until: u64) -> Request {
        Request { kind: Kind::Finds, ..takes(purchase, from, until) }
    }

    fn gives(purchase: usize, from: u64, until: u64) -> Request {
        Request { kind: Kind::GivesBack { told: true }, ..takes(purchase, from, until) }
    }

    /// Proves that an order is found where there is one: one after the other, at once, with a retry, and
    /// with a unit that came back in between.
    #[test]
    fn an_order_is_found() {
        let one = [takes(0, 1, 2), finds(1, 3, 4)];
        assert_eq!(search(&one, 1), Found::Order);
        assert_eq!(search(&[finds(1, 1, 9), takes(0, 5, 6)], 1), Found::Order);
        assert_eq!(search(&[takes(0, 1, 2), takes(0, 3, 4)], 1), Found::Order);
        let again = [takes(0, 1, 2), gives(0, 3, 4), takes(1, 5, 6)];
        assert_eq!(search(&again, 1), Found::Order);
    }

    /// Proves that there is none where two have the last unit, where "sold out" was said while there was
    /// one, and where a unit was sold before it came back.
    #[test]
    fn what_cannot_be_is_seen() {
        assert_eq!(search(&[takes(0, 1, 2), takes(1, 3, 4)], 1), Found::None);
        assert_eq!(search(&[finds(0, 1, 2), takes(1, 3, 4)], 1), Found::None);
        assert_eq!(search(&[takes(0, 1, 2), takes(1, 3, 4), gives(0, 5, 6)], 1), Found::None);
        assert_eq!(search(&[takes(0, 1, 2), finds(0, 3, 4)], 1), Found::None);
    }

    /// Proves that a request without an answer may have been done at any time, or never.
    #[test]
    fn the_unknown_may_be_anything() {
        let unknown =
            Request { kind: Kind::Takes { told: false }, until: u64::MAX, ..takes(9, 1, 2) };
        assert_eq!(search(&[unknown, finds(0, 8, 9)], 1), Found::Order);
        assert_eq!(search(&[unknown, takes(0, 8, 9)], 1), Found::Order);
        assert_eq!(search(&[unknown, takes(0, 5, 6), takes(1, 8, 9)], 1), Found::None);
    }
}
