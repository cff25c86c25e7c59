//! What every store has to do, as tests that are run over each of them.

mod again;
mod carts;
mod dead;
mod log;
mod orders;

use std::sync::Arc;

pub(crate) use self::again::{
    a_batch_that_comes_again_is_fenced, a_lane_has_one_writer,
    an_event_that_comes_again_is_ignored, an_outbox_is_replayed, books_are_one_ledgers,
};
pub(crate) use self::carts::{
    a_cart_is_changed, a_cart_tells_what_left_it, a_guest_logs_in, carts_are_changed_at_once,
    carts_are_found_by_item, carts_have_versions,
};
pub(crate) use self::dead::{
    a_database_that_refuses, an_oversell_is_put_aside, dead_letters_are_settled, events_one_by_one,
    poison_does_not_stop_a_lane,
};
pub(crate) use self::log::{a_log, log_once_more, the_log_is_chained};
pub(crate) use self::orders::{
    an_order_follows_its_reservation, orders_are_archived, orders_come_in_pages,
    stock_follows_events_in_order,
};
use super::{Batch, Care, Digested, Digestible, Holder, Store};
use crate::clock::Millis;
use crate::engine::{Event, Position, Return};
use crate::orders::OrderStatus;
use crate::outbox::Record;
use crate::sale::{
    IdempotencyKey, ItemId, LaneId, Line, PaymentRef, Reservation, ReservationId, SaleDefinition,
    SaleId, Status, UserId,
};

const LANE: LaneId = LaneId(0);
const STOCK: u64 = 3;
const HOLDER: Holder = Holder(7);

fn batch(cursor: Position, entries: Vec<Digestible>) -> Arc<Batch> {
    Arc::new(Batch { lane: LANE, holder: HOLDER, cursor, entries, care: Care::Whole })
}

/// A store, and the outbox of a lane as a ledger would have written it.
pub(crate) struct Books {
    store: Arc<dyn Store>,
    cursor: Position,
    at: u64,
}

impl Books {
    /// A sale of three units of `item-0` and three of `item-1` in untouched books.
    pub(crate) async fn open(store: Arc<dyn Store>) -> Self {
        let mut books = Self { store, cursor: Position::default(), at: 1_000 };
        let item = |n: usize| {
            serde_json::json!({
                "id": format!("item-{n}"), "title": "An item", "price": 100, "currency": "EUR",
                "stock": STOCK,
            })
        };
        let definition = SaleDefinition::from_json(&serde_json::json!({
            "id": "sale", "title": "A sale", "hold_seconds": 60, "items": [item(0), item(1)],
        }));
        let definition = definition.unwrap();
        books.digest(&[Event::SaleCreated { definition, actor: "admin".into() }]).await;
        books
    }

    fn record(&mut self, events: &[Event]) -> Digestible {
        self.at += 1;
        let seq = self.cursor.seq + events.len() as u64;
        Record::of(Position { epoch: 1, seq }, Millis(self.at), events).into()
    }

    async fn digest(&mut self, events: &[Event]) -> Digested {
        let entries = vec![self.record(events)];
        let digested = self.store.digest(batch(self.cursor, entries)).await.unwrap();
        self.cursor = digested.cursor;
        assert_eq!(self.store.cursor(LANE).await.unwrap(), self.cursor);
        digested
    }

    async fn status(&self, reservation: &Reservation) -> Option<OrderStatus> {
        let order = self.store.order(reservation.user.clone(), reservation.id).await.unwrap();
        order.map(|order| order.status)
    }

    async fn cart(&self, user: &UserId) -> Vec<(String, u64, bool)> {
        let cart = self.store.cart(user.clone()).await.unwrap();
        let line = |line: crate::carts::CartLine| {
            (line.item, line.quantity, line.reservation_id.is_some())
        };
        cart.lines.into_iter().map(line).collect()
    }
}

fn user(n: u32) -> UserId {
    UserId::parse(&format!("user-{n}")).unwrap()
}

fn item(n: usize) -> ItemId {
    ItemId::parse(&format!("item-{n}")).unwrap()
}

fn held(n: u32, quantities: &[u32]) -> Reservation {
    let line = |(index, quantity): (usize, &u32)| Line {
        item: item(index),
        quantity: *quantity,
        unit_price: 100,
    };
    Reservation {
        id: ReservationId::random(LANE),
        sale: SaleId::parse("sale").unwrap(),
        user: user(n),
        lines: quantities.iter().enumerate().map(line).collect(),
        currency: "EUR".into(),
        status: Status::Held,
        version: 1,
        held_at: Millis(2_000 + u64::from(n)),
        expires_at: Millis(62_000),
        payment: None,
        late_payments: Vec::new(),
    }
}

fn restocked(delta: i64, before: u64, key: &str) -> Event {
    Event::Restocked {
        sale: SaleId::parse("sale").unwrap(),
        item: item(0),
        delta,
        key: IdempotencyKey::parse(key).unwrap(),
        before,
        reason: "counted".into(),
        actor: "admin".into(),
    }
}

fn payment() -> PaymentRef {
    PaymentRef::parse("payment").unwrap()
}

fn expired(reservation: &Reservation) -> Event {
    Event::Expired(Return::of(reservation))
}

/// Runs every test of the suite over stores that `open` makes.
macro_rules! store_contract {
    ($open:path) => {
        $crate::store::contract::store_contract!(
            $open: an_order_follows_its_reservation, a_batch_that_comes_again_is_fenced,
            an_event_that_comes_again_is_ignored, an_oversell_is_put_aside,
            poison_does_not_stop_a_lane, stock_follows_events_in_order, orders_come_in_pages,
            carts_have_versions, a_cart_is_changed, a_guest_logs_in, a_cart_tells_what_left_it,
            carts_are_found_by_item, a_lane_has_one_writer, books_are_one_ledgers,
            dead_letters_are_settled, an_outbox_is_replayed, events_one_by_one,
            carts_are_changed_at_once, orders_are_archived, the_log_is_chained
        );
    };
    ($open:path: $($test:ident),*) => {
        $(#[tokio::test]
        async fn $test() {
            let (store, _kept) = $open().await;
            let books = $crate::store::contract::Books::open(store).await;
            $crate::store::contract::$test(books).await;
        })*
    };
}
pub(crate) use store_contract;
