//! Who gets a unit, and who does not.

use super::{Shop, refused, taken};
use crate::clock::Millis;
use crate::engine::proof::world::{START, plain};
use crate::sale::{Move, Outcome, Refusal, SaleState};

/// The last unit sells, and sells once; then it is sold out, and a hold gives hope.
#[test]
fn the_last_unit_sells_once() {
    let mut shop = Shop::new(plain(0, &[2]));
    taken(shop.reserve(0, 1, 0, &[(0, 1)]));
    taken(shop.reserve(0, 2, 1, &[(0, 1)]));
    assert_eq!(refused(shop.reserve(0, 3, 2, &[(0, 1)])), Refusal::SoldOut { held: true });
    shop.confirm(1, 1, 1);
    shop.confirm(1, 2, 2);
    assert_eq!(refused(shop.reserve(1, 3, 2, &[(0, 1)])), Refusal::SoldOut { held: false });
    assert_eq!(shop.available(0), 0);
}

/// Two units are not sold where one is left, and the one still is.
#[test]
fn many_at_the_edge() {
    let mut shop = Shop::new(plain(0, &[5]));
    taken(shop.reserve(0, 1, 0, &[(0, 3)]));
    assert_eq!(refused(shop.reserve(0, 2, 1, &[(0, 3)])), Refusal::SoldOut { held: true });
    taken(shop.reserve(0, 3, 1, &[(0, 2)]));
    assert_eq!(shop.available(0), 0);
}

/// A refusal is not remembered: the same id succeeds once a unit has come back.
#[test]
fn a_refused_request_may_come_again() {
    let mut shop = Shop::new(plain(0, &[1]));
    taken(shop.reserve(0, 1, 0, &[(0, 1)]));
    assert_eq!(refused(shop.reserve(0, 2, 1, &[(0, 1)])), Refusal::SoldOut { held: true });
    shop.cancel(1, 1, 0);
    taken(shop.reserve(1, 2, 1, &[(0, 1)]));
}

/// Who has theirs is told so, whether or not there is stock, and eats none of it.
#[test]
fn a_repeat_buyer_cannot_eat_stock() {
    let mut sale = plain(0, &[3]);
    sale.per_user_limit = Some(1);
    let mut shop = Shop::new(sale);
    taken(shop.reserve(0, 1, 0, &[(0, 1)]));
    for id in 10..20 {
        let again = refused(shop.reserve(0, id, 0, &[(0, 1)]));
        assert_eq!(again, Refusal::LimitReached { limit: 1, taken: 1 });
    }
    assert_eq!(shop.available(0), 2);
    taken(shop.reserve(0, 2, 1, &[(0, 1)]));
    taken(shop.reserve(0, 3, 2, &[(0, 1)]));
    let again = refused(shop.reserve(0, 20, 0, &[(0, 1)]));
    assert_eq!(again, Refusal::LimitReached { limit: 1, taken: 1 }, "before sold out");
}

/// Limits count units, of each item and of all together, and come back with the units.
#[test]
fn limits_of_item_and_sale() {
    let mut sale = plain(0, &[9, 9]);
    sale.per_user_limit = Some(3);
    sale.items[0].per_user_limit = Some(2);
    let mut shop = Shop::new(sale);
    let much = refused(shop.reserve(0, 1, 0, &[(0, 3)]));
    assert_eq!(much, Refusal::InvalidQuantity { max: 2 });
    let much = refused(shop.reserve(0, 1, 0, &[(0, 2), (1, 2)]));
    assert_eq!(much, Refusal::InvalidQuantity { max: 3 });
    taken(shop.reserve(0, 1, 0, &[(0, 2)]));
    let of_item = refused(shop.reserve(0, 2, 0, &[(0, 1)]));
    assert_eq!(of_item, Refusal::LimitReached { limit: 2, taken: 2 });
    let of_sale = refused(shop.reserve(0, 2, 0, &[(1, 2)]));
    assert_eq!(of_sale, Refusal::LimitReached { limit: 3, taken: 2 });
    taken(shop.reserve(0, 2, 0, &[(1, 1)]));
    shop.cancel(1, 1, 0);
    taken(shop.reserve(1, 3, 0, &[(0, 2)]));
}

/// Two items are sold together or not at all; and each alone, and given back in any order.
#[test]
fn two_items_all_or_nothing() {
    let mut shop = Shop::new(plain(0, &[5, 1]));
    let short = refused(shop.reserve(0, 1, 0, &[(0, 2), (1, 2)]));
    assert_eq!(short, Refusal::SoldOut { held: false });
    assert_eq!((shop.available(0), shop.available(1)), (5, 1));
    taken(shop.reserve(0, 1, 0, &[(0, 2), (1, 1)]));
    assert_eq!((shop.available(0), shop.available(1)), (3, 0));
    // A user's account of two items, emptied one by one: this once took the lane down.
    taken(shop.reserve(0, 2, 0, &[(0, 1)]));
    shop.cancel(1, 1, 0);
    shop.cancel(1, 2, 0);
    assert_eq!((shop.available(0), shop.available(1)), (5, 1));
}

