//! The smallest case: whose requests and orders, or which answers, are enough for a check to fail.

use std::collections::{BTreeMap, BTreeSet};

use super::digest::Digest;
use super::linear::one_line_of_time;
use super::{Books, Evidence, judge};
use crate::history::{Entry, History, Op, Seen, known};
use crate::limits::SHRINK_TRIES_MAX;

/// Checks whose fault lies with users, not with counters.
const OF_USERS: [&str; 13] = [
    "limits kept",
    "an order for every 201",
    "told ends stand",
    "one reservation a key",
    "replays are equal",
    "a 201 is never denied",
    "a no is a no",
    "key reuse is refused",
    "levels are those set",
    "holds last",
    "late payments go back",
    "carts",
    "no order without a request",
];

/// The check whose fault lies with answers, whoever's they are.
const OF_ANSWERS: &str = "one line of time";

/// The entries of as few users as can be for which `check` still fails; of "one line of time", as few answers as
/// cannot all be true, whatever the others were. `None` where it does not fail, or where its fault lies with
/// counters, which count everybody.
#[must_use]
pub fn smallest_case(evidence: &Evidence<'_>, check: &str) -> Option<Vec<Entry>> {
    if check == OF_ANSWERS {
        return fewest_answers(evidence);
    }
    if !OF_USERS.contains(&check) {
        return None;
    }
    let entries = evidence.history.entries().iter().map(|entry| &*entry.user);
    let orders = evidence.books.orders.iter().map(|order| &*order.user_id);
    let users: Vec<&str> = entries.chain(orders).collect::<BTreeSet<_>>().into_iter().collect();
    let kept = fewest(users, |users| {
        let kept: BTreeSet<&str> = users.iter().copied().collect();
        let (history, books) = of_users(evidence, &kept);
        let part = Evidence { history: &history, books: &books, ..*evidence };
        judge(&part).check(check).is_some_and(|check| !check.ok)
    })?;
    let kept: BTreeSet<&str> = kept.into_iter().collect();
    Some(of_users(evidence, &kept).0.entries().to_vec())
}

/// As few answers as cannot all be true. The others are not left out but forgotten: without whoever took a unit, a
/// true "sold out" would be false.
fn fewest_answers(evidence: &Evidence<'_>) -> Option<Vec<Entry>> {
    let entries = evidence.history.entries();
    let moves = |entry: &Entry| matches!(entry.op, Op::Reserve | Op::Cancel | Op::Confirm);
    let told = |entry: &Entry| matches!(entry.seen, Seen::Ok | Seen::No(_));
    let answers = (0..entries.len()).filter(|at| moves(&entries[*at]) && told(&entries[*at]));
    let answers: BTreeSet<usize> = answers.collect();
    let kept = fewest(answers.iter().copied().collect(), |kept| {
        let kept: BTreeSet<usize> = kept.iter().copied().collect();
        let mut partly = entries.to_vec();
        for at in answers.difference(&kept) {
            partly[*at].seen = Seen::Unknown(known("forgotten"));
        }
        let history = History::from_entries(partly);
        let part = Evidence { history: &history, ..*evidence };
        !one_line_of_time(&Digest::new(&part)).0.ok
    })?;
    Some(kept.into_iter().map(|at| entries[at].clone()).collect())
}

/// As few of them as can be with which it still fails; `None` where it does not fail with all. Halves first, then
/// quarters, down to single ones (Zeller and Hildebrandt, TSE 28(2), 2002), and no more than so many tries.
fn fewest<T: Copy>(mut all: Vec<T>, fails: impl Fn(&[T]) -> bool) -> Option<Vec<T>> {
    if !fails(&all) {
        return None;
    }
    let mut tries = 0;
    let mut part = all.len().div_ceil(2);
    while all.len() > 1 && tries < SHRINK_TRIES_MAX {
        let starts = || (0..all.len()).step_by(part);
        let alone = starts().map(|at| all[at..all.len().min(at + part)].to_vec());
        let without = starts().map(|at| {
            let end = all.len().min(at + part);
            [&all[..at], &all[end..]].concat()
        });
        let mut smaller = alone.chain(without).filter(|kept| kept.len() < all.len());
        let found = smaller.find(|kept| {
            tries += 1;
            tries <= SHRINK_TRIES_MAX && fails(kept)
        });
        match found {
            Some(kept) => {
                all = kept;
                part = part.min(all.len().div_ceil(2)).max(1);
            }
            None if part == 1 => break,
            None => part = part.div_ceil(2),
        }
    }
    Some(all)
}

fn of_users(evidence: &Evidence<'_>, users: &BTreeSet<&str>) -> (History, Books) {
    let entries = evidence.history.entries().iter();
    let entries = entries.filter(|entry| users.contains(&*entry.user)).cloned().collect();
    let mut books = evidence.books.clone();
    books.orders.retain(|order| users.contains(&*order.user_id));
    books.cart_lines.retain(|line| users.contains(&*line.user_id));
    books.refunds_needed.retain(|refund| users.contains(&*refund.user_id));
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
