//! What can be counted without a search, of any number of requests: how many units were taken at one time, for
//! certain and at most.

use super::events::{Event, Kind};

/// Units over time: at each instant, what is there from then on.
struct Curve {
    at_us: Vec<u64>,
    /// The highest of each stretch of 2^n instants, by n.
    highest: Vec<Vec<i64>>,
}

impl Curve {
    /// Of changes; at one instant those that sort first come first.
    fn of(mut changes: Vec<(u64, i64)>) -> Self {
        changes.sort_unstable();
        let (mut at_us, mut units, mut now) = (Vec::new(), Vec::new(), 0);
        for (at, change) in changes {
            now += change;
            at_us.push(at);
            units.push(now);
        }
        let mut highest = vec![units];
        let mut half = 1;
        while let Some(last) = highest.last().filter(|last| last.len() > half) {
            let next = (0..last.len() - half).map(|at| last[at].max(last[at + half])).collect();
            highest.push(next);
            half *= 2;
        }
        Self { at_us, highest }
    }

    /// The highest in a stretch of time, both ends within it.
    fn highest(&self, from: u64, until: u64) -> i64 {
        let first = self.at_us.partition_point(|at| *at <= from).saturating_sub(1);
        let end = self.at_us.partition_point(|at| *at <= until);
        if end == 0 {
            return 0;
        }
        let level = (end - first).ilog2() as usize;
        let row = &self.highest[level];
        row[first].max(row[end - (1 << level)])
    }
}

/// The events of each purchase: taking, giving back, taking anew.
fn purchases(events: &[Event]) -> Vec<[Option<Event>; 3]> {
    let count = events.iter().map(|event| event.purchase + 1).max().unwrap_or(0);
    let mut purchases = vec![[None; 3]; count];
    for event in events {
        match event.kind {
            Kind::Takes => purchases[event.purchase][0] = Some(*event),
            Kind::Gives => purchases[event.purchase][1] = Some(*event),
            Kind::Again => purchases[event.purchase][2] = Some(*event),
            Kind::Finds => {}
        }
    }
    purchases
}

/// Whether at one time more was taken for certain than there is: from the end of a 201 until it can have come back
/// first.
pub(super) fn more_than_there_is(events: &[Event], stock: i64) -> Option<String> {
    let mut changes = Vec::new();
    for [takes, gives, again] in purchases(events) {
        let taken = takes.filter(|takes| takes.told);
        let back = gives.map_or(u64::MAX, |gives| gives.from);
        if let Some(takes) = taken.filter(|takes| takes.until < back) {
            changes.push((takes.until, takes.units));
            if back < u64::MAX {
                changes.push((back, -takes.units));
            }
        }
        if let Some(again) = again.filter(|again| again.told) {
            changes.push((again.until.max(back), again.units));
        }
    }
    // At one instant what comes back comes first.
    let most = Curve::of(changes).highest(0, u64::MAX);
    (most > stock).then(|| format!("{most} units of {stock} were taken at one time"))
}

/// Whether somebody was told "sold out" while so many can never have been taken.
pub(super) fn sold_out_too_early(events: &[Event], stock: i64) -> Option<String> {
    let mut changes = Vec::new();
    for [takes, gives, again] in purchases(events) {
        let Some(takes) = takes else { continue };
        changes.push((takes.from, takes.units));
        let back = gives.filter(|gives| gives.told && again.is_none());
        // Up to then, and with it.
        if let Some(back) = back {
            changes.push((back.until.saturating_add(1).max(takes.from), -takes.units));
        }
    }
    let possible = Curve::of(changes);
    let finds = events.iter().filter(|event| event.kind == Kind::Finds);
    finds.filter_map(|event| {
        let taken = possible.highest(event.from, event.until);
        let Event { units, until, .. } = event;
        (stock - taken >= *units).then(|| {
            format!("\"sold out\" at {until} us for {units}, when at most {taken} of {stock} were taken")
        })
    })
    .next()
}
