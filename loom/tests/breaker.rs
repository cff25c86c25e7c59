//! The circuit breaker: the real one, and twins that look and set in two steps.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a model that cannot go on fails by panicking"
)]

use std::sync::Arc;

use floodgate_loom::admission::{Breaker, Condition, Verdict};
use floodgate_loom::clock::Millis;
use floodgate_loom::explore::every_order;
use floodgate_loom::limits;
use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use loom::thread;

const START: Millis = Millis(1_795_225_445_067);

fn later(ms: u64) -> Millis {
    Millis(START.0 + ms)
}

/// The instant at which whoever has failed since [`START`] has failed for long enough.
fn long_after() -> Millis {
    later(limits::BREAKER_FAILING_MS)
}

/// Failed as often as it may without opening.
fn almost_open() -> Breaker {
    let breaker = Breaker::default();
    for _ in 0..limits::BREAKER_FAILURES - 1 {
        breaker.admit(START).unwrap().settle(Verdict::Failed, START);
    }
    breaker
}

/// Open, with its pause over at the instant that is given.
fn open() -> (Breaker, Millis) {
    let breaker = almost_open();
    breaker.admit(START).unwrap().settle(Verdict::Failed, long_after());
    assert_eq!(breaker.condition(), Condition::Open);
    (breaker, later(limits::BREAKER_FAILING_MS + limits::BREAKER_PAUSE_MS))
}

/// Two callers at once, each of whom has the probe at most for a moment.
fn probes(admit: impl Fn(&AtomicUsize) + Send + Sync + 'static) {
    let admit = Arc::new(admit);
    let inside = Arc::new(AtomicUsize::new(0));
    let other = thread::spawn({
        let (admit, inside) = (Arc::clone(&admit), Arc::clone(&inside));
        move || admit(&inside)
    });
    admit(&inside);
    other.join().unwrap();
}

fn is_alone(inside: &AtomicUsize) {
    assert_eq!(inside.fetch_add(1, Ordering::AcqRel), 0, "two probes at once");
    inside.fetch_sub(1, Ordering::AcqRel);
}

/// Proves that of callers who come together after the pause one is let through, and that a probe whose
/// caller goes away leaves the breaker as it was: the next caller gets it. It would catch a look and a
/// set in two steps (both are let through), and a probe that is never given back (nobody ever is).
#[test]
fn one_probe_at_a_time() {
    every_order(|| {
        let (breaker, due) = open();
        let breaker = Arc::new(breaker);
        let shared = Arc::clone(&breaker);
        probes(move |inside| {
            if let Some(probe) = shared.admit(due) {
                is_alone(inside);
                drop(probe);
            }
        });
        assert!(breaker.admit(due).is_some(), "the probe was given back");
    });
}

/// The twin: loads, decides, stores.
#[test]
#[should_panic(expected = "two probes at once")]
fn broken_probe() {
    every_order(|| {
        let probing = AtomicBool::new(false);
        probes(move |inside| {
            if !probing.load(Ordering::Acquire) {
                probing.store(true, Ordering::Release);
                is_alone(inside);
                probing.store(false, Ordering::Release);
            }
        });
    });
}

/// Two calls that fail at once, where one has to be enough.
fn failures(fail: impl Fn() + Send + Sync + 'static) {
    let fail = Arc::new(fail);
    let other = thread::spawn({
        let fail = Arc::clone(&fail);
        move || fail()
    });
    fail();
    other.join().unwrap();
}

/// Proves that a failure is not lost to another: two that come together open the breaker where two were
/// left, once. It would catch a counter that is read and written in two steps.
#[test]
fn no_failure_is_lost() {
    every_order(|| {
        let breaker = Breaker::default();
        for _ in 0..limits::BREAKER_FAILURES - 2 {
            breaker.admit(START).unwrap().settle(Verdict::Failed, START);
        }
        let breaker = Arc::new(breaker);
        let shared = Arc::clone(&breaker);
        failures(move || {
            let pass = shared.admit(long_after()).expect("it is closed");
            pass.settle(Verdict::Failed, long_after());
        });
        assert_eq!(breaker.condition(), Condition::Open, "a failure is lost");
    });
}

/// The twin: a counter that is read and written in two steps.
#[test]
#[should_panic(expected = "a failure is lost")]
fn broken_counter() {
    every_order(|| {
        let counted = Arc::new(AtomicU64::new(limits::BREAKER_FAILURES - 2));
        let shared = Arc::clone(&counted);
        failures(move || {
            let before = shared.load(Ordering::Acquire);
            shared.store(before + 1, Ordering::Release);
        });
        assert!(counted.load(Ordering::Acquire) >= limits::BREAKER_FAILURES, "a failure is lost");
    });
}

/// Proves that a call which was let through before the breaker opened, and fails while the probe is
/// answered, leaves it closed, without a failure to its name. It would catch a breaker that takes
/// whatever comes for the word of its probe, and one that does not tell its rounds apart.
#[test]
fn a_late_failure() {
    every_order(|| {
        let breaker = Arc::new(almost_open());
        let shared = Arc::clone(&breaker);
        let late = shared.admit(START).unwrap();
        breaker.admit(START).unwrap().settle(Verdict::Failed, long_after());
        let due = later(limits::BREAKER_FAILING_MS + limits::BREAKER_PAUSE_MS);
        let answered = Arc::clone(&breaker);
        let probe = thread::spawn(move || {
            answered.admit(due).expect("the pause is over").settle(Verdict::Answered, due);
        });
        late.settle(Verdict::Failed, due);
        probe.join().unwrap();
        for _ in 0..limits::BREAKER_FAILURES - 1 {
            breaker.admit(due).expect("it is closed").settle(Verdict::Failed, later(60_000));
        }
        assert_eq!(breaker.condition(), Condition::Closed, "the late failure was counted");
    });
}

/// The twin: whoever has an answer or a failure writes it down, whatever the breaker has come to.
#[test]
#[should_panic(expected = "the late failure was counted")]
fn broken_rounds() {
    every_order(|| {
        let open = Arc::new(AtomicBool::new(true));
        let answered = Arc::clone(&open);
        let probe = thread::spawn(move || answered.store(false, Ordering::Release));
        open.store(true, Ordering::Release);
        probe.join().unwrap();
        assert!(!open.load(Ordering::Acquire), "the late failure was counted");
    });
}
