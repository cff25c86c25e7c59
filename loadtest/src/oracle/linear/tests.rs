//! Lines of time that are, and that cannot be.

use super::counts::{more_than_there_is, sold_out_too_early};
use super::events::{Event, Kind};
use super::search::{Found, search};

fn takes(purchase: usize, from: u64, until: u64) -> Event {
    Event { purchase, units: 1, kind: Kind::Takes, told: true, from, until }
}

fn finds(purchase: usize, from: u64, until: u64) -> Event {
    Event { kind: Kind::Finds, ..takes(purchase, from, until) }
}

fn gives(purchase: usize, from: u64, until: u64) -> Event {
    Event { kind: Kind::Gives, ..takes(purchase, from, until) }
}

/// May have happened at any time from then on.
fn maybe(event: Event) -> Event {
    Event { told: false, until: u64::MAX, ..event }
}

fn again(purchase: usize, from: u64, until: u64) -> Event {
    Event { kind: Kind::Again, ..takes(purchase, from, until) }
}

/// Proves that an order is found where there is one: one after the other, at once, and with a unit that
/// came back in between.
#[test]
fn an_order_is_found() {
    for events in [
        vec![takes(0, 1, 2), finds(1, 3, 4)],
        vec![finds(1, 1, 9), takes(0, 5, 6)],
        vec![takes(0, 1, 2), gives(0, 3, 4), takes(1, 5, 6)],
        vec![takes(0, 1, 2), gives(0, 3, 9), finds(1, 4, 5), takes(2, 6, 7)],
    ] {
        assert_eq!(search(&events, 1), Found::Order, "{events:?}");
        assert_eq!(more_than_there_is(&events, 1), None, "{events:?}");
        assert_eq!(sold_out_too_early(&events, 1), None, "{events:?}");
    }
}

/// Proves that there is none where two have the last unit, where "sold out" was said while there was
/// one, and where a unit was sold before it came back; and that counting sees as much of these.
#[test]
fn what_cannot_be_is_seen() {
    let twice = [takes(0, 1, 2), takes(1, 3, 4)];
    let early = [finds(0, 1, 2), takes(1, 3, 4)];
    let before = [takes(0, 1, 2), takes(1, 3, 4), gives(0, 5, 6)];
    let own = [takes(0, 1, 2), finds(0, 3, 4)];
    for events in [&twice[..], &early, &before, &own] {
        assert_eq!(search(events, 1), Found::None, "{events:?}");
    }
    assert!(more_than_there_is(&twice, 1).is_some() && more_than_there_is(&before, 1).is_some());
    assert!(sold_out_too_early(&early, 1).is_some());
    assert!(sold_out_too_early(&[takes(0, 1, 2), gives(0, 3, 4), finds(1, 5, 6)], 1).is_some());
}

/// Proves that a request without an answer may have been done at any time, or never.
#[test]
fn the_unknown_may_be_anything() {
    let unknown = maybe(takes(9, 1, 2));
    for (rest, found) in [
        (vec![finds(0, 8, 9)], Found::Order),
        (vec![takes(0, 8, 9)], Found::Order),
        (vec![takes(0, 5, 6), takes(1, 8, 9)], Found::None),
    ] {
        let events = [vec![unknown], rest].concat();
        assert_eq!(search(&events, 1), found);
        assert_eq!(more_than_there_is(&events, 1).is_some(), found == Found::None);
        assert_eq!(sold_out_too_early(&events, 1), None);
    }
}

/// Proves that a hold may run out from its deadline on, not before, and need not; and that a late payment takes
/// its unit anew.
#[test]
fn holds_run_out() {
    let ends = |at| vec![takes(0, 1, 2), maybe(gives(0, at, 0))];
    let then = |events: Vec<Event>, rest: &[Event]| search(&[&events[..], rest].concat(), 1);
    assert_eq!(then(ends(5), &[takes(1, 6, 7)]), Found::Order);
    assert_eq!(then(ends(5), &[finds(1, 6, 7)]), Found::Order);
    assert_eq!(then(ends(9), &[takes(1, 6, 7)]), Found::None);
    assert_eq!(then(ends(5), &[again(0, 6, 7), finds(1, 8, 9)]), Found::Order);
    assert_eq!(then(ends(5), &[again(0, 6, 7), takes(1, 8, 9)]), Found::None);
    let late = [ends(5), vec![again(0, 6, 7), takes(1, 8, 9)]].concat();
    assert!(more_than_there_is(&late, 1).is_some());
    assert_eq!(more_than_there_is(&[ends(5), vec![takes(1, 6, 7)]].concat(), 1), None);
}

/// Proves that a thousand who come at once, and of whom many cancel, are not too many for a search, and that one
/// who had a unit too many among them is seen.
#[test]
fn a_crowd_is_searched() {
    let mut events = Vec::new();
    let mut now = 1;
    for purchase in 0..300 {
        // Ten at a time of ten units, all of which come back.
        events.push(takes(purchase, now, now + 50));
        events.push(gives(purchase, now + 100, now + 150));
        events.push(finds(1_000 + purchase, now + 60, now + 140));
        if purchase % 10 == 9 {
            now += 1_000;
        }
    }
    assert_eq!(search(&events, 10), Found::Order);
    assert_eq!(search(&events, 11), Found::None);
    events.push(takes(2_000, 55, 90));
    assert_eq!(search(&events, 10), Found::None);
    assert!(more_than_there_is(&events, 10).is_some());
}
