//! Planted faults in the line of time of an item, and what is left out of it.

use std::time::Duration;

use crate::history::{Entry, History, Level, Line, Op, Receipt, Seen};
use crate::ops::{ItemView, SaleView};
use crate::oracle::{
    Books, Evidence, Lines, NotSearched, Order, OrderLine, Scope, StoreItem, Why, judge,
    smallest_case,
};

const NAME: &str = "one line of time";
const SECOND: u64 = 1_000_000;
const HOLD_MS: i64 = 10_000;

/// One item of which there are so many units, and what is asked for it.
struct Shop {
    entries: Vec<Entry>,
    orders: Vec<Order>,
    stock: i64,
    created: i64,
    expired: i64,
    scope: Scope,
}

impl Shop {
    fn new(stock: i64) -> Self {
        let scope = Scope { complete: true, ..Scope::default() };
        Self { entries: vec![], orders: vec![], stock, created: stock, expired: 0, scope }
    }

    fn asks(&mut self, n: u64, at_us: u64, seen: Seen) -> &mut Entry {
        self.entry(Op::Reserve, n, at_us, seen)
    }

    fn entry(&mut self, op: Op, n: u64, at_us: u64, seen: Seen) -> &mut Entry {
        let id = (op != Op::Reserve || seen == Seen::Ok).then(|| format!("r{n}").into());
        let line = Line { item_id: "a".into(), quantity: 1 };
        let receipt = Receipt {
            sale_id: "flash".into(),
            lines: vec![line.clone()],
            total: 5,
            held_at_ms: 0,
            expires_at_ms: HOLD_MS,
            body_digest: 1,
            level: Some(Level::Fsync),
        };
        self.entries.push(Entry {
            seq: self.entries.len() as u64,
            op,
            user: format!("u{n}").into(),
            key: (op == Op::Reserve).then(|| format!("k{n}").into()),
            payment_ref: (op == Op::Confirm).then(|| "p".into()),
            lines: if op == Op::Reserve { [line].into() } else { [].into() },
            clock: 0,
            start_us: at_us,
            end_us: at_us + 1_000,
            receipt: (op == Op::Reserve && seen == Seen::Ok).then(|| Box::new(receipt)),
            seen,
            replayed: false,
            reservation: id,
        });
        self.entries.last_mut().unwrap()
    }

    /// A 201, and its order.
    fn sells(&mut self, n: u64, at_us: u64, status: &str, version: i64) {
        self.asks(n, at_us, Seen::Ok);
        self.orders.push(Order {
            order_id: format!("r{n}"),
            user_id: format!("u{n}"),
            status: status.to_owned(),
            lines: vec![OrderLine { item_id: "a".to_owned(), quantity: 1, unit_price: 5 }],
            total: 5,
            created_at_ms: 0,
            expires_at_ms: HOLD_MS,
            payment_ref: None,
            version,
            updated_at_ms: 0,
        });
        self.expired += i64::from(status == "expired" || version > 2);
    }

    fn sold_out(&mut self, n: u64, at_us: u64) {
        self.asks(n, at_us, Seen::No("sold-out".into()));
    }

    fn told(&self) -> (bool, Lines) {
        self.with(|evidence| {
            let verdict = judge(evidence);
            (verdict.check(NAME).unwrap().ok, verdict.lines)
        })
    }

    /// Users and kinds of the smallest case.
    fn smallest(&self) -> Vec<(String, Op)> {
        let case = self.with(|evidence| smallest_case(evidence, NAME)).unwrap();
        case.iter().map(|entry| (entry.user.to_string(), entry.op)).collect()
    }

