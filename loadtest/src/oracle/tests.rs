//! Every check is shown to pass on a world in order, and to fail on one with a planted fault.

mod hold_tests;
mod line_tests;
mod world;

use std::sync::Arc;

use self::world::World;
use super::{Run, Scope, commit};
use crate::history::{Level, Line, Op, Seen};

/// Proves that a world in order passes every check.
#[test]
fn a_world_in_order_passes() {
    let verdict = World::new().judge();
    assert!(verdict.ok, "{verdict}");
    assert_eq!(verdict.checks.len(), 24);
    assert!(verdict.checks.iter().all(|check| !check.invariants.is_empty()));
    assert!(verdict.checks.iter().all(|check| !check.detail.is_empty()));
}

/// Plants a fault and proves that the check of that name, at least, sees it.
fn breaks(name: &str, plant: impl FnOnce(&mut World)) {
    let mut world = World::new();
    plant(&mut world);
    let verdict = world.judge();
    let check = verdict.check(name).unwrap_or_else(|| panic!("no check {name}"));
    assert!(!check.ok, "{name} did not see it\n{verdict}");
    assert!(!verdict.ok);
}

fn sql(statement: &'static str) -> impl FnOnce(&mut World) {
    move |world| world.sql(statement)
}

/// Proves that a writer which is behind is seen.
#[test]
fn sees_a_backlog() {
    breaks("writer drained", |world| world.view.outbox_length = 1);
}

/// Proves that units which vanish, or appear, in the ledger are seen.
#[test]
fn sees_broken_conservation() {
    breaks("conservation", |world| world.view.items[0].available += 1);
    breaks("conservation", |world| {
        let item = &mut world.view.items[0];
        (item.available, item.held) = (-1, item.held + 1 + item.available);
    });
}

/// Proves that more units taken than there are is seen, in the ledger and in the store.
#[test]
fn sees_oversell() {
    breaks("no oversell", |world| world.view.items[0].held = 99);
    breaks("no oversell", |world| {
        world.sql("UPDATE orders SET lines = replace(lines, '\"quantity\":1', '\"quantity\":99')");
    });
}

/// Proves that ledger and store which count differently are seen, in each of the four ways.
#[test]
fn sees_disagreement() {
    let name = "ledger and store agree";
    breaks(name, sql("UPDATE orders SET status = 'paid' WHERE status = 'pending_payment'"));
    breaks(name, sql("UPDATE orders SET status = 'expired' WHERE status = 'paid'"));
    breaks(name, sql("UPDATE items SET allocated = 0"));
    breaks(name, sql("UPDATE items SET stock = stock + 1"));
    breaks(name, sql("DELETE FROM items WHERE item_id = 'b'"));
}

/// Proves that units which came back without being counted are seen.
#[test]
fn sees_uncounted_returns() {
    breaks("returns are counted", |world| world.view.items[0].cancelled_total += 1);
    breaks("returns are counted", |world| world.view.items[1].expired_total = 0);
}

/// Proves that a user beyond the limit is seen, whether of the sale or of an item, and whether the
/// ops API tells the limit or only the store's definition.
#[test]
fn sees_a_broken_limit() {
    let more = "UPDATE orders SET user_id = 'u1' WHERE order_id = 'r2'";
    breaks("limits kept", sql(more));
    breaks("limits kept", |world| {
        world.view.per_user_limit = None;
        world.sql(more);
    });
    breaks("limits kept", |world| world.view.items[0].per_user_limit = Some(0));
}

