//! Promises about answers: one key, one reservation, one answer.

use std::collections::{BTreeMap, BTreeSet};

use super::digest::Digest;
use super::verdict::{Check, Finding};
use crate::history::{Code, Entry, KeyStory, Op, Seen, is_transient};
use crate::limits::SHARED_BEHIND;

fn granted<'a>(story: &KeyStory<'a>) -> impl Iterator<Item = &'a Entry> {
    story.entries.clone().into_iter().filter(|entry| entry.seen == Seen::Ok)
}

/// Every 201 says what it survives, and says what was set: a lower word would excuse its loss.
pub(super) fn levels_are_those_set(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("levels are those set");
    let set = digest.evidence.scope.level;
    for entry in digest.evidence.history.entries() {
        let Some(receipt) = &entry.receipt else { continue };
        let right = receipt.level.is_some() && (set.is_none() || receipt.level == set);
        finding.expect(right, || {
            let id = entry.reservation.as_deref().unwrap_or_default();
            format!("{id}: told {:?}, set {set:?}", receipt.level)
        });
    }
    finding.check()
}

/// All grants under one key name one reservation, and no reservation has two owners or two keys.
pub(super) fn one_reservation_a_key(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("one reservation a key");
    let mut owner = BTreeMap::new();
    for story in &digest.keys {
        let ids: BTreeSet<_> = granted(story).filter_map(|e| e.reservation.as_deref()).collect();
        let name = || format!("{} of {}", story.key, story.user);
        finding.expect(ids.len() <= 1, || format!("{}: {ids:?}", name()));
        for id in ids {
            let first = owner.entry(id).or_insert((story.user, story.key));
            finding.expect(*first == (story.user, story.key), || {
                format!("{id} was also granted for {}", name())
            });
        }
    }
    finding.check()
}

/// Whether what was granted under a key may be gone, so that it was decided afresh.
fn may_be_lost(digest: &Digest<'_>, story: &KeyStory<'_>) -> bool {
    granted(story).filter_map(|e| e.receipt.as_ref()).any(|r| digest.may_be_lost(r.level))
}

/// All grants under one key are the same to the byte, and none that was asked for after the first answer is
/// the original.
pub(super) fn replays_are_equal(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("replays are equal");
    for story in &digest.keys {
        let grants: Vec<_> = granted(story).collect();
        if grants.len() < 2 || may_be_lost(digest, story) {
            continue;
        }
        let bodies: BTreeSet<_> =
            grants.iter().filter_map(|e| e.receipt.as_ref()).map(|r| r.body_digest).collect();
        let originals: Vec<_> = grants.iter().filter(|entry| !entry.replayed).collect();
        // Of requests that were under way at once nobody can say which was first.
        let first_end = originals.iter().map(|entry| entry.end_us).min().unwrap_or(u64::MAX);
        let late = originals.iter().filter(|entry| entry.start_us > first_end).count();
        finding.expect(bodies.len() == 1 && late == 0, || {
            let (key, bodies) = (story.key, bodies.len());
            format!("{key}: {bodies} bodies, {late} originals after the first")
        });
    }
    finding.check()
}

/// Who was granted something, and asks again, is never told no.
pub(super) fn a_grant_is_never_denied(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("a 201 is never denied");
    for story in &digest.keys {
        if may_be_lost(digest, story) {
            continue;
        }
        for (known_us, entry) in after_its_grant(story) {
            let denied = denial(&entry.seen).filter(|_| !told_behind(digest, known_us, entry));
            finding.look(denied.map(|code| format!("{}: {code} after its 201", story.key)));
        }
    }
    finding.check()
}

/// What was asked under a key once its 201 was known, and since when that was.
fn after_its_grant<'a>(story: &KeyStory<'a>) -> impl Iterator<Item = (u64, &'a Entry)> {
    let known_us = granted(story).map(|entry| entry.end_us).min().unwrap_or(u64::MAX);
    let later = story.entries.clone().into_iter().filter(move |entry| entry.start_us >= known_us);
    later.map(move |entry| (known_us, entry))
}

/// Whether a gateway that shares its ledger may have told this because it had not heard yet of the 201 that was
/// known at that time.
fn told_behind(digest: &Digest<'_>, known_us: u64, entry: &Entry) -> bool {
    let soon = u64::try_from(SHARED_BEHIND.as_micros()).unwrap_or(u64::MAX);
    let Seen::No(code) = &entry.seen else { return false };
    digest.evidence.scope.shared && code == "sold-out" && entry.start_us < known_us + soon
}

/// How many winners were told so.
pub(super) fn count_told_behind(digest: &Digest<'_>) -> usize {
    let told = digest.keys.iter().filter(|story| {
        after_its_grant(story).any(|(known_us, entry)| told_behind(digest, known_us, entry))
    });
    told.count()
}

/// Every no, also one that says to come again, says that nothing was done: who was told no each time is not told
/// afterwards that this is what was granted before. (A first request may be: a gateway whose answer from the ledger was
/// lost asks again, and cannot always tell its own first try from the client's.)
pub(super) fn a_no_is_a_no(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("a no is a no");
    for story in &digest.keys {
        for replay in granted(story).filter(|entry| entry.replayed) {
            let refused = |entry: &Entry| matches!(entry.seen, Seen::No(_));
            let before = || story.entries.iter().filter(|entry| entry.start_us < replay.start_us);
            let each_time = before().count() > 0 && before().all(|entry| refused(entry));
            // What is asked at the same time may be what was granted.
            let beside = story.entries.iter().any(|entry| {
                !entry.replayed
                    && entry.end_us > replay.start_us
                    && entry.start_us <= replay.end_us
                    && !refused(entry)
            });
            finding.expect(!each_time || beside, || {
                format!("{}: a replay of what was refused", story.key)
            });
        }
    }
    finding.check()
}

fn denial(seen: &Seen) -> Option<&Code> {
    match seen {
        Seen::No(code) if !is_transient(code) => Some(code),
        Seen::No(_) | Seen::Ok | Seen::Invoke | Seen::Unknown(_) => None,
    }
}

/// A used key with another body is refused, and as nothing else.
pub(super) fn misuse_is_refused(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("key reuse is refused");
    let misuses = digest.evidence.history.entries().iter().filter(|e| e.op == Op::Misuse);
    for entry in misuses {
        let wrong = match &entry.seen {
            Seen::Ok => Some("granted".to_owned()),
            Seen::No(code) if code == "idempotency-key-reused" || is_transient(code) => None,
            Seen::No(code) => Some(code.to_string()),
            Seen::Invoke | Seen::Unknown(_) => None,
        };
        let key = entry.key.as_deref().unwrap_or_default();
        finding.look(wrong.map(|wrong| format!("{key}: {wrong}")));
    }
    finding.check()
}
