//! The life of one idempotency key: all that was asked with it, and where it stands.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::code::is_transient;
use super::entry::{Entry, Op, Seen};
use crate::limits::SHARED_BEHIND;

/// All reservation requests of one user with one key, in order of invocation.
#[derive(Clone, Debug)]
pub struct KeyStory<'a> {
    /// Who asked.
    pub user: &'a Arc<str>,
    /// The key.
    pub key: &'a Arc<str>,
    /// The requests; never empty.
    pub entries: Vec<&'a Entry>,
}

/// Where a key stands after all that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It made a reservation.
    Won,
    /// It certainly made none.
    Refused,
    /// Nobody knows: ask again with the same key.
    Unresolved,
}

impl KeyStory<'_> {
    /// Where the key stands.
    ///
    /// A grant settles it. An unknown request is settled by a no only if that was asked for after
    /// the unknown had ended, and was decided by the ledger. "Sold out" has to have been asked for `behind` after
    /// it: it may be the word of a gateway that has not heard yet of what was decided through another
    /// ([`SHARED_BEHIND`]), or cannot know of what is still on its way there ([`LATE_CALL`]).
    ///
    /// [`SHARED_BEHIND`]: crate::limits::SHARED_BEHIND
    /// [`LATE_CALL`]: crate::limits::LATE_CALL
    #[must_use]
    pub fn standing(&self, behind: Duration) -> Standing {
        if self.entries.iter().any(|entry| entry.seen == Seen::Ok) {
            return Standing::Won;
        }
        let settled = |unknown: &Entry| {
            self.entries.iter().any(|later| {
                let sold_out = matches!(&later.seen, Seen::No(code) if code == "sold-out");
                let known_us = if sold_out {
                    let heard = unknown.over_us().saturating_add(micros(SHARED_BEHIND));
                    heard.max(unknown.end_us.saturating_add(micros(behind)))
                } else {
                    unknown.over_us()
                };
                let asked_after = unknown.end_us > 0 && later.start_us >= known_us
                    || unknown.end_us == 0 && later.seq > unknown.seq;
                asked_after && definite_no(later)
            })
        };
        let open = self.entries.iter().any(|entry| entry.is_unknown() && !settled(entry));
        if open { Standing::Unresolved } else { Standing::Refused }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn definite_no(entry: &Entry) -> bool {
    match &entry.seen {
        Seen::No(code) => !is_transient(code),
        Seen::Invoke | Seen::Ok | Seen::Unknown(_) => false,
    }
}

/// Groups the reservation requests that carry a key.
pub(super) fn by_key(entries: &[Entry]) -> Vec<KeyStory<'_>> {
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    let mut stories: Vec<KeyStory<'_>> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.op == Op::Reserve) {
        let Some(key) = &entry.key else { continue };
        let place = *places.entry((&entry.user, key)).or_insert(stories.len());
        if place == stories.len() {
            stories.push(KeyStory { user: &entry.user, key, entries: Vec::with_capacity(1) });
        }
        stories[place].entries.push(entry);
    }
    stories
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::entry::{Entry, Op, Seen};
    use super::super::{History, Standing};
    use super::{SHARED_BEHIND, micros};

    fn entry(start_us: u64, end_us: u64, seen: Seen) -> Entry {
        Entry {
            seq: start_us,
            op: Op::Reserve,
            user: "u1".into(),
            key: Some("k".into()),
            payment_ref: None,
            lines: Arc::from([]),
            clock: 0,
            start_us,
            end_us,
            seen,
            replayed: false,
            reservation: None,
            receipt: None,
        }
    }

    fn standing(entries: Vec<Entry>) -> Standing {
        History::from_entries(entries).keys()[0].standing(SHARED_BEHIND)
    }

    fn unknown() -> Seen {
        Seen::Unknown("disconnected".into())
    }

    fn no(code: &'static str) -> Seen {
        Seen::No(code.into())
    }

    /// Proves that an unknown stays open until somebody asks again and the ledger answers.
    #[test]
    fn unknown_is_settled_by_the_ledger_only() {
        assert_eq!(standing(vec![entry(1, 2, unknown())]), Standing::Unresolved);
        assert_eq!(standing(vec![entry(1, 0, Seen::Invoke)]), Standing::Unresolved);
        let late = 2 + micros(SHARED_BEHIND);
        let then = |seen| standing(vec![entry(1, 2, unknown()), entry(late, late + 1, seen)]);
        assert_eq!(then(Seen::Ok), Standing::Won);
        assert_eq!(then(no("sold-out")), Standing::Refused);
        let at_once = entry(3, 4, no("sold-out"));
        assert_eq!(standing(vec![entry(1, 2, unknown()), at_once]), Standing::Unresolved);
        assert_eq!(then(no("overloaded")), Standing::Unresolved);
        assert_eq!(then(no("not-sent")), Standing::Unresolved);
        assert_eq!(then(unknown()), Standing::Unresolved);
    }

    /// Proves that a no that was asked for beside the unknown does not settle it.
    #[test]
    fn a_concurrent_no_settles_nothing() {
        let twins = vec![entry(1, 5, unknown()), entry(2, 4, no("sold-out"))];
        assert_eq!(standing(twins), Standing::Unresolved);
    }

    /// Proves that refusals without an unknown need no settling, transient or not.
    #[test]
    fn refusals_stand() {
        assert_eq!(standing(vec![entry(1, 2, no("overloaded"))]), Standing::Refused);
        assert_eq!(standing(vec![entry(1, 2, no("sold-out"))]), Standing::Refused);
    }
}
