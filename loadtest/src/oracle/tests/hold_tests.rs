//! Planted faults of time and money.

use std::time::Duration;

use super::{World, breaks, sql};
use crate::history::{Op, Seen};

/// Proves that a check is content where what was planted is no fault.
fn holds(name: &str, plant: impl FnOnce(&mut World)) {
    let mut world = World::new();
    plant(&mut world);
    let verdict = world.judge();
    assert!(verdict.check(name).unwrap().ok, "{verdict}");
}

fn expired() -> Seen {
    Seen::No("reservation-expired".into())
}

/// Proves that a hold which ended a millisecond early in the books is seen, and so is a payment or a
/// cancellation at its deadline that took it for held; one that took units anew is none.
#[test]
fn sees_an_end_out_of_time() {
    let name = "holds last";
    breaks(name, sql("UPDATE orders SET updated_at = expires_at - 1 WHERE order_id = 'r4'"));
    breaks(name, sql("UPDATE orders SET updated_at = expires_at WHERE order_id = 'r2'"));
    breaks(name, sql("UPDATE orders SET updated_at = expires_at WHERE order_id = 'r3'"));
    let anew = "UPDATE orders SET updated_at = expires_at, version = 3 WHERE order_id = 'r2'";
    holds(name, sql(anew));
}

/// Proves that an owner who is told "expired" before the time is up is seen, and that neither a ledger whose
/// clock was set nor another clock of the history is taken for it.
#[test]
fn sees_a_hold_that_was_told_to_be_over_early() {
    let name = "holds last";
    let told = |world: &mut World, after_us: u64| {
        world.ends("u4", "r4", Op::Confirm, expired());
        let began = world.entry("r4", Op::Reserve).start_us;
        let last = world.history.last_mut().unwrap();
        (last.start_us, last.end_us) = (began + after_us - 1, began + after_us);
    };
    breaks(name, |world| told(world, 800_000));
    holds(name, |world| told(world, 1_000_000));
    holds(name, |world| {
        told(world, 800_000);
        world.scope.clock_off = Duration::from_millis(200);
    });
    holds(name, |world| {
        told(world, 800_000);
        world.history.last_mut().unwrap().clock = 1;
    });
    // The key was first asked for long before it was granted, and nobody knows which was the one.
    holds(name, |world| {
        world.reserves("u4", "k4", Seen::Unknown("deadline".into()));
        let began = world.entry("r4", Op::Reserve).start_us;
        world.history.last_mut().unwrap().start_us = began - 500_000;
        told(world, 800_000);
    });
}

/// Proves that a hold which is pending long after its time is seen, and that one which has just run out
/// is not.
#[test]
fn sees_an_overdue_hold() {
    breaks("holds end", |world| world.read_at_ms = 1_999 + 3_001);
    holds("holds end", |world| world.read_at_ms = 1_999 + 3_000);
}

const NOTED: &str =
    "INSERT INTO refunds_needed VALUES ('r4', 'pay-r4', 'flash', 'u4', 5, 'EUR', 1);";

/// Proves that a payment which was told to be too late, and is not noted or twice, is seen.
#[test]
fn sees_a_late_payment_that_stays() {
    let name = "late payments go back";
    let late = |world: &mut World| world.ends("u4", "r4", Op::Confirm, expired());
    breaks(name, late);
    holds(name, |world| {
        late(world);
        world.sql(NOTED);
    });
    breaks(name, |world| {
        late(world);
        world.sql(
            "DROP TABLE refunds_needed;
             CREATE TABLE refunds_needed (order_id, payment_ref, sale_id, user_id, amount, currency, at)",
        );
        world.sql(NOTED);
        world.sql(NOTED);
    });
    for code in ["reservation-confirmed", "reservation-cancelled"] {
        breaks(name, |world| world.ends("u4", "r4", Op::Confirm, Seen::No(code.into())));
    }
    // What is refused without having been decided is asked again.
    holds(name, |world| world.ends("u4", "r4", Op::Confirm, Seen::No("overloaded".into())));
}

/// Proves that of a reservation's payments only so many need be noted, and that what had paid for an order
/// that was cancelled afterwards need not be noted again.
#[test]
fn excuses_what_the_contract_excuses() {
    let name = "late payments go back";
    holds(name, |world| {
        for number in 1..=9 {
            world.ends("u4", "r4", Op::Confirm, expired());
            let payment = format!("p{number}");
            world.history.last_mut().unwrap().payment_ref = Some(payment.as_str().into());
            if number <= 8 {
                world.sql(&NOTED.replace("pay-r4", &payment));
            }
        }
    });
    holds(name, |world| {
        world.sql("UPDATE orders SET payment_ref = 'pay-r3' WHERE order_id = 'r3'");
        world.ends("u3", "r3", Op::Confirm, Seen::No("reservation-cancelled".into()));
    });
}

/// Proves that an accepted payment which is noted is seen, and so is a note that nobody paid for, of another
/// sum, or for somebody else.
#[test]
fn sees_a_refund_that_is_not_due() {
    let name = "late payments go back";
    breaks(name, |world| world.sql(&NOTED.replace('4', "2")));
    breaks(name, sql(NOTED));
    for (right, wrong) in [("5, 'EUR'", "6, 'EUR'"), ("'u4'", "'u1'")] {
        breaks(name, |world| {
            world.ends("u4", "r4", Op::Confirm, expired());
            world.sql(&NOTED.replace(right, wrong));
        });
    }
    holds(name, |world| {
        world.ends("u4", "r4", Op::Confirm, Seen::Unknown("deadline".into()));
        world.sql(NOTED);
    });
}
