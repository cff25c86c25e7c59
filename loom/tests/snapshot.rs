//! The catalog that readers take without a lock: the real one, over a stand-in for arc-swap.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a model that cannot go on fails by panicking"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use floodgate_loom::catalog::Catalog;
use floodgate_loom::clock::Millis;
use floodgate_loom::engine::Position;
use floodgate_loom::explore::every_order;
use floodgate_loom::sale::{Counters, SaleDefinition, Window};
use floodgate_loom::stand_ins::{ArcSwap, Mutex};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use serde_json::json;

const STOCK: u64 = 9;

fn sale(id: &str) -> Arc<SaleDefinition> {
    let definition = SaleDefinition::from_json(&json!({
        "id": id, "title": "S", "hold_seconds": 60,
        "items": [{ "id": "i", "title": "I", "price": 1, "currency": "EUR", "stock": STOCK }],
    }));
    Arc::new(definition.unwrap())
}

/// The lane's word at an event: so many were taken.
fn publish(catalog: &Catalog, sale: &Arc<SaleDefinition>, seq: u64) {
    let counters =
        Counters { stock: STOCK, held: seq, available: STOCK - seq, ..Counters::default() };
    let window = Window { opens_at: Some(Millis(seq)), ..Window::default() };
    catalog.publish(Position { epoch: 1, seq }, sale, &window, &[counters]);
}

/// Proves that of two words of a lane which come in either order the later one stays, whole. It would
/// catch a position that is compared before the lock is taken, and a word that is written without it.
#[test]
fn the_later_word_stays() {
    every_order(|| {
        let catalog = Arc::new(Catalog::default());
        let sale = sale("s");
        publish(&catalog, &sale, 1);
        let other = thread::spawn({
            let (catalog, sale) = (Arc::clone(&catalog), Arc::clone(&sale));
            move || publish(&catalog, &sale, 2)
        });
        publish(&catalog, &sale, 3);
        other.join().unwrap();
        let card = catalog.sale("s").unwrap();
        let item = card.item(0).unwrap();
        let told = (item.available(), item.held(), card.window().opens_at);
        assert_eq!(told, (STOCK - 3, 3, Some(Millis(3))), "an older word stays");
    });
}

/// The twin: the position is compared, and then the lock is taken.
#[test]
#[should_panic(expected = "an older word stays")]
fn broken_guard() {
    every_order(|| {
        let card = Arc::new((Mutex::new(1), AtomicU64::new(1)));
        let update = |card: &(Mutex<u64>, AtomicU64), seq: u64| {
            let is_newer = *card.0.lock().unwrap() < seq;
            if is_newer {
                let mut at = card.0.lock().unwrap();
                *at = seq;
                card.1.store(seq, Ordering::Release);
            }
        };
        let other = thread::spawn({
            let card = Arc::clone(&card);
            move || update(&card, 2)
        });
        update(&card, 3);
        other.join().unwrap();
        assert_eq!(card.1.load(Ordering::Acquire), 3, "an older word stays");
    });
}

/// Proves that of two sales which two lanes make known at once none is lost, and that a reader finds
/// each with what its lane said. It would catch a list that is copied and put back without a lock.
#[test]
fn no_sale_is_lost() {
    every_order(|| {
        let catalog = Arc::new(Catalog::default());
        let lane = |id: &'static str, seq| {
            let catalog = Arc::clone(&catalog);
            thread::spawn(move || publish(&catalog, &sale(id), seq))
        };
        let lanes = [lane("a", 1), lane("b", 2)];
        for lane in lanes {
            lane.join().unwrap();
        }
        let sales = catalog.sales();
        assert_eq!(sales.len(), 2, "a sale is lost");
        for (id, seq) in [("a", 1), ("b", 2)] {
            assert_eq!(catalog.sale(id).unwrap().item(0).unwrap().held(), seq);
        }
    });
}

/// Proves that two workers who make the same sale known at once make one card of it, on which the later
/// word stays. It would catch a card that is made again by whoever waited for the lock: what had been
/// entered into the first one's filter would be gone with it.
#[test]
fn one_card_a_sale() {
    every_order(|| {
        let catalog = Arc::new(Catalog::default());
        let sale = sale("s");
        let window = Window::default();
        let other = thread::spawn({
            let (catalog, sale, window) = (Arc::clone(&catalog), Arc::clone(&sale), window);
            move || catalog.publish(Position { epoch: 1, seq: 1 }, &sale, &window, &[])
        });
        let mine = catalog.publish(Position { epoch: 1, seq: 2 }, &sale, &window, &[]);
        let theirs = other.join().unwrap();
        assert!(Arc::ptr_eq(&mine, &theirs), "two cards of one sale");
    });
}

/// Adds to a list that readers take without a lock, without one.
fn add(list: &ArcSwap<BTreeMap<u64, Arc<u64>>>, key: u64) -> Arc<u64> {
    if let Some(known) = list.load().get(&key) {
        return Arc::clone(known);
    }
    let made = Arc::new(key);
    let mut longer = list.load().as_ref().clone();
    longer.insert(key, Arc::clone(&made));
    list.store(Arc::new(longer));
    made
}

/// The twin: the list is copied and put back without a lock.
#[test]
#[should_panic(expected = "a sale is lost")]
fn broken_list() {
    every_order(|| {
        let list = Arc::new(ArcSwap::default());
        let other = thread::spawn({
            let list = Arc::clone(&list);
            move || add(&list, 1)
        });
        add(&list, 2);
        other.join().unwrap();
        assert_eq!(list.load().len(), 2, "a sale is lost");
    });
}

/// The same twin, of one sale.
#[test]
#[should_panic(expected = "two cards of one sale")]
fn broken_card() {
    every_order(|| {
        let list = Arc::new(ArcSwap::default());
        let other = thread::spawn({
            let list = Arc::clone(&list);
            move || add(&list, 1)
        });
        let mine = add(&list, 1);
        assert!(Arc::ptr_eq(&mine, &other.join().unwrap()), "two cards of one sale");
    });
}
