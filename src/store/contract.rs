//! What every store has to do, as tests that are run over each of them.

use std::sync::Arc;

use super::{Digested, Digestible, Store, StoreError};
use crate::carts::{CartChange, CartRefusal};
use crate::clock::Millis;
use crate::engine::{Event, Position, Return};
use crate::orders::{OrderMark, OrderStatus};
use crate::outbox::Record;
use crate::sale::{
    IdempotencyKey, ItemId, LaneId, Line, PaymentRef, Reservation, ReservationId, SaleDefinition,
    SaleId, Status, UserId,
};

const LANE: LaneId = LaneId(0);
const STOCK: u64 = 3;

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
        let batch = vec![self.record(events)];
        let digested = self.store.digest(LANE, self.cursor, batch).await.unwrap();
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

fn payment() -> PaymentRef {
    PaymentRef::parse("payment").unwrap()
}

fn expired(reservation: &Reservation) -> Event {
    Event::Expired(Return::of(reservation))
}

/// An order goes through every state of its reservation, and the cart with it.
pub(crate) async fn an_order_follows_its_reservation(mut books: Books) {
    let reservation = held(1, &[2, 1]);
    let digested = books.digest(&[Event::Held(reservation.clone())]).await;
    assert_eq!((digested.orders, digested.dead_letters), (1, 0));
    let order = books.store.order(user(1), reservation.id).await.unwrap().unwrap();
    assert_eq!((order.status, order.total), (OrderStatus::PendingPayment, 300));
    assert_eq!(order.created_at, reservation.held_at, "to the millisecond");
    assert_eq!(order.lines, reservation.lines.to_vec());
    let filled = [("item-0".to_owned(), 2, true), ("item-1".to_owned(), 1, true)];
    assert_eq!(books.cart(&user(1)).await, filled);

    books.digest(&[expired(&reservation)]).await;
    assert_eq!(books.status(&reservation).await, Some(OrderStatus::Expired));
    assert_eq!(books.cart(&user(1)).await, [], "its lines have left the cart");

    let taken = Return { version: 3, ..Return::of(&reservation) };
    books.digest(&[Event::Rebooked { taken, payment: payment() }]).await;
    assert_eq!(books.status(&reservation).await, Some(OrderStatus::Paid));
    assert_eq!(books.cart(&user(1)).await, filled);

    let returned = Return { version: 4, ..Return::of(&reservation) };
    let actor = Some("admin".into());
    books.digest(&[Event::Cancelled { returned, restock: true, actor }]).await;
    assert_eq!(books.status(&reservation).await, Some(OrderStatus::Cancelled));
    assert_eq!(books.cart(&user(1)).await, []);
}

/// A batch whose cursor has moved has no effect, and says where the cursor stands.
pub(crate) async fn a_batch_that_comes_again_is_fenced(mut books: Books) {
    let reservation = held(1, &[1]);
    let before = books.cursor;
    let batch = vec![books.record(&[Event::Held(reservation.clone())])];
    let digested = books.store.digest(LANE, before, batch.clone()).await.unwrap();
    for _ in 0..3 {
        let again = books.store.digest(LANE, before, batch.clone()).await;
        assert!(matches!(again, Err(StoreError::Fenced(at)) if at == digested.cursor));
    }
    assert_eq!(books.cart(&user(1)).await.len(), 1);
}

/// Events that come twice under new numbers change nothing: versions only rise.
pub(crate) async fn an_event_that_comes_again_is_ignored(mut books: Books) {
    let reservation = held(1, &[1]);
    let (id, version) = (reservation.id, 2);
    let paid = Event::Confirmed { id, user: user(1), version, payment: payment() };
    let events = [Event::Held(reservation.clone()), paid];
    assert_eq!(books.digest(&events).await.orders, 1);
    let version = books.store.cart(user(1)).await.unwrap().version;
    for _ in 0..3 {
        assert_eq!(books.digest(&events).await, Digested { cursor: books.cursor, ..no_change() });
    }
    assert_eq!(books.status(&reservation).await, Some(OrderStatus::Paid));
    assert_eq!(books.store.cart(user(1)).await.unwrap().version, version);
    // The units were counted once: two more fit, three do not.
    assert_eq!(books.digest(&[Event::Held(held(2, &[2]))]).await.dead_letters, 0);
    assert_eq!(books.digest(&[Event::Held(held(3, &[1]))]).await.dead_letters, 1);
}

fn no_change() -> Digested {
    Digested::default()
}

/// Whatever the events say, the books do not oversell: the event is put aside, the others count.
pub(crate) async fn an_oversell_is_put_aside(mut books: Books) {
    let good: Vec<_> = (0..3).map(|n| held(n, &[1])).collect();
    let bad = held(9, &[1]);
    let late = held(10, &[0, 1]);
    let late = Reservation { lines: late.lines[1..].into(), ..late };
    let mut events: Vec<Event> = good.iter().cloned().map(Event::Held).collect();
    events.insert(3, Event::Held(bad.clone()));
    events.push(Event::Held(late.clone()));
    let digested = books.digest(&events).await;
    assert_eq!((digested.orders, digested.dead_letters), (4, 1));
    assert_eq!(books.status(&bad).await, None);
    for reservation in good.iter().chain([&late]) {
        assert_eq!(books.status(reservation).await, Some(OrderStatus::PendingPayment));
    }
    // A unit that is returned can be sold again.
    books.digest(&[expired(&good[0])]).await;
    assert_eq!(books.digest(&[Event::Held(held(11, &[1]))]).await.dead_letters, 0);
}

