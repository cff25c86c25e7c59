//! The sold-out latch and the filter of keys: whoever sees that the last unit is gone also sees what was
//! entered before the winner's command was handed over. The real card, filter, check and inbox.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a model that cannot go on fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use floodgate_loom::admission::check_sale;
use floodgate_loom::catalog::{Catalog, SaleCard};
use floodgate_loom::clock::Millis;
use floodgate_loom::engine::{Command, OrderedLine, Position, Reserve};
use floodgate_loom::explore::every_order;
use floodgate_loom::ledger::Knowledge;
use floodgate_loom::ledger::lane::{Inbox, Tray, inbox};
use floodgate_loom::sale::{
    Counters, IdempotencyKey, ItemId, LaneId, Refusal, ReservationId, SaleDefinition, SaleId,
    UserId, Window,
};
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;
use serde_json::json;

/// A sale of one unit, open, at event 1.
fn card() -> Arc<SaleCard> {
    let definition = SaleDefinition::from_json(&json!({
        "id": "s", "title": "S", "hold_seconds": 60,
        "items": [{ "id": "i", "title": "I", "price": 1, "currency": "EUR", "stock": 1 }],
    }));
    let definition = Arc::new(definition.unwrap());
    let counters = Counters { stock: 1, available: 1, ..Counters::default() };
    Catalog::default().publish(at(1), &definition, &window(), &[counters])
}

fn at(seq: u64) -> Position {
    Position { epoch: 1, seq }
}

fn window() -> Window {
    Window { opens_at: Some(Millis(0)), ..Window::default() }
}

fn id() -> ReservationId {
    let (user, sale) = (UserId::parse("u").unwrap(), SaleId::parse("s").unwrap());
    ReservationId::derived(LaneId(0), &user, &sale, &IdempotencyKey::parse("k").unwrap())
}

fn lines() -> Box<[OrderedLine]> {
    Box::new([OrderedLine { item: ItemId::parse("i").unwrap(), quantity: 1 }])
}

fn reserve() -> Command {
    let (sale, user) = (SaleId::parse("s").unwrap(), UserId::parse("u").unwrap());
    Command::Reserve(Reserve { id: id(), sale, user, lines: lines() })
}

/// What the gate and the lane do, in the gate's order unless a twin says otherwise.
struct Shop {
    /// Before the command is handed over.
    enter: fn(&Known),
    /// Once the lane has given the last unit away.
    publish: fn(&Known),
    /// After the command was handed over: nothing, in the product.
    afterwards: fn(&Known),
    /// What a retry is told from memory: that it is sold out.
    is_refused: fn(&Known) -> bool,
}

/// What gate and lane share.
struct Known {
    card: Arc<SaleCard>,
    /// The twins' own.
    available: AtomicU64,
}

const REAL: Shop = Shop {
    enter: |known| known.card.seen.insert(&id()),
    publish: |known| {
        let counters = Counters { stock: 1, held: 1, ..Counters::default() };
        known.card.update(at(2), &window(), &[counters]);
    },
    afterwards: |_| {},
    is_refused: |known| {
        let refusal = check_sale(&known.card, Millis(1), &lines());
        let sold_out = matches!(refusal, Some(Refusal::SoldOut { .. }));
        sold_out && !known.card.seen.contains(&id())
    },
};

/// The winner's first try goes through the lane while their retry is looked at.
fn winner_asks_again(shop: Shop) {
    let Shop { enter, publish, afterwards, is_refused } = shop;
    let known = Arc::new(Known { card: card(), available: AtomicU64::new(1) });
    let (inbox, tray): (Inbox, Tray) = inbox(1);
    let lane = thread::spawn({
        let known = Arc::clone(&known);
        move || {
            let mut batch = Vec::new();
            assert!(tray.collect(&mut batch, Duration::MAX));
            publish(&known);
        }
    });
    let first = thread::spawn({
        let known = Arc::clone(&known);
        move || {
            enter(&known);
            let pending = inbox.submit(reserve());
            afterwards(&known);
            pending.unwrap()
        }
    });
    assert!(!is_refused(&known), "a winner was told that it is sold out");
    drop((first.join().unwrap(), lane.join().unwrap()));
}

/// Proves that a winner who asks again while their first try is under way is never told from memory
/// that it is sold out. It would catch counters published without release or read without acquire, and
/// an id that is entered too late or looked up too early.
#[test]
fn a_winner_is_known() {
    every_order(|| winner_asks_again(REAL));
}

/// The twin: the last unit is published without release.
#[test]
#[should_panic(expected = "a winner was told")]
fn broken_publication() {
    every_order(|| {
        winner_asks_again(Shop {
            publish: |known| known.available.store(0, Ordering::Relaxed),
            is_refused: |known| {
                known.available.load(Ordering::Acquire) == 0 && !known.card.seen.contains(&id())
            },
            ..REAL
        });
    });
}

