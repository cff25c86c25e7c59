//! The judge of a flood: what a load generator saw, beside the ledger's counters and the store.
//!
//! A crowd's history has every request; a flood of millions keeps only who was told "yours", and of
//! whom it does not know. That is enough to say whether the books are right.

use std::collections::{HashMap, HashSet};

use super::Books;
use super::verdict::{Check, Finding, Lines, Verdict};
use crate::ops::SaleView;
use crate::rig::{ReservationId, Seen, reservation_of};

/// Everything that the judge looks at.
#[derive(Debug)]
pub struct Flood<'a> {
    /// What the generator saw.
    pub seen: &'a Seen,
    /// Who visitor number `n` is, as the store calls them.
    pub user_of: &'a dyn UserOf,
    /// What the ledger counts.
    pub ledger: &'a SaleView,
    /// What the store keeps.
    pub books: &'a Books,
    /// What must have come of it.
    pub wanted: Wanted,
}

/// Who a visitor is.
pub trait UserOf: std::fmt::Debug {
    /// The user id of visitor number `n`.
    fn user_of(&self, n: u64) -> String;
}

/// What must have come of a flood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// A visitor who asks again, asks with the same key: all their answers name one reservation.
    pub keyed: bool,
    /// Every unit is sold.
    pub sold_out: bool,
    /// Every hold has run out, and every unit is back.
    pub all_expired: bool,
    /// Nothing is held before this, in milliseconds since 1970.
    pub opens_at_ms: Option<i64>,
    /// Nothing is held from this on.
    pub closes_at_ms: Option<i64>,
}

/// Judges a flood.
#[must_use]
pub fn judge_flood(flood: &Flood<'_>) -> Verdict {
    let orders: HashMap<ReservationId, &str> = flood
        .books
        .orders
        .iter()
        .filter_map(|order| Some((reservation_of(&order.order_id)?, order.user_id.as_str())))
        .collect();
    let mut checks = vec![
        conservation(flood),
        no_oversell(flood),
        ledger_and_store_agree(flood),
        every_grant_is_an_order(flood, &orders),
        no_order_out_of_nothing(flood, &orders),
        limits_kept(flood),
        cart_lines(flood),
        no_dead_letters(flood),
    ];
    let wanted = flood.wanted;
    if wanted.keyed {
        checks.push(one_reservation_a_user(flood));
    }
    if wanted.opens_at_ms.is_some() || wanted.closes_at_ms.is_some() {
        checks.push(within_the_window(flood));
    }
    if wanted.sold_out {
        checks.push(sold_out(flood));
    }
    if wanted.all_expired {
        checks.push(all_expired(flood));
    }
    let unknown = flood.seen.unknown.len();
    let notes =
        (unknown > 0).then(|| format!("{unknown} visitors with an outcome that nobody told"));
    Verdict::new(checks, notes.into_iter().collect(), Lines::default())
}

fn conservation(flood: &Flood<'_>) -> Check {
    let mut finding = Finding::of("conservation");
    for item in &flood.ledger.items {
        let parts = [item.available, item.held, item.confirmed];
        let holds = parts.iter().all(|part| *part >= 0) && parts.iter().sum::<i64>() == item.stock;
        finding.expect(holds, || format!("{item:?}"));
    }
    finding.check()
}

fn no_oversell(flood: &Flood<'_>) -> Check {
    let mut finding = Finding::of("no oversell in the store");
    let mut sold: HashMap<&str, i64> = HashMap::new();
    for order in flood.books.orders.iter().filter(|order| order.stands()) {
        for line in &order.lines {
            *sold.entry(&line.item_id).or_insert(0) += line.quantity;
        }
    }
    for item in &flood.books.items {
        let sold = sold.get(item.item_id.as_str()).copied().unwrap_or(0);
        let holds = sold <= item.stock && sold == item.allocated;
        finding.expect(holds, || {
            format!(
                "{}: {sold} in orders, {} allocated of {}",
                item.item_id, item.allocated, item.stock
            )
        });
    }
    finding.check()
}

fn ledger_and_store_agree(flood: &Flood<'_>) -> Check {
    let mut finding = Finding::of("ledger and store agree");
    for item in &flood.ledger.items {
        let stored = flood.books.items.iter().find(|stored| stored.item_id == item.id);
        let taken = item.held + item.confirmed;
        finding.expect(stored.is_some_and(|stored| stored.allocated == taken), || {
            format!("{}: {taken} taken in the ledger, the store says {stored:?}", item.id)
        });
    }
    finding.check()
}

