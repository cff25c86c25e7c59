//! A flood that went well, and a fault for each check.

use super::{Flood, UserOf, Wanted, judge_flood};
use crate::ops::{ItemView, SaleView};
use crate::oracle::books::{Books, CartLine, Order, OrderLine, StoreItem};
use crate::rig::Seen;

/// Two visitors in a row are one person.
#[derive(Debug)]
struct InPairs;

impl UserOf for InPairs {
    fn user_of(&self, n: u64) -> String {
        format!("u{}", n / 2)
    }
}

struct World {
    seen: Seen,
    ledger: SaleView,
    books: Books,
    wanted: Wanted,
}

fn id(n: u8) -> String {
    format!("00000000-0000-0000-0000-0000000000{n:02x}")
}

fn order(n: u8) -> Order {
    Order {
        order_id: id(n),
        user_id: format!("u{n}"),
        status: "pending_payment".to_owned(),
        lines: vec![OrderLine { item_id: "sku-1".to_owned(), quantity: 1, unit_price: 5 }],
        total: 5,
        created_at_ms: 1_000,
        expires_at_ms: 2_000,
        payment_ref: None,
        version: 1,
        updated_at_ms: 1_000,
    }
}

impl World {
    /// Two units, sold to u0 and u1; u0 was told twice, and u2 was refused.
    fn good() -> Self {
        let grant = |visitor, n| {
            let mut bytes = [0; 16];
            bytes[15] = n;
            (visitor, bytes)
        };
        let item = ItemView {
            id: "sku-1".to_owned(),
            stock: 2,
            available: 0,
            held: 2,
            confirmed: 0,
            cancelled_total: 0,
            expired_total: 0,
            per_user_limit: None,
        };
        let cart_line = |n| CartLine {
            user_id: format!("u{n}"),
            item_id: "sku-1".to_owned(),
            reservation_id: id(n),
            quantity: 1,
        };
        Self {
            seen: Seen { grants: vec![grant(0, 0), grant(1, 0), grant(2, 1)], ..Seen::default() },
            ledger: SaleView {
                id: "s".to_owned(),
                state: "open".to_owned(),
                per_user_limit: Some(1),
                items: vec![item],
                outbox_length: 0,
                writer_lag_seconds: None,
            },
            books: Books {
                per_user_limit: Some(1),
                items: vec![StoreItem {
                    item_id: "sku-1".to_owned(),
                    stock: 2,
                    allocated: 2,
                    per_user_limit: None,
                    created_stock: None,
                }],
                orders: vec![order(0), order(1)],
                cart_lines: vec![cart_line(0), cart_line(1)],
                ..Books::default()
            },
            wanted: Wanted {
                keyed: true,
                sold_out: true,
                opens_at_ms: Some(1_000),
                closes_at_ms: Some(1_001),
                all_expired: false,
            },
        }
    }

    /// The names of the checks that fail.
    fn failures(&self) -> Vec<String> {
        let Self { seen, ledger, books, wanted } = self;
        let flood = Flood { seen, user_of: &InPairs, ledger, books, wanted: *wanted };
        judge_flood(&flood).failures().map(|check| check.name.clone()).collect()
    }
}

/// Proves that a flood which went well is found right, and that each fault is seen by its check.
#[test]
fn each_fault_is_seen() {
    assert_eq!(World::good().failures(), Vec::<String>::new());
    let fails = |name: &str, spoil: fn(&mut World)| {
        let mut world = World::good();
        spoil(&mut world);
        let failures = world.failures();
        assert!(failures.iter().any(|failed| failed == name), "{name}: {failures:?}");
    };
    fails("conservation", |w| w.ledger.items[0].available = 1);
    fails("conservation", |w| {
        (w.ledger.items[0].available, w.ledger.items[0].held) = (-1, 3);
    });
    fails("no oversell in the store", |w| w.books.orders.push(order(2)));
    fails("ledger and store agree", |w| w.ledger.items[0].held = 1);
    fails("every 201 is one order", |w| drop(w.books.orders.pop()));
    fails("every 201 is one order", |w| w.books.orders[0].user_id = "u9".to_owned());
    fails("every 201 is one order", |w| w.books.orders.push(order(1)));
    fails("every 201 is one order", |w| w.seen.nameless = 1);
    fails("no order without a request", |w| w.seen.grants.truncate(2));
    fails("one reservation a key", |w| w.seen.grants[1].1[15] = 1);
    fails("limits kept", |w| w.books.orders[1].user_id = "u0".to_owned());
    fails("carts hold what orders hold", |w| drop(w.books.cart_lines.pop()));
    fails("carts hold what orders hold", |w| w.books.cart_lines[1].reservation_id = id(7));
    fails("no dead letters", |w| w.books.dead_letters.push("poison".to_owned()));
    fails("within the window", |w| w.wanted.opens_at_ms = Some(1_001));
    fails("within the window", |w| w.wanted.closes_at_ms = Some(1_000));
    fails("every unit is sold", |w| w.ledger.items[0].available = 1);
    fails("every hold ran out", |w| w.wanted.all_expired = true);
}

/// Proves that an order of somebody who was left without an answer is no fault.
#[test]
fn the_unknown_may_have_orders() {
    let mut world = World::good();
    world.seen.grants.pop();
    world.seen.unknown.insert(3);
    assert_eq!(world.failures(), Vec::<String>::new());
}