/// The twin: the last unit is looked for without acquire.
#[test]
#[should_panic(expected = "a winner was told")]
fn broken_look() {
    every_order(|| {
        winner_asks_again(Shop {
            publish: |known| known.available.store(0, Ordering::Release),
            is_refused: |known| {
                known.available.load(Ordering::Relaxed) == 0 && !known.card.seen.contains(&id())
            },
            ..REAL
        });
    });
}

/// The twin: the filter is asked before the sale is looked at.
#[test]
#[should_panic(expected = "a winner was told")]
fn broken_order() {
    every_order(|| {
        winner_asks_again(Shop {
            is_refused: |known| {
                let seen = known.card.seen.contains(&id());
                let refusal = check_sale(&known.card, Millis(1), &lines());
                matches!(refusal, Some(Refusal::SoldOut { .. })) && !seen
            },
            ..REAL
        });
    });
}

/// The twin: the id is entered once the command was handed over.
#[test]
#[should_panic(expected = "a winner was told")]
fn broken_entry() {
    every_order(|| winner_asks_again(Shop { enter: |_| {}, afterwards: REAL.enter, ..REAL }));
}

/// The winner got the last unit through another gateway, and asks again here, where its publication and its
/// id come by different ways.
fn winner_asks_elsewhere(
    follow: fn(&SaleCard, &AtomicU64),
    is_refused: fn(&SaleCard, &AtomicU64) -> bool,
) {
    let (card, known) = (card(), Arc::new(AtomicU64::new(1)));
    let worker = thread::spawn({
        let card = Arc::clone(&card);
        move || {
            let counters = Counters { stock: 1, held: 1, ..Counters::default() };
            card.update(at(2), &window(), &[counters]);
        }
    });
    let follower = thread::spawn({
        let (card, known) = (Arc::clone(&card), Arc::clone(&known));
        move || follow(&card, &known)
    });
    assert!(!is_refused(&card, &known), "a winner was told that it is sold out");
    worker.join().unwrap();
    follower.join().unwrap();
}

fn knowledge(known: &AtomicU64) -> Knowledge {
    Knowledge { seq: known.load(Ordering::Acquire), now: Millis(0) }
}

fn is_sold_out(card: &SaleCard) -> bool {
    matches!(check_sale(card, Millis(1), &lines()), Some(Refusal::SoldOut { .. }))
}

fn follow(card: &SaleCard, known: &AtomicU64) {
    card.seen.insert(&id());
    known.store(2, Ordering::Release);
}

/// Proves the same of a winner who got the unit through another gateway. It would catch knowledge that is
/// told before the ids are entered, or asked for after them, and a card that says how new it is too late.
#[test]
fn a_winner_of_another_gateway_is_known() {
    every_order(|| {
        winner_asks_elsewhere(follow, |card, known| {
            let sold_out = is_sold_out(card);
            let known = knowledge(known);
            sold_out && !card.seen.contains(&id()) && card.is_known(known)
        });
    });
}

/// The twin: what is known is asked for after the filter.
#[test]
#[should_panic(expected = "a winner was told")]
fn broken_knowledge() {
    every_order(|| {
        winner_asks_elsewhere(follow, |card, known| {
            is_sold_out(card) && !card.seen.contains(&id()) && card.is_known(knowledge(known))
        });
    });
}

/// The twin: what is known is told before the ids are entered.
#[test]
#[should_panic(expected = "a winner was told")]
fn broken_follower() {
    every_order(|| {
        let hasty = |card: &SaleCard, known: &AtomicU64| {
            known.store(2, Ordering::Release);
            card.seen.insert(&id());
        };
        winner_asks_elsewhere(hasty, |card, known| {
            let sold_out = is_sold_out(card);
            let known = knowledge(known);
            sold_out && !card.seen.contains(&id()) && card.is_known(known)
        });
    });
}

/// Proves that whoever is told that a unit is gone which is only held is told that it may come back. It
/// would catch a card that says how many are left before it says how many are held.
#[test]
fn held_is_said_with_sold_out() {
    every_order(|| {
        let card = card();
        let published = Arc::clone(&card);
        let lane = thread::spawn(move || {
            let counters = Counters { stock: 1, held: 1, ..Counters::default() };
            published.update(at(2), &window(), &[counters]);
        });
        if let Some(refusal) = check_sale(&card, Millis(1), &lines()) {
            assert_eq!(refusal, Refusal::SoldOut { held: true }, "told that it is over");
        }
        lane.join().unwrap();
    });
}

/// The twin: how many are left is said first.
#[test]
#[should_panic(expected = "told that it is over")]
fn broken_counters() {
    every_order(|| {
        let units = Arc::new((AtomicU64::new(1), AtomicBool::new(false)));
        let published = Arc::clone(&units);
        let lane = thread::spawn(move || {
            published.0.store(0, Ordering::Release);
            published.1.store(true, Ordering::Release);
        });
        let sold_out = units.0.load(Ordering::Acquire) == 0;
        assert!(!sold_out || units.1.load(Ordering::Acquire), "told that it is over");
        lane.join().unwrap();
    });
}