/// Proves that a 201 whose order is missing, twice there, or says something else, is seen.
#[test]
fn sees_a_wrong_order() {
    let name = "an order for every 201";
    breaks(name, sql("DELETE FROM orders WHERE order_id = 'r1'"));
    breaks(
        name,
        sql("INSERT INTO orders SELECT 'u9', order_id, sale_id, status, version, lines, total,
             currency, created_at, expires_at, updated_at, payment_ref
             FROM orders WHERE order_id = 'r1'"),
    );
    for change in [
        "user_id = 'u9'",
        "lines = replace(lines, '\"a\"', '\"b\"')",
        "lines = replace(lines, '\"quantity\":1', '\"quantity\":2')",
        "total = total + 1",
        "created_at = created_at + 1",
        "expires_at = expires_at - 1",
    ] {
        breaks(name, |world| {
            world.sql(&format!("UPDATE orders SET {change} WHERE order_id = 'r1'"));
        });
    }
}

/// Proves that an end which was told and did not happen is seen, and so is another payment.
#[test]
fn sees_an_end_that_does_not_stand() {
    let name = "told ends stand";
    breaks(name, sql("UPDATE orders SET status = 'paid' WHERE order_id = 'r3'"));
    breaks(name, sql("UPDATE orders SET status = 'cancelled' WHERE order_id = 'r2'"));
    breaks(name, sql("UPDATE orders SET payment_ref = 'other' WHERE order_id = 'r2'"));
    breaks(name, sql("DELETE FROM orders WHERE order_id = 'r2'"));
    breaks(name, |world| world.ends("u2", "r2", Op::Cancel, Seen::Ok));
}

/// Proves that an end which nobody asked for is seen, also after a payment that was unknown and
/// then refused; and that an unknown one excuses it.
#[test]
fn sees_an_end_that_nobody_asked_for() {
    let name = "ends were asked for";
    let paid = "UPDATE orders SET status = 'paid' WHERE order_id = 'r1'";
    breaks(name, sql(paid));
    breaks(name, sql("UPDATE orders SET status = 'cancelled' WHERE order_id = 'r1'"));
    breaks(name, |world| {
        world.sql(paid);
        world.ends("u1", "r1", Op::Confirm, Seen::Unknown("deadline".into()));
        world.ends("u1", "r1", Op::Confirm, Seen::No("reservation-expired".into()));
    });
    let mut world = World::new();
    world.sql(paid);
    world.ends("u1", "r1", Op::Confirm, Seen::Unknown("deadline".into()));
    assert!(world.judge().check(name).unwrap().ok);
}

/// Proves that two reservations for one key, and one reservation for two keys, are seen.
#[test]
fn sees_two_reservations_for_a_key() {
    let name = "one reservation a key";
    breaks(name, |world| world.entry("r1", Op::Reserve).reservation = Some("r9".into()));
    breaks(name, |world| {
        let mut other = world.entry("r1", Op::Reserve).clone();
        (other.user, other.key) = ("u9".into(), Some("k9".into()));
        world.history.push(other);
    });
}

/// Proves that a replay with another body, or one that claims to be the original, is seen.
#[test]
fn sees_a_replay_that_differs() {
    let name = "replays are equal";
    breaks(name, |world| {
        let mut replay = world.entry("r1", Op::Reserve).clone();
        replay.replayed = true;
        replay.receipt.as_mut().unwrap().body_digest += 1;
        world.history.push(replay);
    });
    breaks(name, |world| {
        let mut replay = world.entry("r1", Op::Reserve).clone();
        // Not at once with the first.
        (replay.start_us, replay.end_us) = (replay.end_us + 1, replay.end_us + 2);
        world.history.push(replay);
    });
}

/// Proves that a no after the yes is seen.
#[test]
fn sees_a_denied_grant() {
    breaks("a 201 is never denied", |world| {
        world.reserves("u1", "k1", Seen::No("sold-out".into()));
    });
}

/// Proves that a "sold out" is excused where gateways share a ledger, but neither late nor as anything else.
#[test]
fn excuses_who_is_behind() {
    for (after_us, code, excused) in
        [(1_000, "sold-out", true), (1_000, "limit-reached", false), (1_000_000, "sold-out", false)]
    {
        let mut world = World::new();
        world.scope.shared = true;
        let known_us = world.entry("r1", Op::Reserve).end_us;
        world.reserves("u1", "k1", Seen::No(code.into()));
        let late = world.history.last_mut().unwrap();
        (late.start_us, late.end_us) = (known_us + after_us, known_us + after_us + 1);
        let verdict = world.judge();
        assert_eq!(verdict.check("a 201 is never denied").unwrap().ok, excused, "{code}");
    }
}

/// Proves that a replay of what was only ever refused is seen, and that an unknown outcome excuses it.
#[test]
fn sees_a_no_that_was_none() {
    let name = "a no is a no";
    // Both 201s of the first key become replays of what came before: this.
    let after = |world: &mut World, seen| {
        let mut first = world.entry("r1", Op::Reserve).clone();
        (first.seen, first.reservation, first.receipt) = (seen, None, None);
        let about = |entry: &&mut crate::history::Entry| entry.reservation.as_deref() == Some("r1");
        for entry in world.history.iter_mut().filter(about) {
            (entry.replayed, entry.start_us, entry.end_us) =
                (true, entry.start_us + 9, entry.end_us + 9);
        }
        world.history.push(first);
    };
    breaks(name, |world| after(world, Seen::No("overloaded".into())));
    let mut world = World::new();
    after(&mut world, Seen::Unknown("outcome-unknown".into()));
    assert!(world.judge().check(name).unwrap().ok);
}

/// Proves that a key which was accepted for another body is seen, and so is a wrong refusal.
#[test]
fn sees_accepted_misuse() {
    for seen in [Seen::Ok, Seen::No("sold-out".into())] {
        breaks("key reuse is refused", |world| {
            world.reserves("u1", "k1", seen);
            world.history.last_mut().unwrap().op = Op::Misuse;
        });
    }
}

/// Proves that missing, wrong, left-over and orphaned cart lines are seen.
#[test]
fn sees_wrong_carts() {
    breaks("carts", sql("DELETE FROM cart_lines WHERE reservation_id = 'r1'"));
    breaks("carts", sql("UPDATE cart_lines SET quantity = 5 WHERE reservation_id = 'r2'"));
    breaks("carts", sql("UPDATE cart_lines SET user_id = 'u9' WHERE reservation_id = 'r2'"));
    breaks("carts", sql("INSERT INTO cart_lines VALUES ('u3', 'a', 'r3', 1)"));
    breaks("carts", sql("INSERT INTO cart_lines VALUES ('u4', 'b', 'r4', 1)"));
    breaks("carts", sql("INSERT INTO cart_lines VALUES ('u9', 'b', 'r77', 1)"));
}

/// Proves that what the writer could not digest is seen.
#[test]
fn sees_dead_letters() {
    let letter = "INSERT INTO dead_letters VALUES (0, 1, 1, 'poison', x'00', 1)";
    breaks("no dead letters", sql(letter));
}

/// Proves that an order which nobody was granted is seen, that one unknown excuses one order and
/// not two, and that a definite no afterwards takes the excuse away.
#[test]
fn sees_an_order_without_a_request() {
    let name = "no order without a request";
    let ghost = |world: &mut World, id| {
        world.sql(&format!(
            "INSERT INTO orders VALUES ('u7', '{id}', 'flash', 'expired', 1,
             '[{{\"item_id\":\"b\",\"quantity\":1}}]', 5, 'EUR', 1, 2, 1, NULL)"
        ));
    };
    breaks(name, |world| ghost(world, "r7"));
    breaks("counts agree", |world| ghost(world, "r7"));
    let unknown = || Seen::Unknown("deadline".into());
    let mut world = World::new();
    world.reserves("u7", "k7", unknown());
    ghost(&mut world, "r7");
    let verdict = world.judge();
    assert!(verdict.check(name).unwrap().ok && verdict.check("counts agree").unwrap().ok);
    assert!(verdict.notes.iter().any(|note| note.contains("unknown")));
    breaks(name, |world| {
        world.reserves("u7", "k7", unknown());
        ghost(world, "r7");
        ghost(world, "r8");
    });
    breaks(name, |world| {
        world.reserves("u7", "k7", unknown());
        world.reserves("u7", "k7", Seen::No("sold-out".into()));
        ghost(world, "r7");
    });
}

