//! Carts, and what orders put in and take out of them.

use std::sync::Arc;

use super::{Books, expired, held, item, payment, user};
use crate::carts::{CartChange, CartRefusal};
use crate::clock::{Clock, SystemClock};
use crate::engine::{Event, Return};
use crate::sale::{ItemId, Reservation, UserId};

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