/// What is malformed is said in the order of the refusals: the item before the amount.
#[test]
fn an_unknown_item_comes_before_an_amount() {
    let mut shop = Shop::new(plain(0, &[5]));
    let unknown = refused(shop.reserve(0, 1, 0, &[(0, 0), (7, 1)]));
    assert!(matches!(unknown, Refusal::UnknownItem(_)));
    for lines in [&[(0, 0)][..], &[(0, 1), (0, 1)], &[], &[(0, 1_000_001)], &[(0, u32::MAX)]] {
        let refusal = refused(shop.reserve(0, 1, 0, lines));
        assert_eq!(refusal, Refusal::InvalidQuantity { max: 1_000_000 }, "{lines:?}");
    }
}

/// The answer to a retry is the same after the sale sold out, was paused, closed; whatever became of
/// the reservation. Another body under the same id is refused, also then.
#[test]
fn a_replay_is_answered_whatever_happened() {
    let mut shop = Shop::new(plain(0, &[1]));
    let first = taken(shop.reserve(0, 1, 0, &[(0, 1)]));
    let replay = |shop: &mut Shop, ms| match shop.reserve(ms, 1, 0, &[(0, 1)]) {
        Outcome::Reserved { reservation, replayed: true } => reservation,
        other => panic!("not replayed: {other:?}"),
    };
    assert_eq!(replay(&mut shop, 1), first);
    shop.step(2, Move::Pause);
    assert_eq!(replay(&mut shop, 2), first);
    shop.step(3, Move::Close);
    assert_eq!(replay(&mut shop, 3), first);
    assert_eq!(shop.sweep(1_000), 1);
    assert_eq!(replay(&mut shop, 1_000).id, first.id);
    for (who, lines) in [(1, &[(0, 1)][..]), (0, &[(0, 2)]), (0, &[]), (0, &[(7, 1)])] {
        assert_eq!(refused(shop.reserve(1_000, 1, who, lines)), Refusal::KeyReused);
    }
}

/// The window is half open, at its ends and around a pause, by the latest time that was seen.
#[test]
fn the_window_is_half_open() {
    let mut sale = plain(0, &[9]);
    sale.opens_at = Some(Millis(START + 100));
    sale.closes_at = Some(Millis(START + 200));
    let mut shop = Shop::new(sale);
    let opens_at = Some(Millis(START + 100));
    assert_eq!(refused(shop.reserve(99, 1, 0, &[(0, 1)])), Refusal::SaleNotOpen { opens_at });
    taken(shop.reserve(100, 1, 0, &[(0, 1)]));
    taken(shop.reserve(99, 2, 0, &[(0, 1)])); // The clock stepped back; the sale did not.
    shop.step(150, Move::Pause);
    assert_eq!(refused(shop.reserve(150, 3, 0, &[(0, 1)])), Refusal::SalePaused);
    shop.step(160, Move::Resume);
    taken(shop.reserve(160, 3, 0, &[(0, 1)]));
    taken(shop.reserve(199, 4, 0, &[(0, 1)]));
    assert_eq!(refused(shop.reserve(200, 5, 0, &[(0, 1)])), Refusal::SaleClosed);
    assert_eq!(refused(shop.reserve(199, 5, 0, &[(0, 1)])), Refusal::SaleClosed);
    let state = SaleState::Closed;
    assert_eq!(refused(shop.step(200, Move::Open)), Refusal::MoveRefused { state });
}

/// A sale opened by hand sells from that instant, and still closes by itself; one without a time
/// waits for the hand.
#[test]
fn opened_by_hand() {
    let mut sale = plain(0, &[9]);
    sale.opens_at = Some(Millis(START + 100));
    sale.closes_at = Some(Millis(START + 200));
    let mut shop = Shop::new(sale.clone());
    shop.step(50, Move::Open);
    taken(shop.reserve(50, 1, 0, &[(0, 1)]));
    assert_eq!(refused(shop.reserve(200, 2, 0, &[(0, 1)])), Refusal::SaleClosed);
    sale.opens_at = None;
    let mut shop = Shop::new(sale);
    let opens_at = None;
    assert_eq!(refused(shop.reserve(50, 1, 0, &[(0, 1)])), Refusal::SaleNotOpen { opens_at });
    shop.step(60, Move::Open);
    taken(shop.reserve(60, 1, 0, &[(0, 1)]));
}