    fn with<T>(&self, look: impl FnOnce(&Evidence<'_>) -> T) -> T {
        let history = History::from_entries(self.entries.clone());
        let item = ItemView {
            id: "a".to_owned(),
            stock: self.stock,
            available: 0,
            held: 0,
            confirmed: 0,
            cancelled_total: 0,
            expired_total: self.expired,
            per_user_limit: None,
        };
        let ledger = SaleView {
            id: "flash".into(),
            state: "open".into(),
            per_user_limit: None,
            items: vec![item],
            outbox_length: 0,
            writer_lag_seconds: None,
        };
        let stored = StoreItem {
            item_id: "a".to_owned(),
            stock: self.stock,
            allocated: 0,
            created_stock: Some(self.created),
            per_user_limit: None,
        };
        let orders = self.orders.clone();
        let books = Books { items: vec![stored], orders, ..Books::default() };
        let scope = self.scope;
        look(&Evidence { history: &history, ledger: &ledger, books: &books, scope })
    }

    fn holds(&self) {
        let (ok, lines) = self.told();
        assert!(ok, "{} entries, the last {:?}", self.entries.len(), self.entries.last());
        assert_eq!((lines.searched, lines.not_searched), (1, vec![]));
    }

    fn breaks(&self) {
        assert!(
            !self.told().0,
            "{} entries, the last {:?}",
            self.entries.len(),
            self.entries.last()
        );
    }

    fn left_out(&self, why: Why) {
        let (ok, lines) = self.told();
        assert!(ok);
        let item = "a".to_owned();
        assert_eq!((lines.searched, lines.not_searched), (0, vec![NotSearched { item, why }]));
    }
}

/// Proves that an item of which a hold ran out is searched: its unit sells again after the deadline, and not
/// before.
#[test]
fn a_hold_that_ran_out_is_searched() {
    for (at, holds) in [(5 * SECOND, false), (11 * SECOND, true)] {
        let mut shop = Shop::new(1);
        shop.sells(1, SECOND, "expired", 2);
        shop.sells(2, at, "pending_payment", 1);
        if holds {
            shop.holds()
        } else {
            shop.breaks()
        }
        // A clock that was set may have made it end so early.
        shop.scope.clock_off = Duration::from_secs(7);
        shop.holds();
    }
    let mut shop = Shop::new(1);
    shop.sells(1, SECOND, "expired", 2);
    shop.sold_out(2, 5 * SECOND);
    shop.holds();
    shop.sold_out(3, 20 * SECOND);
    shop.holds();
}

/// Proves that between two clocks of a history there may have been any time.
#[test]
fn a_hold_may_run_out_between_two_clocks() {
    let mut shop = Shop::new(1);
    shop.sells(1, SECOND, "expired", 2);
    shop.sells(2, 2 * SECOND, "pending_payment", 1);
    shop.breaks();
    shop.entries[1].clock = 1;
    shop.holds();
}

/// Proves that a unit which a late payment took anew is sold to nobody else.
#[test]
fn a_late_payment_is_searched() {
    let mut shop = Shop::new(1);
    shop.sells(1, SECOND, "paid", 3);
    shop.entry(Op::Confirm, 1, 20 * SECOND, Seen::Ok);
    shop.sold_out(2, 30 * SECOND);
    shop.holds();
    shop.sells(3, 31 * SECOND, "pending_payment", 1);
    shop.breaks();
}

/// Proves that a unit which an operator gave back after it was paid for may be sold again.
#[test]
fn what_an_operator_gave_back_sells() {
    let mut shop = Shop::new(1);
    shop.sells(1, SECOND, "cancelled", 3);
    shop.entry(Op::Confirm, 1, 2 * SECOND, Seen::Ok);
    shop.sells(2, 3 * SECOND, "pending_payment", 1);
    shop.holds();
}

/// Proves that a basket takes of each item, and that its "sold out" is nobody's in particular.
#[test]
fn a_basket_is_searched() {
    let other = Line { item_id: "b".into(), quantity: 1 };
    let mut shop = Shop::new(1);
    shop.asks(1, SECOND, Seen::No("sold-out".into()));
    let both = [shop.entries[0].lines[0].clone(), other];
    shop.entries[0].lines = both.clone().into();
    shop.sells(2, 3 * SECOND, "pending_payment", 1);
    shop.entries[1].lines = both.into();
    shop.sold_out(3, 5 * SECOND);
    shop.holds();
    shop.sells(4, 7 * SECOND, "pending_payment", 1);
    shop.breaks();
}

/// Proves that a crowd is searched, and that of one that is too big the units are counted: one too many at one
/// time is seen, and so is "sold out" while there was one.
#[test]
fn a_crowd_is_counted() {
    for crowd in [500, 5_000] {
        let sold = |stock: i64| {
            let mut shop = Shop::new(stock);
            for n in 0..crowd {
                shop.sells(n, SECOND + n * 100, "pending_payment", 1);
                shop.sold_out(crowd + n, 9 * SECOND + n * 100);
            }
            shop
        };
        let units = i64::try_from(crowd).unwrap();
        match crowd {
            500 => sold(units).holds(),
            _ => sold(units).left_out(Why::TooMany),
        }
        sold(units - 1).breaks();
        sold(units + 1).breaks();
    }
    // Who may all have what they want is in order, however many.
    let mut shop = Shop::new(10_000);
    for n in 0..5_000 {
        shop.sells(n, SECOND, "pending_payment", 1);
    }
    shop.holds();
}

/// Proves that where promises may be lost, those that survive are not sold twice all the same.
#[test]
fn what_survives_is_counted() {
    let mut shop = Shop::new(1);
    shop.scope.lost_below = Some(Level::Fsync);
    shop.sells(1, SECOND, "pending_payment", 1);
    shop.left_out(Why::MayBeLost);
    shop.sells(2, 5 * SECOND, "pending_payment", 1);
    shop.breaks();
    shop.scope.lost_below = Some(Level::Stored);
    shop.left_out(Why::MayBeLost);
}

/// Proves that an item whose stock was changed is left out, and said to be.
#[test]
fn a_restock_is_left_out() {
    let mut shop = Shop::new(2);
    shop.created = 1;
    shop.sold_out(1, SECOND);
    shop.left_out(Why::Restocked);
}

/// Proves that an incomplete history excuses "sold out" by orders of others, and no more.
#[test]
fn strangers_take_units() {
    let mut shop = Shop::new(1);
    shop.sold_out(1, SECOND);
    shop.breaks();
    shop.scope.complete = false;
    shop.breaks();
    shop.sells(2, 9 * SECOND, "pending_payment", 1);
    shop.entries.truncate(1);
    shop.holds();
}

/// Proves that the smallest case is the few answers that cannot all be true, out of hundreds; and that it is not one
/// that is false only because others were left out.
#[test]
fn the_smallest_line() {
    let mut shop = Shop::new(1);
    for n in 0..100 {
        shop.sells(n, SECOND + n * 10_000, "cancelled", 2);
        shop.entry(Op::Cancel, n, SECOND + n * 10_000 + 2_000, Seen::Ok);
        shop.sold_out(1_000 + n, SECOND + n * 10_000);
    }
    shop.holds();
    for n in [500, 501] {
        shop.sells(n, 9 * SECOND + n, "pending_payment", 1);
    }
    let of = |n: u64| (format!("u{n}"), Op::Reserve);
    assert_eq!(shop.smallest(), [of(500), of(501)]);
}
