//! What comes again, late or from another.

use std::sync::Arc;

use super::super::{Batch, Digested, Holder, StoreError};
use super::{Books, HOLDER, LANE, batch, expired, held, payment, restocked, user};
use crate::clock::Millis;
use crate::engine::{Event, Position, Return};
use crate::orders::OrderStatus;
use crate::outbox::Record;
use crate::sale::LaneId;

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

fn no_change() -> Digested {
    Digested::default()
}