/// What cannot be read, or names an order that is not there, is put aside; the lane goes on.
pub(crate) async fn poison_does_not_stop_a_lane(mut books: Books) {
    let good = held(1, &[1]);
    let stranger = held(2, &[1]);
    let mut batch = vec![books.record(&[expired(&stranger), Event::Held(good.clone())])];
    let cursor = batch[0].record.last;
    let mut damaged = Record::of(
        Position { epoch: 1, seq: cursor.seq + 2 },
        Millis(9_000),
        &[Event::Held(held(3, &[1])), Event::Held(held(4, &[1]))],
    );
    damaged.payload[5] ^= 1;
    batch.push(damaged.into());
    let digested = books.store.digest(LANE, books.cursor, batch).await.unwrap();
    assert_eq!((digested.orders, digested.dead_letters), (1, 2));
    assert_eq!(digested.cursor.seq, cursor.seq + 2, "behind the damaged record");
    books.cursor = digested.cursor;
    assert_eq!(books.status(&good).await, Some(OrderStatus::PendingPayment));
    assert_eq!(books.digest(&[Event::Held(held(5, &[1]))]).await.orders, 1);
}

/// Stock follows restocks and withdrawals, in the order of events also within a batch.
pub(crate) async fn stock_follows_events_in_order(mut books: Books) {
    let sold = held(1, &[3]);
    let restocked = |delta, before, key: &str| Event::Restocked {
        sale: SaleId::parse("sale").unwrap(),
        item: item(0),
        delta,
        key: IdempotencyKey::parse(key).unwrap(),
        before,
        reason: "counted".into(),
        actor: "admin".into(),
    };
    let returned = Return::of(&sold);
    let digested = books
        .digest(&[
            Event::Held(sold),
            restocked(2, 3, "a"),
            Event::Held(held(2, &[2])),
            Event::Cancelled { returned, restock: true, actor: None },
            restocked(-3, 5, "b"),
        ])
        .await;
    assert_eq!((digested.orders, digested.dead_letters), (2, 0));
    assert_eq!(books.digest(&[Event::Held(held(3, &[1]))]).await.dead_letters, 1, "2 of 2");
    let log = books.store.audit_log(0, 10).await.unwrap();
    let actions: Vec<_> = log.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["restock", "restock", "create"], "newest first");
    assert_eq!((&log[0]["before"]["stock"], &log[0]["after"]["stock"]), (&5.into(), &2.into()));
}

/// Orders come newest first, in pages that neither repeat nor skip one, and to their owner only.
pub(crate) async fn orders_come_in_pages(mut books: Books) {
    let mut events = Vec::new();
    for n in 0..3 {
        // Two of them of the same instant.
        let at = Millis(5_000 + u64::from(n / 2));
        events.push(Event::Held(Reservation { user: user(1), held_at: at, ..held(n, &[1]) }));
    }
    books.digest(&events).await;
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = books.store.orders(user(1), after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(OrderMark { created_at: last.created_at, id: last.id });
        seen.extend(page.iter().map(|order| (order.created_at, order.id)));
    }
    assert_eq!(seen.len(), 3);
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first: {seen:?}");
    assert_eq!(books.store.orders(user(2), None, 2).await.unwrap(), []);
    assert_eq!(books.store.order(user(2), seen[0].1).await.unwrap(), None);
}

/// A cart changes for the version that a change was made for, and its version rises with each.
pub(crate) async fn carts_have_versions(mut books: Books) {
    let put = |quantity| CartChange::Put { item: item(0), quantity };
    let change = |expected, change| books.store.change_cart(user(1), expected, change);
    let cart = change(Some(0), put(2)).await.unwrap().unwrap();
    assert_eq!((cart.version, cart.lines[0].quantity), (1, 2));
    let lost = change(Some(0), put(3)).await.unwrap();
    assert_eq!(lost, Err(CartRefusal::VersionMismatch { current: 1 }), "no lost update");
    assert_eq!(change(None, put(3)).await.unwrap().unwrap().version, 2);
    assert_eq!(change(None, put(3)).await.unwrap().unwrap().version, 2, "nothing changed");
    let remove = CartChange::Remove { item: item(0) };
    assert_eq!(change(Some(2), remove.clone()).await.unwrap().unwrap().lines, []);
    assert_eq!(change(None, remove).await.unwrap().unwrap().version, 3);
    let reservation = held(1, &[1]);
    books.digest(&[Event::Held(reservation.clone())]).await;
    let filled = books.store.cart(user(1)).await.unwrap().version;
    books.digest(&[expired(&reservation)]).await;
    let emptied = books.store.cart(user(1)).await.unwrap().version;
    assert!(3 < filled && filled < emptied, "3, {filled}, {emptied}");
}

/// Runs every test of the suite over stores that `open` makes.
macro_rules! store_contract {
    ($open:path) => {
        $crate::store::contract::store_contract!(
            $open: an_order_follows_its_reservation, a_batch_that_comes_again_is_fenced,
            an_event_that_comes_again_is_ignored, an_oversell_is_put_aside,
            poison_does_not_stop_a_lane, stock_follows_events_in_order, orders_come_in_pages,
            carts_have_versions
        );
    };
    ($open:path: $($test:ident),*) => {
        $(#[tokio::test]
        async fn $test() {
            let (store, _kept) = $open();
            let books = $crate::store::contract::Books::open(store).await;
            $crate::store::contract::$test(books).await;
        })*
    };
}
pub(crate) use store_contract;
