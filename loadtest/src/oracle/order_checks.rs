//! Promises about orders: one for every 201, none without one, and each ended as its client saw.

use std::collections::BTreeMap;

use super::books::Order;
use super::digest::{Digest, End, Ends, Grant};
use super::verdict::{Check, Finding};

/// Every 201 is exactly one order, and the order says what the 201 said.
pub(super) fn an_order_for_every_grant(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("an order for every 201");
    for (id, grant) in &digest.grants {
        let fault = match digest.orders.get(id).map(Vec::as_slice) {
            None | Some([]) if digest.may_be_lost(grant.receipt.level) => None,
            None | Some([]) => Some("no order".to_owned()),
            // It may have been made anew, by a retry.
            Some([_]) if digest.may_be_lost(grant.receipt.level) => None,
            Some([order]) => difference(grant, order),
            Some(many) => Some(format!("{} orders", many.len())),
        };
        finding.look(fault.map(|fault| format!("{id}: {fault}")));
    }
    finding.check()
}

/// What an order says otherwise than the 201.
fn difference(grant: &Grant<'_>, order: &Order) -> Option<String> {
    let receipt = grant.receipt;
    let mut promised = BTreeMap::<&str, i64>::new();
    for line in &receipt.lines {
        *promised.entry(&line.item_id).or_default() += i64::from(line.quantity);
    }
    let differs = |what: &str, one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| {
        Some(format!("{what}: promised {one:?}, ordered {other:?}"))
    };
    let lines = units_of(order);
    if grant.user != order.user_id {
        differs("user", &grant.user, &order.user_id)
    } else if promised != lines {
        differs("lines", &promised, &lines)
    } else if receipt.total != order.total {
        differs("total", &receipt.total, &order.total)
    } else if receipt.held_at_ms != order.created_at_ms {
        differs("held_at", &receipt.held_at_ms, &order.created_at_ms)
    } else if receipt.expires_at_ms != order.expires_at_ms {
        differs("expires_at", &receipt.expires_at_ms, &order.expires_at_ms)
    } else {
        None
    }
}

/// Units by item.
pub(super) fn units_of(order: &Order) -> BTreeMap<&str, i64> {
    let mut units = BTreeMap::new();
    for line in &order.lines {
        *units.entry(&*line.item_id).or_default() += line.quantity;
    }
    units
}

/// No order that nobody was granted, but for those who still do not know. Also: an order has one
/// row, whoever it is filed under.
pub(super) fn no_order_without_a_request(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("no order without a request");
    let mut excuses = digest.unresolved.clone();
    for (id, orders) in &digest.orders {
        let fault = match orders.as_slice() {
            [order] if !digest.grants.contains_key(id) => match excuses.get_mut(&*order.user_id) {
                Some(open) if *open > 0 => {
                    *open -= 1;
                    None
                }
                Some(_) | None => Some(format!("{id} of {}: nobody was granted it", order.user_id)),
            },
            [_] => None,
            several => Some(format!("{id} has {} rows", several.len())),
        };
        finding.look(fault);
    }
    finding.check()
}

/// As many reservations as orders; whose fate is unknown may be either.
pub(super) fn counts_agree(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("counts agree");
    let granted = digest.grants.len() as u64;
    let orders = digest.evidence.books.orders.len() as u64;
    let open: u64 = digest.unresolved.values().sum();
    let agree = (granted - digest.lost()..=granted + open).contains(&orders);
    finding.expect(agree, || format!("{granted} granted, {open} unknown, {orders} orders"));
    finding.check()
}

/// What a client was told about the end of its reservation is what the order says.
pub(super) fn ends_stand(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("told ends stand");
    for (id, ends) in &digest.ends {
        if ends.cancelled != End::Yes && ends.confirmed != End::Yes {
            continue;
        }
        let grant = digest.grants.get(id);
        if grant.is_some_and(|grant| digest.may_be_lost(grant.receipt.level)) {
            continue;
        }
        let Some(orders) = digest.orders.get(id) else {
            finding.look(Some(format!("{id}: told its end, but there is no order")));
            continue;
        };
        for order in orders {
            finding.look(told(ends, order).map(|fault| format!("{id}: {fault}")));
        }
    }
    finding.check()
}

fn told(ends: &Ends<'_>, order: &Order) -> Option<String> {
    let status = &*order.status;
    match (ends.cancelled == End::Yes, ends.confirmed == End::Yes) {
        (true, true) => Some("told both cancelled and confirmed".to_owned()),
        (true, false) if status != "cancelled" => Some(format!("told cancelled, is {status}")),
        (false, true) if status != "paid" => Some(format!("told confirmed, is {status}")),
        (false, true) if ends.payment != order.payment_ref.as_deref() => {
            Some(format!("paid by {:?}, filed {:?}", ends.payment, order.payment_ref))
        }
        _ => None,
    }
}

/// No order ended in a way that nobody asked for.
pub(super) fn ends_were_asked_for(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("ends were asked for");
    let nothing = Ends::default();
    for order in &digest.evidence.books.orders {
        let ends = digest.ends.get(&*order.order_id).unwrap_or(&nothing);
        let asked = match &*order.status {
            "paid" => ends.confirmed.is_possible(),
            "cancelled" => ends.cancelled.is_possible(),
            _ => true,
        };
        finding.expect(asked, || {
            format!("{} is {}, which nobody asked for", order.order_id, order.status)
        });
    }
    finding.check()
}
