//! Takes down what clients see while they see it, in memory and, if asked to, in a file.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::entry::{Entry, Line, Op, Receipt, Seen};
use super::log::Log;
use super::{History, micros};

/// What a client is about to ask for.
#[derive(Clone, Debug)]
pub struct Intent {
    /// What is asked for.
    pub op: Op,
    /// Who asks.
    pub user: Arc<str>,
    /// The idempotency key.
    pub key: Option<Arc<str>>,
    /// The payment's reference.
    pub payment_ref: Option<Arc<str>>,
    /// What is to be reserved.
    pub lines: Arc<[Line]>,
    /// The reservation that it is about.
    pub reservation: Option<Arc<str>>,
    /// It is known to be a repetition of a finished request.
    pub repeats: bool,
}

/// How it ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// What the client saw.
    pub seen: Seen,
    /// The server marked the answer as a replay.
    pub replayed: bool,
    /// The reservation that was made.
    pub reservation: Option<Arc<str>>,
    /// What the 201 said.
    pub receipt: Option<Box<Receipt>>,
}

impl Ending {
    /// An ending that carries nothing but what was seen.
    #[must_use]
    pub fn plain(seen: Seen) -> Self {
        Self { seen, replayed: false, reservation: None, receipt: None }
    }
}

/// An invocation that waits for its ending.
#[derive(Debug)]
#[must_use = "an invocation without an ending counts as unknown"]
pub struct Ticket(usize);

/// Shared by all clients of a crowd. Its memory is bounded by the plan: one entry a request.
#[derive(Debug)]
pub struct Recorder {
    origin: Instant,
    clock: u32,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    entries: Vec<Entry>,
    log: Option<Log>,
    /// The first thing that went wrong with the file.
    failed: Option<io::Error>,
}

impl Recorder {
    /// A recorder that goes on with `history`, and appends to `file` if there is one, syncing it
    /// after every line if `sync` is set.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn open(history: History, file: Option<&Path>, sync: bool) -> io::Result<Self> {
        let log = file.map(|path| Log::append_to(path, sync)).transpose()?;
        let (origin, clock) = match history.origin {
            Some(origin) => (origin, history.clocks().saturating_sub(1)),
            None => (before_now(history.end_us()), history.clocks()),
        };
        Ok(Self {
            origin,
            clock,
            book: Mutex::new(Book { entries: history.entries, log, failed: None }),
        })
    }

    /// Takes down that a request is about to be sent.
    pub fn invoke(&self, intent: Intent) -> Ticket {
        let mut book = self.lock();
        let at = book.entries.len();
        let entry = Entry {
            seq: at as u64,
            op: intent.op,
            user: intent.user,
            key: intent.key,
            payment_ref: intent.payment_ref,
            lines: intent.lines,
            clock: self.clock,
            start_us: self.now_us(),
            end_us: 0,
            seen: Seen::Invoke,
            replayed: intent.repeats,
            reservation: intent.reservation,
            receipt: None,
        };
        book.entries.push(entry);
        book.write(at);
        Ticket(at)
    }

    /// Takes down how it ended.
    pub fn end(&self, ticket: Ticket, ending: Ending) {
        let mut book = self.lock();
        let end_us = self.now_us();
        if let Some(entry) = book.entries.get_mut(ticket.0) {
            entry.end_us = end_us;
            entry.seen = ending.seen;
            entry.replayed |= ending.replayed;
            entry.receipt = ending.receipt;
            if ending.reservation.is_some() {
                entry.reservation = ending.reservation;
            }
        }
        book.write(ticket.0);
    }

    /// How many requests were taken down.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.lock().entries.len() as u64
    }

    /// The history up to now, leaving the recorder empty, and beside it the first error with which
    /// the file could not be written.
    pub fn finish(&self) -> (History, io::Result<()>) {
        let mut book = self.lock();
        let entries = std::mem::take(&mut book.entries);
        let written = match book.failed.take() {
            Some(error) => Err(error),
            None => Ok(()),
        };
        (History { entries, origin: Some(self.origin) }, written)
    }

    fn now_us(&self) -> u64 {
        // Never zero, which stands for "not ended".
        micros(self.origin, Instant::now()).max(1)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn write(&mut self, at: usize) {
        let Self { entries, log: Some(log), failed } = self else {
            return;
        };
        let Some(entry) = entries.get(at) else { return };
        if let Err(error) = log.write(entry) {
            // One report is enough, and half a file is worse than none: stop writing.
            failed.get_or_insert(error);
            self.log = None;
        }
    }
}

/// An instant so early that times of an older history stay in the past.
fn before_now(end_us: u64) -> Instant {
    let now = Instant::now();
    let span = std::time::Duration::from_micros(end_us.saturating_add(1));
    now.checked_sub(span).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::super::{History, Op, Seen};
    use super::{Ending, Intent, Recorder};

    fn intent(user: &str) -> Intent {
        Intent {
            op: Op::Reserve,
            user: user.into(),
            key: Some("k".into()),
            payment_ref: None,
            lines: [].into(),
            reservation: None,
            repeats: false,
        }
    }

    /// Proves that the file holds what memory holds, that a client which dies leaves an `invoke`,
    /// and that a recorder goes on after what a file says.
    #[test]
    fn file_and_memory_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let recorder = Recorder::open(History::new(), Some(&path), true).unwrap();
        let first = recorder.invoke(intent("u1"));
        recorder.end(first, Ending::plain(Seen::No("sold-out".into())));
        let _abandoned = recorder.invoke(intent("u2"));
        let (history, written) = recorder.finish();
        written.unwrap();

        let loaded = History::load(&path).unwrap();
        assert_eq!(loaded.entries(), history.entries());
        assert_eq!(loaded.entries()[1].seen, Seen::Invoke);
        assert_eq!(loaded.outcomes().values().sum::<u64>(), 2);

        let last_us = loaded.entries().iter().map(|entry| entry.end_us).max().unwrap();
        let resumed = Recorder::open(loaded, Some(&path), false).unwrap();
        let third = resumed.invoke(intent("u2"));
        resumed.end(third, Ending::plain(Seen::Ok));
        let (resumed, _) = resumed.finish();
        assert_eq!(resumed.len(), 3);
        assert!(resumed.entries()[2].start_us > last_us);
        assert_eq!(History::load(&path).unwrap().entries(), resumed.entries());
    }
}
