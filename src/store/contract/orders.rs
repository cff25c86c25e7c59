//! Orders, units and stock follow what was decided.

use super::{Books, expired, held, payment, restocked, user};
use crate::clock::Millis;
use crate::engine::{Event, Return};
use crate::orders::{OrderMark, OrderStatus};
use crate::sale::{Reservation, SaleId};

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
