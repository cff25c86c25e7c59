//! Promises about carts and about the writer's leftovers.

use std::collections::BTreeMap;

use super::digest::Digest;
use super::order_checks::units_of;
use super::verdict::{Check, Finding};

/// A standing order is in its owner's cart, line by line; one that ended is in nobody's.
pub(super) fn carts(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("carts");
    let mut lines = BTreeMap::<(&str, &str), BTreeMap<&str, i64>>::new();
    for line in &digest.evidence.books.cart_lines {
        let cart = lines.entry((&line.reservation_id, &line.user_id)).or_default();
        *cart.entry(&line.item_id).or_default() += line.quantity;
    }
    for order in &digest.evidence.books.orders {
        let found = lines.remove(&(&*order.order_id, &*order.user_id)).unwrap_or_default();
        let wanted = if order.stands() { units_of(order) } else { BTreeMap::new() };
        finding.expect(found == wanted, || {
            let (id, status) = (&order.order_id, &order.status);
            format!("{id} is {status}: in the cart {found:?}, ordered {wanted:?}")
        });
    }
    for (reservation, user) in lines.keys() {
        finding.look(Some(format!("a line of {user} stands for {reservation}: no such order")));
    }
    finding.check()
}

/// The writer could digest everything.
pub(super) fn no_dead_letters(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("no dead letters");
    finding.look(None);
    for reason in &digest.evidence.books.dead_letters {
        finding.look(Some(reason.clone()));
    }
    finding.check()
}

/// The writer has nothing left to do.
pub(super) fn drained(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("writer drained");
    let left = digest.evidence.ledger.outbox_length;
    finding.expect(left == 0, || format!("{left} changes left"));
    finding.check()
}
