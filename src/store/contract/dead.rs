//! What contradicts the books is put aside, and settled later.

use std::sync::Arc;

use super::super::{Batch, Care, DeadMark, Retried, Store, StoreError};
use super::{Books, LANE, batch, expired, held, restocked, user};
use crate::clock::Millis;
use crate::engine::{Event, Position};
use crate::orders::OrderStatus;
use crate::outbox::Record;
use crate::sale::Reservation;

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
