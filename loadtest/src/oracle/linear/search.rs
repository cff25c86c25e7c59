//! The search of Wing and Gong (J. Parallel Distrib. Comput. 17, 1993): of the events that nobody had to wait
//! for, one is taken to be the next, if the counter would have answered so; and again, until all are placed
//! or none fits. Places that were searched before are remembered. What was not told may be placed anywhere
//! after its start, or nowhere.
//!
//! Two shortcuts leave out no order. "Sold out" changes nothing, so it is placed as soon as it is true. And when
//! nobody is left who was told so, more units harm nobody: they come back as soon as they can, and nobody takes
//! any without having been told.

use std::collections::HashSet;

use fastrand::Rng;

use super::events::{Event, Kind};
use crate::limits::LINEAR_LOOKS_MAX;

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is such an order.
    Order,
    /// There is none.
    None,
    /// It would take too long to find out.
    GaveUp,
}

/// The counter between two events. All of it follows from `done`.
#[derive(Clone, Debug)]
struct Place {
    done: Vec<bool>,
    /// The first event that is not done.
    low: usize,
    left: i64,
    told_left: usize,
    finds_left: usize,
    /// Stands for `done`: the marks of all that is done, added up without carry.
    mark: u128,
}

struct Line {
    /// In the order in which they may happen.
    events: Vec<Event>,
    marks: Vec<u128>,
    /// By purchase: the places of its taking, giving back and taking anew.
    purchases: Vec<[Option<usize>; 3]>,
    looks: usize,
}

/// Looks for an order.
pub(super) fn search(events: &[Event], stock: i64) -> Found {
    let mut line = Line::of(events);
    let told = |kind: Option<Kind>| {
        let told = events.iter().filter(|event| event.told);
        told.filter(|event| kind.is_none_or(|kind| event.kind == kind)).count()
    };
    let mut start = Place {
        done: vec![false; events.len()],
        low: 0,
        left: stock,
        told_left: told(None),
        finds_left: told(Some(Kind::Finds)),
        mark: 0,
    };
    line.settle(&mut start);
    if start.told_left == 0 {
        return Found::Order;
    }
    let mut known = HashSet::from([start.mark]);
    let choices = line.choices(&start);
    let mut path = vec![(start, choices)];
    while let Some((place, choices)) = path.last_mut() {
        let Some(at) = choices.pop() else {
            path.pop();
            continue;
        };
        let mut next = place.clone();
        line.put(&mut next, at);
        line.settle(&mut next);
        if next.told_left == 0 {
            return Found::Order;
        }
        if line.looks > LINEAR_LOOKS_MAX {
            return Found::GaveUp;
        }
        if known.insert(next.mark) {
            let choices = line.choices(&next);
            path.push((next, choices));
        }
    }
    Found::None
}

impl Line {
    fn of(events: &[Event]) -> Self {
        let mut events = events.to_vec();
        events.sort_by_key(|event| (event.from, event.until));
        // The same marks each time: a search repeats.
        let mut rng = Rng::with_seed(0);
        let marks = events.iter().map(|_| rng.u128(..)).collect();
        let count = events.iter().map(|event| event.purchase + 1).max().unwrap_or(0);
        let mut purchases = vec![[None; 3]; count];
        for (at, event) in events.iter().enumerate() {
            if let Some(step) = step(event.kind) {
                purchases[event.purchase][step] = Some(at);
            }
        }
        Self { events, marks, purchases, looks: 0 }
    }

    /// What may come next: nothing is placed behind something that was answered before it began.
    fn next(&mut self, place: &Place) -> Vec<usize> {
        let (mut next, mut first_end) = (Vec::new(), u64::MAX);
        for at in place.low..self.events.len() {
            let event = &self.events[at];
            if event.from > first_end {
                break;
            }
            self.looks += 1;
            if !place.done[at] {
                first_end = first_end.min(if event.told { event.until } else { u64::MAX });
                next.push(at);
            }
        }
        next.retain(|at| self.events[*at].from <= first_end);
        next
    }

    /// Whether the counter would have answered so.
    fn fits(&self, place: &Place, at: usize) -> bool {
        let event = &self.events[at];
        let done = |step: usize| {
            let at = self.purchases.get(event.purchase).and_then(|steps| steps[step]);
            at.is_some_and(|at| place.done[at])
        };
        match event.kind {
            Kind::Takes => place.left >= event.units,
            Kind::Finds => !done(0) && place.left < event.units,
            Kind::Gives => done(0),
            Kind::Again => done(1) && place.left >= event.units,
        }
    }

    fn put(&self, place: &mut Place, at: usize) {
        let event = &self.events[at];
        place.done[at] = true;
        place.mark ^= self.marks[at];
        place.told_left -= usize::from(event.told);
        match event.kind {
            Kind::Takes | Kind::Again => place.left -= event.units,
            Kind::Gives => place.left += event.units,
            Kind::Finds => place.finds_left -= 1,
        }
        while place.done.get(place.low) == Some(&true) {
            place.low += 1;
        }
    }

    /// Places what can as well come now as later.
    fn settle(&mut self, place: &mut Place) {
        loop {
            let at_once = if place.finds_left > 0 { Kind::Finds } else { Kind::Gives };
            let next = self.next(place).into_iter();
            let now = next.filter(|at| self.events[*at].kind == at_once && self.fits(place, *at));
            let now: Vec<usize> = now.collect();
            if now.is_empty() {
                return;
            }
            for at in now {
                self.put(place, at);
            }
        }
    }

    /// What is worth trying next, the most pressing last.
    fn choices(&mut self, place: &Place) -> Vec<usize> {
        let mut choices = self.next(place);
        choices.retain(|at| {
            let event = &self.events[*at];
            let idle = event.is_taking() && !event.told && place.finds_left == 0;
            !idle && event.kind != Kind::Finds && self.fits(place, *at)
        });
        choices.sort_by_key(|at| {
            let event = &self.events[*at];
            std::cmp::Reverse((!event.told, event.until, *at))
        });
        choices
    }
}

/// Which of a purchase's steps it is.
fn step(kind: Kind) -> Option<usize> {
    match kind {
        Kind::Takes => Some(0),
        Kind::Gives => Some(1),
        Kind::Again => Some(2),
        Kind::Finds => None,
    }
}
