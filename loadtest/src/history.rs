//! What every client saw: one entry for each request that was sent, whoever sent it and however
//! it ended. The oracle believes nothing else about the clients.

mod code;
mod entry;
mod level;
mod log;
mod recorder;
mod story;

pub use code::{is_transient, known};
pub use entry::{Code, Entry, Line, Op, Receipt, Seen, digest};
pub use level::Level;
pub use recorder::{Ending, Intent, Recorder, Ticket};
pub use story::{KeyStory, Standing};

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// The entries of one or more crowds, in the order in which they were invoked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    entries: Vec<Entry>,
    /// When the clock of `start_us` and `end_us` began; lost when a history is written to a file.
    #[serde(skip)]
    origin: Option<Instant>,
}

impl History {
    /// A history without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A history of hand-made entries.
    #[must_use]
    pub fn from_entries(entries: Vec<Entry>) -> Self {
        Self { entries, origin: None }
    }

    /// All entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many requests were sent.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Requests by how they ended; the sum is [`len`](Self::len).
    #[must_use]
    pub fn outcomes(&self) -> BTreeMap<String, u64> {
        let mut outcomes = BTreeMap::new();
        for entry in &self.entries {
            match outcomes.get_mut(entry.outcome()) {
                Some(count) => *count += 1,
                None => drop(outcomes.insert(entry.outcome().to_owned(), 1)),
            }
        }
        outcomes
    }

    /// Appends another history. Its times are moved to this one's clock if both are known, else
    /// behind this one's end, so that "later" stays true.
    pub fn append(&mut self, other: Self) {
        if self.entries.is_empty() {
            *self = other;
            return;
        }
        let shift = match self.origin.zip(other.origin) {
            Some((mine, theirs)) => signed_micros(mine, theirs),
            None => i64::try_from(self.end_us()).unwrap_or(i64::MAX).saturating_add(1),
        };
        let clocks =
            if self.origin.is_some() && other.origin.is_some() { 0 } else { self.clocks() };
        for mut entry in other.entries {
            entry.clock = entry.clock.saturating_add(clocks);
            entry.seq = self.entries.len() as u64;
            entry.start_us = entry.start_us.saturating_add_signed(shift);
            if entry.end_us > 0 {
                entry.end_us = entry.end_us.saturating_add_signed(shift).max(1);
            }
            self.entries.push(entry);
        }
    }

    /// How many clocks its times are of.
    fn clocks(&self) -> u32 {
        self.entries.iter().map(|entry| entry.clock + 1).max().unwrap_or(0)
    }

    /// When the last request ended, on the history's own clock.
    fn end_us(&self) -> u64 {
        self.entries.iter().map(|entry| entry.end_us).max().unwrap_or(0)
    }

    /// Reads a file of JSON lines, as a [`Recorder`] writes it. An entry that was invoked and never
    /// ended (its client died) stays `invoke`, which counts as unknown.
    ///
    /// # Errors
    ///
    /// I/O errors, and lines that are no entries; an unfinished last line is left out.
    pub fn load(path: &Path) -> io::Result<Self> {
        log::load(path).map(Self::from_entries)
    }

    /// Writes all entries to a file of JSON lines, replacing it.
    ///
    /// # Errors
    ///
    /// I/O errors.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        log::save(path, &self.entries)
    }

    /// What happened under each (user, key), in order of first use.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyStory<'_>> {
        story::by_key(&self.entries)
    }
}

/// Microseconds from `from` to `to`; zero if `to` is earlier.
fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds from `from` to `to`; negative if `to` is earlier.
fn signed_micros(from: Instant, to: Instant) -> i64 {
    let ahead = i64::try_from(micros(from, to)).unwrap_or(i64::MAX);
    let behind = i64::try_from(micros(to, from)).unwrap_or(i64::MAX);
    ahead.saturating_sub(behind)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Entry, History, Op, Seen};

    fn history(origin: Option<Instant>, start_us: u64, end_us: u64) -> History {
        let entry = Entry {
            seq: 0,
            op: Op::Look,
            user: "u".into(),
            key: None,
            payment_ref: None,
            lines: [].into(),
            clock: 0,
            start_us,
            end_us,
            seen: Seen::Ok,
            replayed: false,
            reservation: None,
            receipt: None,
        };
        History { entries: vec![entry], origin }
    }

    fn times(history: &History) -> Vec<(u64, u64, u64)> {
        history.entries().iter().map(|entry| (entry.seq, entry.start_us, entry.end_us)).collect()
    }

    /// Proves that appended times are moved to one clock where both are known, and behind the end
    /// where they are not; and that what never ended stays so.
    #[test]
    fn appends_on_one_clock() {
        let begin = Instant::now();
        let later = begin + Duration::from_micros(500);
        let mut all = History::new();
        all.append(history(Some(begin), 10, 20));
        all.append(history(Some(later), 10, 20));
        all.append(history(None, 10, 0));
        assert_eq!(times(&all), [(0, 10, 20), (1, 510, 520), (2, 531, 0)]);
        let mut turned = history(Some(later), 600, 700);
        turned.append(history(Some(begin), 550, 1_300));
        assert_eq!(times(&turned), [(0, 600, 700), (1, 50, 800)]);
    }
}
