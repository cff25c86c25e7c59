//! Promises about units: nothing oversold, nothing lost, ledger and store of one mind.

use std::collections::BTreeMap;

use super::digest::Digest;
use super::verdict::{Check, Finding};

/// Every unit is available, held or confirmed; none of them less than zero.
pub(super) fn conservation(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("conservation");
    for item in &digest.evidence.ledger.items {
        let parts = [item.available, item.held, item.confirmed];
        let whole = parts.iter().all(|part| *part >= 0) && parts.iter().sum::<i64>() == item.stock;
        finding.expect(whole, || {
            let (id, stock) = (&item.id, item.stock);
            format!("{id}: available, held, confirmed {parts:?} of {stock}")
        });
    }
    finding.check()
}

/// Neither ledger nor store gave away more than there is.
pub(super) fn no_oversell(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("no oversell");
    for item in &digest.evidence.ledger.items {
        let taken = item.held.saturating_add(item.confirmed);
        finding.expect(taken <= item.stock, || {
            format!("ledger: {} of {} units of {}", taken, item.stock, item.id)
        });
        let ordered = digest.units(&item.id, &["pending_payment", "paid"]);
        finding.expect(ordered <= item.stock, || {
            format!("store: {} of {} units of {}", ordered, item.stock, item.id)
        });
    }
    finding.check()
}

/// Ledger and store count the same, item by item, and the store's own sum is right.
pub(super) fn ledger_and_store_agree(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("ledger and store agree");
    for id in digest.items() {
        let ledger = digest.evidence.ledger.items.iter().find(|item| item.id == id);
        let store = digest.evidence.books.items.iter().find(|item| item.item_id == id);
        let (Some(ledger), Some(store)) = (ledger, store) else {
            finding.look(Some(format!("{id} is known to only one of them")));
            continue;
        };
        let (pending, paid) = (digest.units(id, &["pending_payment"]), digest.units(id, &["paid"]));
        for (what, one, other) in [
            ("held and pending", ledger.held, pending),
            ("confirmed and paid", ledger.confirmed, paid),
            ("allocated and ordered", store.allocated, pending + paid),
            ("stock of ledger and store", ledger.stock, store.stock),
        ] {
            finding.expect(one == other, || format!("{id}: {what}: {one} and {other}"));
        }
    }
    finding.check()
}

/// Nothing is left.
pub(super) fn sold_out(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("everything sold");
    for item in &digest.evidence.ledger.items {
        finding.expect(item.available == 0, || format!("{}: {} left", item.id, item.available));
    }
    finding.check()
}

/// Nobody stands with more units than a user may have, of the sale or of an item.
pub(super) fn limits_kept(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("limits kept");
    let orders = digest.evidence.books.orders.iter().filter(|order| order.stands());
    let mut taken = BTreeMap::<(&str, Option<&str>), i64>::new();
    for order in orders {
        for line in &order.lines {
            *taken.entry((&order.user_id, None)).or_default() += line.quantity;
            *taken.entry((&order.user_id, Some(&line.item_id))).or_default() += line.quantity;
        }
    }
    for ((user, item), units) in taken {
        let Some(limit) = limit(digest, item) else {
            continue;
        };
        let kept = u64::try_from(units).is_ok_and(|units| units <= limit);
        finding.expect(kept, || {
            format!("{user}: {units} units of {}, limit {limit}", item.unwrap_or("the sale"))
        });
    }
    finding.check()
}

/// The limit of an item, or of the sale: as the ops API says, else as the sale was created.
fn limit(digest: &Digest<'_>, item: Option<&str>) -> Option<u64> {
    let (ledger, books) = (digest.evidence.ledger, digest.evidence.books);
    match item {
        None => ledger.per_user_limit.or(books.per_user_limit),
        Some(id) => {
            let told = ledger.items.iter().find(|i| i.id == id).and_then(|i| i.per_user_limit);
            let created = books.items.iter().find(|i| i.item_id == id);
            told.or(created.and_then(|i| i.per_user_limit))
        }
    }
}

/// Every unit that came back is counted once. What expired and was booked again later counts as
/// expired in the ledger, but its order stands.
pub(super) fn returns_are_counted(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("returns are counted");
    for item in &digest.evidence.ledger.items {
        let cancelled = digest.units(&item.id, &["cancelled"]);
        finding.expect(item.cancelled_total == cancelled, || {
            let (id, total) = (&item.id, item.cancelled_total);
            format!("{id}: {total} cancelled in the ledger, {cancelled} in the store")
        });
        let expired = digest.units(&item.id, &["expired"]);
        finding.expect(item.expired_total >= expired, || {
            let (id, total) = (&item.id, item.expired_total);
            format!("{id}: {total} expired in the ledger, {expired} in the store")
        });
    }
    finding.check()
}
