//! The smallest case: whose requests and orders are enough for a check to fail.

use std::collections::{BTreeMap, BTreeSet};

use super::{Books, Evidence, judge};
use crate::history::{Entry, History};

/// Checks whose fault lies with users, not with counters. Only these can be shrunk: a counter counts
/// everybody.
const OF_USERS: [&str; 10] = [
    "limits kept",
    "an order for every 201",
    "told ends stand",
    "one reservation a key",
    "replays are equal",
    "a 201 is never denied",
    "a no is a no",
    "key reuse is refused",
    "carts",
    "no order without a request",
];

/// The entries of as few users as can be for which `check` still fails. `None` where it does not fail, or
/// where its fault does not lie with users.
#[must_use]
pub fn smallest_case(evidence: &Evidence<'_>, check: &str) -> Option<Vec<Entry>> {
    if !OF_USERS.contains(&check) {
        return None;
    }
    let fails = |users: &[&str]| {
        let kept: BTreeSet<&str> = users.iter().copied().collect();
        let (history, books) = of_users(evidence, &kept);
        let part = Evidence { history: &history, books: &books, ..*evidence };
        judge(&part).check(check).is_some_and(|check| !check.ok)
    };
    let entries = evidence.history.entries().iter().map(|entry| &*entry.user);
    let orders = evidence.books.orders.iter().map(|order| &*order.user_id);
    let mut users: Vec<&str> = entries.chain(orders).collect::<BTreeSet<_>>().into_iter().collect();
    if !fails(&users) {
        return None;
    }
    // Halves first, then quarters, down to single users (Zeller and Hildebrandt, TSE 28(2), 2002).
    let mut part = users.len().div_ceil(2);
    while users.len() > 1 {
        let chunks: Vec<Vec<&str>> = users.chunks(part).map(<[_]>::to_vec).collect();
        let without = |out: &Vec<&str>| -> Vec<&str> {
            users.iter().copied().filter(|user| !out.contains(user)).collect()
        };
        let candidates = chunks.iter().cloned().chain(chunks.iter().map(without));
        let smaller = candidates.filter(|kept| kept.len() < users.len()).find(|kept| fails(kept));
        match smaller {
            Some(kept) => {
                users = kept;
                part = part.min(users.len().div_ceil(2)).max(1);
            }
            None if part == 1 => break,
            None => part = part.div_ceil(2),
        }
    }
    let kept: BTreeSet<&str> = users.into_iter().collect();
    Some(of_users(evidence, &kept).0.entries().to_vec())
}

fn of_users(evidence: &Evidence<'_>, users: &BTreeSet<&str>) -> (History, Books) {
    let entries = evidence.history.entries().iter();
    let entries = entries.filter(|entry| users.contains(&*entry.user)).cloned().collect();
    let mut books = evidence.books.clone();
    books.orders.retain(|order| users.contains(&*order.user_id));
    books.cart_lines.retain(|line| users.contains(&*line.user_id));
    (History::from_entries(entries), books)
}

/// How often each user stands in a case, for the report.
pub(super) fn users(case: &[Entry]) -> BTreeMap<&str, usize> {
    let mut users = BTreeMap::new();
    for entry in case {
        *users.entry(&*entry.user).or_default() += 1;
    }
    users
}
