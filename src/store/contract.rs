//! What every store has to do, as tests that are run over each of them.

use std::sync::Arc;

use serde_json::json;

use super::chain::{Entry, Hash};
use super::{
    Batch, Care, DeadMark, Digested, Digestible, Holder, Note, Retried, Store, StoreError,
};
use crate::carts::{CartChange, CartRefusal};
use crate::clock::{Clock, Millis, SystemClock};
use crate::engine::{Event, Position, Return};
use crate::orders::{OrderMark, OrderStatus};
use crate::outbox::Record;
use crate::sale::{
    IdempotencyKey, ItemId, LaneId, Line, PaymentRef, Reservation, ReservationId, SaleDefinition,
    SaleId, Status, UserId,
};
use crate::sqlite::as_sql;

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

/// An order goes through every state of its reservation, and the cart with it.
pub(crate) async fn an_order_follows_its_reservation(mut books: Books) {
    let reservation = held(1, &[2, 1]);
    let digested = books.digest(&[Event::Held(reservation.clone())]).await;
    assert_eq!((digested.orders, digested.dead_letters.len()), (1, 0));
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
    let batch = batch(before, vec![books.record(&[Event::Held(reservation.clone())])]);
    let digested = books.store.digest(Arc::clone(&batch)).await.unwrap();
    for _ in 0..3 {
        let again = books.store.digest(Arc::clone(&batch)).await;
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
    assert_eq!(books.digest(&[Event::Held(held(2, &[2]))]).await.dead_letters.len(), 0);
    assert_eq!(books.digest(&[Event::Held(held(3, &[1]))]).await.dead_letters.len(), 1);
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
    assert_eq!((digested.orders, digested.dead_letters.len()), (4, 1));
    assert_eq!(books.status(&bad).await, None);
    for reservation in good.iter().chain([&late]) {
        assert_eq!(books.status(reservation).await, Some(OrderStatus::PendingPayment));
    }
    // A unit that is returned can be sold again.
    books.digest(&[expired(&good[0])]).await;
    assert_eq!(books.digest(&[Event::Held(held(11, &[1]))]).await.dead_letters.len(), 0);
}

/// What cannot be read, or names an order that is not there, is put aside; the lane goes on.
pub(crate) async fn poison_does_not_stop_a_lane(mut books: Books) {
    let good = held(1, &[1]);
    let stranger = held(2, &[1]);
    let mut entries = vec![books.record(&[expired(&stranger), Event::Held(good.clone())])];
    let cursor = entries[0].record.last;
    let mut damaged = Record::of(
        Position { epoch: 1, seq: cursor.seq + 2 },
        Millis(9_000),
        &[Event::Held(held(3, &[1])), Event::Held(held(4, &[1]))],
    );
    damaged.payload[5] ^= 1;
    entries.push(damaged.into());
    let digested = books.store.digest(batch(books.cursor, entries)).await.unwrap();
    assert_eq!((digested.orders, digested.dead_letters.len()), (1, 2));
    assert_eq!(digested.cursor.seq, cursor.seq + 2, "behind the damaged record");
    books.cursor = digested.cursor;
    assert_eq!(books.status(&good).await, Some(OrderStatus::PendingPayment));
    assert_eq!(books.digest(&[Event::Held(held(5, &[1]))]).await.orders, 1);
}

/// Stock follows restocks and withdrawals, in the order of events also within a batch.
pub(crate) async fn stock_follows_events_in_order(mut books: Books) {
    let sold = held(1, &[3]);
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
    assert_eq!((digested.orders, digested.dead_letters.len()), (2, 0));
    assert_eq!(books.digest(&[Event::Held(held(3, &[1]))]).await.dead_letters.len(), 1, "2 of 2");
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

/// Puts and adds are decisions on what is there; lines of reservations are nobody's to change.
pub(crate) async fn a_cart_is_changed(mut books: Books) {
    let reservation = held(1, &[2]);
    books.digest(&[Event::Held(reservation.clone())]).await;
    let change = |change| books.store.change_cart(user(1), None, change);
    let add = |n, quantity| CartChange::Add { item: item(n), quantity };
    change(add(0, 2)).await.unwrap().unwrap();
    change(add(0, 3)).await.unwrap().unwrap();
    change(add(1, 1)).await.unwrap().unwrap();
    let lines = |n, units, reserved| (format!("item-{n}"), units, reserved);
    let filled = [lines(0, 5, false), lines(0, 2, true), lines(1, 1, false)];
    assert_eq!(books.cart(&user(1)).await, filled);
    let over = change(add(0, 995)).await.unwrap();
    assert_eq!(over, Err(CartRefusal::TooManyUnits));
    let before = books.store.cart(user(1)).await.unwrap().version;
    let cleared = change(CartChange::Clear).await.unwrap().unwrap();
    assert_eq!(cleared.version, before + 1, "one change, however many lines");
    assert_eq!(books.cart(&user(1)).await, [lines(0, 2, true)]);
    assert_eq!(change(CartChange::Clear).await.unwrap().unwrap().version, before + 1);
    for n in 0..100 {
        let item = ItemId::parse(&format!("more-{n}")).unwrap();
        change(CartChange::Put { item, quantity: 1 }).await.unwrap().unwrap();
    }
    let one_more = change(CartChange::Put { item: item(0), quantity: 1 }).await.unwrap();
    assert_eq!(one_more, Err(CartRefusal::TooManyLines));
}

/// A guest's lines come into the user's cart once, whoever asks how often.
pub(crate) async fn a_guest_logs_in(books: Books) {
    let guest = UserId::parse("guest-1").unwrap();
    let put = |user: &UserId, n, quantity| {
        let change = CartChange::Put { item: item(n), quantity };
        books.store.change_cart(user.clone(), None, change)
    };
    put(&guest, 0, 900).await.unwrap().unwrap();
    put(&guest, 1, 2).await.unwrap().unwrap();
    put(&user(1), 0, 200).await.unwrap().unwrap();
    let merge = |expected| books.store.merge_carts(guest.clone(), user(1), expected);
    let mismatch = CartRefusal::VersionMismatch { current: 1 };
    assert_eq!(merge(Some(9)).await.unwrap(), Err(mismatch));
    assert_eq!(merge(Some(1)).await.unwrap().unwrap().version, 2);
    let merged = [("item-0".to_owned(), 999, false), ("item-1".to_owned(), 2, false)];
    assert_eq!(books.cart(&user(1)).await, merged, "added up, as far as a line goes");
    assert_eq!(books.cart(&guest).await, []);
    assert_eq!(merge(None).await.unwrap().unwrap().version, 2, "there is nothing left to merge");
    assert_eq!(books.cart(&user(1)).await, merged);
}

/// A line that leaves because its hold ran out is told of, and no longer once it is back.
pub(crate) async fn a_cart_tells_what_left_it(mut books: Books) {
    let now = SystemClock.now().0;
    let reservation = held(1, &[2]);
    books.digest(&[Event::Held(reservation.clone())]).await;
    books.at = now;
    books.digest(&[expired(&reservation)]).await;
    let gone = books.store.cart(user(1)).await.unwrap().gone;
    assert_eq!(gone.len(), 1);
    assert_eq!((gone[0].item.as_str(), gone[0].quantity, gone[0].at.0), ("item-0", 2, now + 1));
    assert_eq!(gone[0].reservation_id, reservation.id.to_string());
    let taken = Return { version: 3, ..Return::of(&reservation) };
    books.digest(&[Event::Rebooked { taken, payment: payment() }]).await;
    assert_eq!(books.store.cart(user(1)).await.unwrap().gone, []);
    let stale = Reservation { user: user(2), ..held(2, &[1]) };
    books.at = 5_000;
    books.digest(&[Event::Held(stale.clone()), expired(&stale)]).await;
    assert_eq!(books.store.cart(user(2)).await.unwrap().gone, [], "long ago");
}

/// Carts into which users put an item are found; what reservations put in is not looked for.
pub(crate) async fn carts_are_found_by_item(mut books: Books) {
    books.digest(&[Event::Held(held(1, &[1]))]).await;
    for n in [2, 3] {
        let put = CartChange::Put { item: item(0), quantity: 1 };
        books.store.change_cart(user(n), None, put).await.unwrap().unwrap();
    }
    let mut carts = books.store.carts_with(vec![item(0)], 10).await.unwrap();
    carts.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(carts.iter().map(|(user, _)| user.clone()).collect::<Vec<_>>(), [user(2), user(3)]);
    assert_eq!(carts[1].1, books.store.cart(user(3)).await.unwrap());
    assert_eq!(books.store.carts_with(vec![item(1)], 10).await.unwrap(), []);
    assert_eq!(books.store.carts_with(vec![item(0)], 1).await.unwrap().len(), 1);
}

/// A lane is written by one holder at a time; another follows when it gives up its lease.
pub(crate) async fn a_lane_has_one_writer(mut books: Books) {
    let other = Holder(8);
    let refused = books.store.claim(LANE, other).await.unwrap();
    assert_eq!((refused.cursor, refused.ours), (books.cursor, false));
    let entries = vec![books.record(&[Event::Held(held(1, &[1]))])];
    let theirs = Batch { holder: other, ..(*batch(books.cursor, entries)).clone() };
    let theirs = Arc::new(theirs);
    let leased = books.store.digest(Arc::clone(&theirs)).await;
    assert!(matches!(leased, Err(StoreError::Leased)), "{leased:?}");
    assert!(books.store.claim(LANE, HOLDER).await.unwrap().ours, "a lease is renewed");
    books.store.release(LANE, other).await.unwrap();
    assert!(!books.store.claim(LANE, other).await.unwrap().ours, "not theirs to give back");
    books.store.release(LANE, HOLDER).await.unwrap();
    assert!(books.store.claim(LANE, other).await.unwrap().ours);
    assert_eq!(books.store.digest(theirs).await.unwrap().orders, 1);
    let late = batch(books.cursor, vec![books.record(&[Event::Held(held(2, &[1]))])]);
    assert!(matches!(books.store.digest(late).await, Err(StoreError::Fenced(_))));
    let untouched = books.store.claim(LaneId(3), HOLDER).await.unwrap();
    assert_eq!((untouched.cursor, untouched.ours), (Position::default(), true));
}

/// Books are one ledger's.
pub(crate) async fn books_are_one_ledgers(books: Books) {
    assert_eq!(books.store.bind("one".to_owned()).await.unwrap(), "one");
    assert_eq!(books.store.bind("two".to_owned()).await.unwrap(), "one");
    assert_eq!(books.store.bind("one".to_owned()).await.unwrap(), "one");
}

/// A dead letter counts once its cause is mended, and only once; one that is dropped is logged whole.
pub(crate) async fn dead_letters_are_settled(mut books: Books) {
    books.digest(&[Event::Held(held(1, &[3]))]).await;
    let (late, lost) = (held(2, &[1]), held(3, &[1]));
    let dead = books.digest(&[Event::Held(late.clone()), Event::Held(lost.clone())]).await;
    assert_eq!((dead.orders, dead.dead_letters.len()), (0, 2));
    let letters = books.store.dead_letters(None, 10).await.unwrap();
    assert_eq!(letters.len(), 2);
    let mark = |n: usize| DeadMark { lane: letters[n].0, position: letters[n].1.record.last };
    assert_eq!(books.store.dead_letters(Some(mark(0)), 10).await.unwrap(), letters[1..]);
    assert!(letters[0].1.reason.contains("4 of 3"), "{}", letters[0].1.reason);
    let actor = || "admin".into();
    let retried = books.store.retry_dead_letter(mark(0), actor()).await.unwrap();
    assert!(matches!(retried, Some(Retried::Refused(_))), "{retried:?}");
    books.digest(&[restocked(1, 3, "a")]).await;
    let retried = books.store.retry_dead_letter(mark(0), actor()).await.unwrap();
    let carts = vec![crate::carts::CartKey::of(&user(2))];
    assert_eq!(retried, Some(Retried::Digested(carts)));
    assert_eq!(books.status(&late).await, Some(OrderStatus::PendingPayment));
    assert_eq!(books.store.retry_dead_letter(mark(0), actor()).await.unwrap(), None);
    assert!(books.store.drop_dead_letter(mark(1), actor()).await.unwrap());
    assert!(!books.store.drop_dead_letter(mark(1), actor()).await.unwrap());
    assert_eq!(books.store.dead_letters(None, 10).await.unwrap(), []);
    let log = books.store.audit_log(0, 2).await.unwrap();
    assert_eq!(log[0]["action"], "drop dead letter");
    assert_eq!(log[0]["before"]["events"][0]["Held"]["user"], "user-3", "{}", log[0]);
    assert_eq!(log[1]["action"], "retry dead letter");
}

/// The whole outbox once more, under any cursor: nothing changes.
pub(crate) async fn an_outbox_is_replayed(mut books: Books) {
    let (one, two) = (held(1, &[1]), held(2, &[1, 1]));
    let paid = Event::Confirmed { id: one.id, user: user(1), version: 2, payment: payment() };
    let refunded = Return { version: 3, ..Return::of(&one) };
    let events = [
        Event::Held(one.clone()),
        paid,
        Event::Cancelled { returned: refunded, restock: false, actor: None },
        Event::Held(two.clone()),
        expired(&two),
        Event::Held(held(3, &[1])),
        restocked(2, 2, "a"),
    ];
    for event in &events {
        books.digest(std::slice::from_ref(event)).await;
    }
    let carts = |books: &Books| {
        let store = Arc::clone(&books.store);
        async move {
            let mut carts = Vec::new();
            for n in 1..=3 {
                carts.push((
                    store.cart(user(n)).await.unwrap(),
                    store.orders(user(n), None, 9).await.unwrap(),
                ));
            }
            carts
        }
    };
    let before = carts(&books).await;
    // Orders have versions; a restock is known by its number.
    let again = Record::of(books.cursor, Millis(9_000), &events[6..]);
    for _ in 0..3 {
        let digested = books.store.digest(batch(books.cursor, vec![again.clone().into()])).await;
        assert_eq!(digested.unwrap().cursor, books.cursor);
    }
    for chunk in [1, 2, 6] {
        for events in events[..6].chunks(chunk) {
            let again = books.digest(events).await;
            assert_eq!((again.orders, again.dead_letters.len(), again.carts.len()), (0, 0, 0));
        }
        assert_eq!(carts(&books).await, before);
    }
    // Of three one was withdrawn with its refund, and two came once: one of four is held.
    assert_eq!(books.digest(&[Event::Held(held(5, &[3]))]).await.dead_letters.len(), 0);
    assert_eq!(books.digest(&[Event::Held(held(6, &[1]))]).await.dead_letters.len(), 1);
}

/// What the database itself refuses is refused as a whole, and put aside alone when it is taken event by
/// event. `refuse` makes it refuse every order of `user-2`.
pub(crate) async fn a_database_that_refuses(store: Arc<dyn Store>, refuse: impl AsyncFnOnce()) {
    let mut books = Books::open(store).await;
    refuse().await;
    let events: Vec<_> = (0..4).map(|n| Event::Held(held(n, &[1]))).collect();
    let entries = vec![books.record(&events[..3])];
    let whole = batch(books.cursor, entries.clone());
    let refused = books.store.digest(Arc::clone(&whole)).await;
    assert!(matches!(refused, Err(StoreError::Rejected(_))), "{refused:?}");
    assert_eq!(books.store.cursor(LANE).await.unwrap(), books.cursor, "nothing was done");
    let careful = Batch { care: Care::EventByEvent, ..(*whole).clone() };
    let digested = books.store.digest(Arc::new(careful)).await.unwrap();
    books.cursor = digested.cursor;
    assert_eq!(digested.orders, 2);
    assert_eq!(digested.dead_letters, [books.cursor.seq], "the third of three");
    let mark = DeadMark { lane: LANE, position: books.cursor };
    let retried = books.store.retry_dead_letter(mark, "admin".into()).await.unwrap();
    assert!(matches!(retried, Some(Retried::Refused(_))), "{retried:?}");
    assert_eq!(books.digest(&events[3..4]).await.orders, 1, "the lane goes on");
}

/// Orders of a sale that is over are shown as before, their carts too, and come back when they move.
pub(crate) async fn orders_are_archived(mut books: Books) {
    let (paid, gone, waits) = (held(1, &[1]), held(2, &[1]), held(3, &[1]));
    let confirmed = |n, reservation: &Reservation| Event::Confirmed {
        id: reservation.id,
        user: user(n),
        version: 2,
        payment: payment(),
    };
    let held = [&paid, &gone, &waits].map(|reservation| Event::Held(reservation.clone()));
    books.digest(&held).await;
    books.digest(&[confirmed(1, &paid), expired(&gone)]).await;
    let picture = async |books: &Books| {
        let mut seen = Vec::new();
        for n in 1..=3 {
            let orders = books.store.orders(user(n), None, 9).await.unwrap();
            seen.push((books.store.cart(user(n)).await.unwrap().version, orders));
        }
        seen
    };
    let before = picture(&books).await;
    let sale = || SaleId::parse("sale").unwrap();
    let archive = |max| books.store.archive_orders(sale(), max, "admin".into());
    assert_eq!((archive(1).await.unwrap(), archive(9).await.unwrap()), (1, 1));
    assert_eq!(archive(9).await.unwrap(), 0, "one waits for its payment");
    assert_eq!(picture(&books).await, before);
    assert_eq!(books.status(&gone).await, Some(OrderStatus::Expired));
    // It all comes again, and changes nothing; then two of them move.
    for events in [&held[..], &[confirmed(1, &paid)]] {
        let again = books.digest(events).await;
        assert_eq!((again.orders, again.dead_letters.len()), (0, 0));
    }
    let taken = Return { version: 3, ..Return::of(&gone) };
    let refunded = Return { version: 3, ..Return::of(&paid) };
    let events = [
        Event::Rebooked { taken, payment: payment() },
        Event::Cancelled { returned: refunded, restock: true, actor: None },
    ];
    assert_eq!(books.digest(&events).await.dead_letters.len(), 0);
    assert_eq!(books.status(&gone).await, Some(OrderStatus::Paid));
    assert_eq!(books.status(&paid).await, Some(OrderStatus::Cancelled));
    for (n, (version, orders)) in (1..).zip(before) {
        let now = books.store.cart(user(n)).await.unwrap().version;
        assert!(now > version || n == 3, "a cart's version only rises");
        assert_eq!(books.store.orders(user(n), None, 9).await.unwrap().len(), orders.len());
    }
}

/// A log of three links in lane 0, and of one about the books themselves. Always the same, but for the instant
/// of the last.
pub(crate) async fn a_log(mut books: Books) -> Books {
    books.digest(&[Event::Held(held(1, &[3])), restocked(2, 3, "a")]).await;
    let dead = books.digest(&[Event::Held(held(2, &[3]))]).await;
    assert_eq!(dead.dead_letters.len(), 1);
    let mark = DeadMark { lane: LANE, position: books.cursor };
    assert!(books.store.drop_dead_letter(mark, "ops".into()).await.unwrap());
    books.digest(&[restocked(-1, 5, "b")]).await;
    books
}

/// One more entry behind [`a_log`], whatever has become of that.
pub(crate) async fn log_once_more(mut books: Books) {
    books.digest(&[restocked(1, 4, "z")]).await;
}

/// The log is one chain a lane, in the order in which its entries were written, and the same whatever the store.
pub(crate) async fn the_log_is_chained(books: Books) {
    let mut books = a_log(books).await;
    let log = books.store.audit_log(0, 10).await.unwrap();
    let of = |lane: i64| {
        let mut links: Vec<_> = log.iter().filter(|entry| entry["lane"] == lane).collect();
        links.sort_by_key(|entry| entry["link"].as_i64());
        links
    };
    let (lane, own) = (of(0), of(-1));
    assert_eq!((lane.len(), own.len()), (3, 1), "{log:#?}");
    for chain in [&lane, &own] {
        let mut before = Hash::default().to_string();
        for (number, entry) in (1..).zip(chain) {
            assert_eq!(
                (entry["link"].as_i64(), &entry["previous_hash"]),
                (Some(number), &before.into())
            );
            before = entry["hash"].as_str().unwrap().to_owned();
        }
    }
    assert_eq!(lane[2]["hash"], HASH_OF_THE_LOG, "every store makes this chain");
    let before = own[0]["before"].to_string();
    let entry = Entry {
        lane: -1,
        seq: 1,
        at: as_sql(Millis::parse_rfc3339(own[0]["at"].as_str().unwrap()).unwrap().0),
        actor: "ops",
        action: "drop dead letter",
        sale: "",
        subject: own[0]["subject"].as_str(),
        before: Some(&before),
        after: None,
        reason: None,
    };
    assert_eq!(own[0]["hash"], entry.hash(1, Hash::default()).to_string());
    // What was changed about a gateway is the next link of the chain that is nobody's lane.
    let note = Note {
        actor: "ops".into(),
        action: "switch",
        subject: "read-only".to_owned(),
        before: json!({ "on": false }),
        after: json!({ "on": true }),
        reason: Some("a test".to_owned()),
    };
    books.store.note(note).await.unwrap();
    let noted = &books.store.audit_log(0, 1).await.unwrap()[0];
    assert_eq!((&noted["lane"], &noted["link"]), (&json!(-1), &json!(2)));
    assert_eq!(noted["previous_hash"], own[0]["hash"]);
    let told = (&noted["actor"], &noted["action"], &noted["subject"], &noted["reason"]);
    assert_eq!(told, (&json!("ops"), &json!("switch"), &json!("read-only"), &json!("a test")));
    let was = (&noted["before"]["on"], &noted["after"]["on"]);
    assert_eq!(was, (&json!(false), &json!(true)));
    // What comes again is logged once.
    let again = Record::of(books.cursor, Millis(9_000), &[restocked(-1, 5, "b")]);
    let digested = books.store.digest(batch(books.cursor, vec![again.into()])).await.unwrap();
    assert_eq!(digested.logged, None);
    // A letter that is settled late is the next link, though its event was an earlier one.
    let late = books.digest(&[restocked(-9, 4, "c")]).await;
    assert_eq!((late.dead_letters.len(), late.logged), (1, None));
    let mark = DeadMark { lane: LANE, position: books.cursor };
    let tip = books.digest(&[restocked(9, 4, "d")]).await.logged.unwrap();
    assert_eq!(tip.link, 4);
    let retried = books.store.retry_dead_letter(mark, "ops".into()).await.unwrap();
    assert_eq!(retried, Some(Retried::Digested(Vec::new())));
    let log = books.store.audit_log(0, 10).await.unwrap();
    let late = log.iter().find(|entry| entry["seq"] == mark.position.seq && entry["lane"] == 0);
    let late = late.unwrap();
    assert_eq!((&late["link"], &late["previous_hash"]), (&5.into(), &tip.hash.to_string().into()));
}

/// What [`a_log`] ends with in lane 0.
const HASH_OF_THE_LOG: &str = "b2249bf726ae2274179af0aba95ab6b69bb03438eb06183998446c1c11623a54";

/// Event by event what the rules let through counts, as it does in a whole batch.
pub(crate) async fn events_one_by_one(mut books: Books) {
    let (good, bad) = (held(1, &[3]), held(2, &[1]));
    let events = [Event::Held(good.clone()), Event::Held(bad.clone()), expired(&good)];
    let entries = vec![books.record(&events)];
    let batch = Batch { care: Care::EventByEvent, ..(*batch(books.cursor, entries)).clone() };
    let digested = books.store.digest(Arc::new(batch)).await.unwrap();
    assert_eq!((digested.orders, digested.dead_letters.len()), (1, 1));
    assert_eq!(books.status(&good).await, Some(OrderStatus::Expired));
    assert_eq!(books.status(&bad).await, None);
}

/// Many who change one cart at once: each change counts, whatever the order.
pub(crate) async fn carts_are_changed_at_once(books: Books) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = Arc::clone(&books.store);
        tasks.spawn(async move {
            let change = || CartChange::Add { item: item(n % 2), quantity: 1 };
            for _ in 0..10 {
                store.change_cart(user(1), None, change()).await.unwrap().unwrap();
            }
            // With the version: tried until it is the one that was seen.
            loop {
                let seen = store.cart(user(1)).await.unwrap().version;
                match store.change_cart(user(1), Some(seen), change()).await.unwrap() {
                    Ok(_) => return,
                    Err(CartRefusal::VersionMismatch { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        });
    }
    tasks.join_all().await;
    let cart = books.store.cart(user(1)).await.unwrap();
    assert_eq!(cart.version, 88, "each raised it once");
    assert_eq!(cart.lines.iter().map(|line| line.quantity).collect::<Vec<_>>(), [44, 44]);
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
