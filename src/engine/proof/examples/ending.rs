//! What becomes of a unit that somebody has.

use super::{Shop, paid, refused, taken};
use crate::clock::Millis;
use crate::engine::proof::world::{START, item_id, plain, reservation_id, sale_id, user};
use crate::engine::{Command, OrderedLine, Reserve, State, apply};
use crate::limits;
use crate::sale::{Outcome, Refusal, Status};

/// A payment one millisecond before the deadline is in time; at the deadline it is late, swept or not.
#[test]
fn confirm_around_the_deadline() {
    let mut shop = Shop::new(plain(0, &[1]));
    taken(shop.reserve(0, 1, 0, &[(0, 1)]));
    assert_eq!(shop.sweep(999), 0);
    assert!(!paid(shop.confirm(999, 1, 1)), "in time");
    let mut shop = Shop::new(plain(0, &[1]));
    taken(shop.reserve(0, 1, 0, &[(0, 1)]));
    assert!(paid(shop.confirm(1_000, 1, 1)), "late, and taken anew");
    assert_eq!(shop.counters(0).expired_total, 1);
    assert_eq!(shop.sweep(1_000), 0);
}

/// A hold that ran out cannot be cancelled, one that was cancelled cannot run out; its unit returns
/// once.
#[test]
fn cancel_races_expire() {
    let mut shop = Shop::new(plain(0, &[1]));
    taken(shop.reserve(0, 1, 0, &[(0, 1)]));
    assert!(matches!(shop.cancel(999, 1, 0), Outcome::Cancelled(_)));
    assert_eq!(shop.sweep(1_000), 0);
    taken(shop.reserve(1_000, 2, 0, &[(0, 1)]));
    assert_eq!(refused(shop.cancel(2_000, 2, 0)), Refusal::ReservationExpired);
    assert_eq!(shop.sweep(2_000), 0, "the refused cancellation returned it");
    assert_eq!(refused(shop.cancel(2_000, 2, 0)), Refusal::ReservationExpired);
    let there = shop.counters(0);
    assert_eq!((there.available, there.cancelled_total, there.expired_total), (1, 1, 1));
}

/// A stranger finds and cancels nothing, and does not even make a hold run out.
#[test]
fn strangers_change_nothing() {
    let mut shop = Shop::new(plain(0, &[1]));
    taken(shop.reserve(0, 1, 0, &[(0, 1)]));
    assert_eq!(refused(shop.cancel(1_000, 1, 1)), Refusal::UnknownReservation);
    let owner = Some(user(1));
    let found = shop.ask(1_000, Command::Find { id: reservation_id(1), owner });
    assert_eq!(refused(found), Refusal::UnknownReservation);
    assert_eq!(shop.counters(0).held, 1);
}

/// A late payment takes the units anew while there are any; otherwise the refund is noted, once per
/// payment, and stays so when units come back.
#[test]
fn a_late_payment() {
    let mut shop = Shop::new(plain(0, &[1]));
    taken(shop.reserve(0, 1, 0, &[(0, 1)]));
    assert_eq!(shop.sweep(1_000), 1);
    taken(shop.reserve(1_000, 2, 1, &[(0, 1)]));
    for _ in 0..3 {
        assert_eq!(refused(shop.confirm(1_001, 1, 1)), Refusal::ReservationExpired);
    }
    assert_eq!(shop.refunds(), 1);
    shop.cancel(1_002, 2, 1);
    assert_eq!(refused(shop.confirm(1_003, 1, 1)), Refusal::ReservationExpired, "was refunded");
    assert!(paid(shop.confirm(1_003, 1, 2)), "another payment, and a unit");
    assert!(paid(shop.confirm(1_003, 1, 2)), "and again");
    assert_eq!(refused(shop.confirm(1_003, 1, 1)), Refusal::ReservationConfirmed);
    assert_eq!((shop.available(0), shop.refunds()), (0, 1));
}

/// A limit that was used up meanwhile stands against a late payment too.
#[test]
fn a_late_payment_beyond_the_limit() {
    let mut sale = plain(0, &[5]);
    sale.per_user_limit = Some(1);
    let mut shop = Shop::new(sale);
    taken(shop.reserve(0, 1, 0, &[(0, 1)]));
    assert_eq!(shop.sweep(1_000), 1);
    taken(shop.reserve(1_000, 2, 0, &[(0, 1)]));
    assert_eq!(refused(shop.confirm(1_001, 1, 1)), Refusal::ReservationExpired);
    assert_eq!((shop.available(0), shop.refunds()), (4, 1));
}

/// So many late payments are remembered; who comes after is refused, whether or not there is a unit,
/// for what is not remembered must not be told two things.
#[test]
fn more_late_payments_than_are_remembered() {
    let mut shop = Shop::new(plain(0, &[1]));
    taken(shop.reserve(0, 1, 0, &[(0, 1)]));
    assert_eq!(shop.sweep(1_000), 1);
    taken(shop.reserve(1_000, 2, 1, &[(0, 1)]));
    for payment in 0..=limits::LATE_PAYMENTS_MAX {
        assert_eq!(refused(shop.confirm(1_001, 1, payment)), Refusal::ReservationExpired);
    }
    shop.cancel(1_002, 2, 1);
    let last = limits::LATE_PAYMENTS_MAX;
    assert_eq!(refused(shop.confirm(1_003, 1, last)), Refusal::ReservationExpired);
    assert_eq!((shop.available(0), shop.refunds()), (1, limits::LATE_PAYMENTS_MAX));
}