/// Proves that a count which is off is seen although every single order is explained.
#[test]
fn sees_counts_that_differ() {
    breaks("counts agree", sql("DELETE FROM orders WHERE order_id = 'r4'"));
}

/// Proves that a unit which is left is seen where everything must be sold.
#[test]
fn sees_unsold_units() {
    breaks("everything sold", |world| world.view.items[1].available = 1);
}

/// Proves that an incomplete history excuses orders of others, but nothing else.
#[test]
fn scope_is_respected() {
    let mut world = World::new();
    world.history.retain(|entry| &*entry.user != "u1");
    assert!(!world.judge().ok);
    world.scope = Scope::default();
    let verdict = world.judge();
    assert!(verdict.ok, "{verdict}");
}

/// Proves that lines of a basket are compared by item, whatever their order.
#[test]
fn baskets_are_compared_by_item() {
    let mut world = World::new();
    let line = |item: &str| Line { item_id: item.into(), quantity: 1 };
    let entry = world.entry("r1", Op::Reserve);
    entry.lines = Arc::from([line("a"), line("b")]);
    let receipt = entry.receipt.as_mut().unwrap();
    receipt.lines = vec![line("b"), line("a")];
    world.sql(
        "UPDATE orders SET lines = '[{\"item_id\":\"a\",\"quantity\":1,\"unit_price\":5},
         {\"item_id\":\"b\",\"quantity\":1,\"unit_price\":5}]' WHERE order_id = 'r1'",
    );
    assert!(world.judge().check("an order for every 201").unwrap().ok);
}

/// Proves that a store which cannot be read is an error, not a verdict.
#[test]
fn an_unreadable_store_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(super::Books::read(dir.path(), "flash").is_err());
    let world = World::new();
    world.sql("UPDATE orders SET lines = 'no json' WHERE order_id = 'r1'");
    assert!(super::Books::read_file(&world.path(), "flash").is_err());
}