fn every_grant_is_an_order(flood: &Flood<'_>, orders: &HashMap<ReservationId, &str>) -> Check {
    let mut finding = Finding::of("every 201 is one order");
    let rows = flood.books.orders.len();
    finding.expect(orders.len() == rows, || format!("{rows} orders, {} ids", orders.len()));
    let nameless = flood.seen.nameless;
    finding.expect(nameless == 0, || format!("{nameless} answers 201 without a reservation"));
    for (visitor, id) in &flood.seen.grants {
        let user = flood.user_of.user_of(*visitor);
        finding.expect(orders.get(id).is_some_and(|owner| *owner == user), || {
            format!("{user} was given {}, whose order is {:?}", hex(id), orders.get(id))
        });
    }
    finding.check()
}

fn no_order_out_of_nothing(flood: &Flood<'_>, orders: &HashMap<ReservationId, &str>) -> Check {
    let mut finding = Finding::of("no order without a request");
    let granted: HashSet<&ReservationId> = flood.seen.grants.iter().map(|(_, id)| id).collect();
    let unsure: HashSet<String> =
        flood.seen.unknown.iter().map(|visitor| flood.user_of.user_of(*visitor)).collect();
    for (id, user) in orders {
        let known = granted.contains(id) || unsure.contains(*user);
        finding.expect(known, || format!("{user} has {} and was never told", hex(id)));
    }
    finding.check()
}

fn one_reservation_a_user(flood: &Flood<'_>) -> Check {
    let mut finding = Finding::of("one reservation a key");
    let mut first: HashMap<String, ReservationId> = HashMap::new();
    for (visitor, id) in &flood.seen.grants {
        let user = flood.user_of.user_of(*visitor);
        let known = *first.entry(user.clone()).or_insert(*id);
        finding.expect(known == *id, || format!("{user}: {} and {}", hex(&known), hex(id)));
    }
    finding.check()
}

fn limits_kept(flood: &Flood<'_>) -> Check {
    let mut finding = Finding::of("limits kept");
    let Some(limit) = flood.books.per_user_limit else { return finding.check() };
    let mut taken: HashMap<&str, i64> = HashMap::new();
    for order in flood.books.orders.iter().filter(|order| order.stands()) {
        let units: i64 = order.lines.iter().map(|line| line.quantity).sum();
        *taken.entry(&order.user_id).or_insert(0) += units;
    }
    for (user, units) in taken {
        let within = u64::try_from(units).is_ok_and(|units| units <= limit);
        finding.expect(within, || format!("{user} has {units} of {limit}"));
    }
    finding.check()
}

fn cart_lines(flood: &Flood<'_>) -> Check {
    let mut finding = Finding::of("carts hold what orders hold");
    let mut carts: HashMap<(&str, &str), i64> = HashMap::new();
    for line in &flood.books.cart_lines {
        *carts.entry((&line.reservation_id, &line.item_id)).or_insert(0) += line.quantity;
    }
    for order in flood.books.orders.iter().filter(|order| order.stands()) {
        for line in &order.lines {
            let there = carts.remove(&(order.order_id.as_str(), line.item_id.as_str()));
            finding.expect(there == Some(line.quantity), || {
                format!("{}: {} ordered, {there:?} in the cart", order.order_id, line.quantity)
            });
        }
    }
    for (reservation, item) in carts.keys() {
        finding.look(Some(format!("a line of {item} stands for {reservation}, which does not")));
    }
    finding.check()
}

fn no_dead_letters(flood: &Flood<'_>) -> Check {
    let mut finding = Finding::of("no dead letters");
    finding.expect(flood.books.dead_letters.is_empty(), || {
        format!("{} of them", flood.books.dead_letters.len())
    });
    finding.check()
}

fn within_the_window(flood: &Flood<'_>) -> Check {
    let mut finding = Finding::of("within the window");
    let Wanted { opens_at_ms, closes_at_ms, .. } = flood.wanted;
    for order in &flood.books.orders {
        let at = order.created_at_ms;
        let inside = opens_at_ms.is_none_or(|opens| at >= opens)
            && closes_at_ms.is_none_or(|closes| at < closes);
        finding.expect(inside, || format!("{} was held at {at} ms", order.order_id));
    }
    finding.check()
}

fn sold_out(flood: &Flood<'_>) -> Check {
    let mut finding = Finding::of("every unit is sold");
    for item in &flood.ledger.items {
        finding.expect(item.available == 0, || format!("{}: {} are left", item.id, item.available));
    }
    finding.check()
}

fn all_expired(flood: &Flood<'_>) -> Check {
    let mut finding = Finding::of("every hold ran out");
    for item in &flood.ledger.items {
        finding.expect(item.available == item.stock, || format!("{item:?}"));
    }
    for order in &flood.books.orders {
        finding
            .expect(order.status == "expired", || format!("{} {}", order.order_id, order.status));
    }
    finding.check()
}

fn hex(id: &ReservationId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