/// A paid reservation is the operator's to cancel: the unit is for sale again, or leaves the stock.
#[test]
fn a_refund_returns_or_withdraws() {
    let mut shop = Shop::new(plain(0, &[2]));
    for id in [1, 2] {
        taken(shop.reserve(0, id, id, &[(0, 1)]));
        shop.confirm(1, id, id);
        assert_eq!(refused(shop.cancel(2, id, id)), Refusal::ReservationConfirmed);
    }
    shop.refund(3, 1, true);
    shop.refund(3, 2, false);
    let there = shop.counters(0);
    assert_eq!((there.stock, there.available, there.cancelled_total), (1, 1, 2));
    assert_eq!(refused(shop.confirm(4, 1, 1)), Refusal::ReservationCancelled);
    assert_eq!(shop.refunds(), 0, "the cancellation was the refund");
    assert_eq!(refused(shop.confirm(4, 1, 9)), Refusal::ReservationCancelled);
    assert_eq!(shop.refunds(), 1, "another payment has to go back");
}

/// Units are taken out of what is for sale, never of what somebody has; and never beyond the bound.
#[test]
fn restocks_stay_in_bounds() {
    let mut shop = Shop::new(plain(0, &[3]));
    taken(shop.reserve(0, 1, 0, &[(0, 2)]));
    let refusal = Refusal::StockTaken { available: 1 };
    assert_eq!(refused(shop.restock(1, 1, -2)), refusal);
    assert_eq!(refused(shop.restock(1, 2, i64::MIN)), refusal);
    assert_eq!(refused(shop.restock(1, 3, i64::MAX)), refusal);
    assert_eq!(refused(shop.restock(1, 4, limits::STOCK_MAX as i64 - 2)), refusal);
    shop.restock(1, 5, -1);
    assert_eq!((shop.counters(0).stock, shop.available(0)), (2, 0));
    shop.restock(1, 6, limits::STOCK_MAX as i64 - 2);
    assert_eq!(shop.counters(0).stock, limits::STOCK_MAX);
}

/// Units are added once per key, however often it is asked; the key of another change is refused.
#[test]
fn restocks_count_once() {
    let mut shop = Shop::new(plain(0, &[3]));
    for _ in 0..3 {
        shop.restock(1, 7, 5);
        assert_eq!(shop.counters(0).stock, 8);
    }
    assert_eq!(refused(shop.restock(1, 7, 6)), Refusal::KeyReused);
    shop.restock(1, 8, 5);
    assert_eq!(shop.counters(0).stock, 13);
}

/// More holds than one sweep takes run out in several, each saying whether there is more; those that
/// ended otherwise in between are passed over.
#[test]
fn sweeps_are_bounded() {
    let (mut state, mut events) = (State::new(1), Vec::new());
    let mut ask =
        |ms: u64, command: Command| apply(&mut state, Millis(START + ms), &command, &mut events);
    let count = 2 * limits::SWEEP_MAX + 100;
    for n in [0, 1] {
        let mut sale = plain(n, &[10_000]);
        sale.hold_seconds = 1 + n as u32;
        ask(0, Command::CreateSale { definition: sale.into(), actor: "operator".into() });
    }
    for id in 0..count {
        let lines = Box::new([OrderedLine { item: item_id(0), quantity: 1 }]);
        let (sale, user) = (sale_id(id % 2), user(id % 7));
        taken(ask(0, Command::Reserve(Reserve { id: reservation_id(id), sale, user, lines })));
    }
    for id in (0..count).step_by(3) {
        let payment = crate::engine::proof::world::payment(id);
        paid(ask(999, Command::Confirm { id: reservation_id(id), payment }));
    }
    let mut left = count - count.div_ceil(3);
    while left > 0 {
        let expired = left.min(limits::SWEEP_MAX);
        left -= expired;
        assert_eq!(ask(2_000, Command::Sweep), Outcome::Swept { expired, more: left > 0 });
    }
    assert_eq!(ask(2_000, Command::Sweep), Outcome::Swept { expired: 0, more: false });
    assert!(state.reservations().all(|reservation| reservation.status != Status::Held));
    assert_eq!(state.next_deadline(), None);
}

/// Without limits, a user's units of many items pass the bound of the type that limits have.
#[test]
fn one_user_has_everything() {
    let (mut state, mut events) = (State::new(1), Vec::new());
    let stocks = [limits::STOCK_MAX; 5];
    let create = Command::CreateSale { definition: plain(0, &stocks).into(), actor: "o".into() };
    apply(&mut state, Millis(START), &create, &mut events);
    let each = limits::STOCK_MAX / u64::from(limits::QUANTITY_MAX);
    for (id, item) in (0..each as usize * stocks.len()).map(|id| (id, id % stocks.len())) {
        let lines = Box::new([OrderedLine { item: item_id(item), quantity: limits::QUANTITY_MAX }]);
        let (id, sale, user) = (reservation_id(id), sale_id(0), user(0));
        let asked = Command::Reserve(Reserve { id, sale, user, lines });
        taken(apply(&mut state, Millis(START), &asked, &mut events));
    }
    assert!(state.sale(&sale_id(0)).unwrap().counters().iter().all(|there| there.available == 0));
    let mut swept = 0;
    while let Outcome::Swept { expired: expired @ 1.., .. } =
        apply(&mut state, Millis(START + 1_000), &Command::Sweep, &mut events)
    {
        swept += expired;
    }
    assert_eq!(swept, each as usize * stocks.len());
    assert_eq!(state.sale(&sale_id(0)).unwrap().taken(&user(0)), 0);
}