/// Proves that three who had two units at once are seen, though one came back later and every count is
/// right.
#[test]
fn sees_a_history_without_an_order() {
    let created = |a: u32| {
        let items = format!(r#"[{{"id":"a","stock":{a}}},{{"id":"b","stock":1}}]"#);
        format!(r#"UPDATE sales SET definition = '{{"items":{items}}}'"#)
    };
    let mut world = World::new();
    world.view.items[0].stock = 3;
    world.sql(&created(3));
    let name = "one line of time";
    assert!(world.judge().check(name).unwrap().ok);
    let world = World::new();
    world.sql(&created(2));
    let verdict = world.judge();
    let broken: Vec<_> = verdict.failures().map(|check| &*check.name).collect();
    assert_eq!(broken, [name]);
}

/// Proves that what was promised below the level that survives may be gone, and that what was promised at
/// that level may not.
#[test]
fn levels_count() {
    let name = "an order for every 201";
    let gone = |world: &mut World| {
        world.sql("DELETE FROM orders WHERE order_id = 'r4'");
        world.view.items[1].expired_total = 0;
    };
    let mut world = World::new();
    gone(&mut world);
    world.scope.lost_below = Some(Level::Stored);
    let verdict = world.judge();
    assert!(verdict.check(name).unwrap().ok && verdict.check("counts agree").unwrap().ok);
    assert!(verdict.notes.iter().any(|note| note.contains("1 promises were lost")), "{verdict}");
    breaks(name, |world| {
        gone(world);
        world.scope.lost_below = Some(Level::Stored);
        let entry = world.entry("r4", Op::Reserve);
        entry.receipt.as_mut().unwrap().level = Some(Level::Stored);
    });
}

/// Proves that a level which is not the one that was set is seen, be it lower or higher, in a replay, or none at
/// all; and that it is no excuse.
#[test]
fn sees_another_level() {
    let name = "levels are those set";
    for (set, told) in [
        (Some(Level::Replicated), Some(Level::Memory)),
        (Some(Level::Fsync), Some(Level::Stored)),
        (Some(Level::Fsync), None),
        (None, None),
    ] {
        breaks(name, |world| {
            world.scope.level = set;
            for entry in world.history.iter_mut().filter_map(|entry| entry.receipt.as_mut()) {
                entry.level = set;
            }
            let last = world.history.iter_mut().filter_map(|entry| entry.receipt.as_mut()).last();
            last.unwrap().level = told;
        });
    }
    let mut world = World::new();
    world.scope.level = Some(Level::Fsync);
    assert!(world.judge().ok);
}

/// Proves that the smallest case of a fault is the entries of whom it happened to, and that a report has
/// them beside the seed.
#[test]
fn the_smallest_case() {
    let world = World::new();
    world.sql("DELETE FROM orders WHERE order_id = 'r3'");
    let report = world.report(Run::new(4711, "two of them"));
    for said in ["4711", "two of them", &format!("commit    {}", commit())] {
        assert!(report.contains(said), "{report}");
    }
    assert!(!commit().is_empty() && commit() != "unknown");
    assert!(report.contains("4711") && report.contains(r#"{"u3": 2}"#), "{report}");
    assert!(!report.contains(r#""user":"u1""#), "{report}");
}
