//! What was changed about a gateway itself, on its way into the audit log.
//!
//! A switch works while the books cannot be reached; that is what it is for. So the entry follows when they
//! can: up to [`limits::NOTES_MAX`] wait in memory. What cannot wait, or still waits when the gateway ends,
//! is an error in the log, where every change stands in any case. A note whose answer was lost is written
//! again, so that it may stand there twice.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{error, warn};

use crate::limits;
use crate::store::{Note, Store};

/// Takes notes. Clones share what waits.
#[derive(Clone, Debug)]
pub struct Notes(mpsc::Sender<Note>);

/// Writes them.
pub struct Scribe {
    notes: mpsc::Receiver<Note>,
    store: Arc<dyn Store>,
    stop: watch::Receiver<bool>,
}

impl Notes {
    /// Notes, and who writes them into a store until `stop` becomes true.
    pub fn new(store: Arc<dyn Store>, stop: watch::Receiver<bool>) -> (Self, Scribe) {
        let (sender, notes) = mpsc::channel(limits::NOTES_MAX);
        (Self(sender), Scribe { notes, store, stop })
    }

    /// Notes that a test looks at itself.
    #[cfg(test)]
    pub fn taken() -> (Self, mpsc::Receiver<Note>) {
        let (sender, notes) = mpsc::channel(limits::NOTES_MAX);
        (Self(sender), notes)
    }

    /// Hands a note over. Never waits.
    pub fn take(&self, note: Note) {
        if let Err(
            mpsc::error::TrySendError::Full(note) | mpsc::error::TrySendError::Closed(note),
        ) = self.0.try_send(note)
        {
            lost(&note);
        }
    }
}

impl Scribe {
    /// Writes what comes, and before it returns, what has come.
    pub async fn run(mut self) {
        loop {
            let note = tokio::select! {
                // Cancel-safe both: a note that was not received is still there.
                note = self.notes.recv() => note,
                _ = self.stop.wait_for(|stop| *stop) => break,
            };
            let Some(note) = note else { return };
            self.write(&note).await;
        }
        // Books that did not take one of the last notes are not waited for again.
        let mut reached = true;
        while let Ok(note) = self.notes.try_recv() {
            if reached {
                reached = self.write(&note).await;
            } else {
                lost(&note);
            }
        }
    }

    /// Tries until it is written, or the gateway ends. Whether it is.
    async fn write(&mut self, note: &Note) -> bool {
        let reply = Duration::from_millis(limits::STORE_REPLY_MS);
        let again = Duration::from_millis(limits::NOTES_RETRY_MS);
        loop {
            // A try that the end came into is followed by one that it did not.
            let last = *self.stop.borrow();
            match timeout(reply, self.store.note(note.clone())).await {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => warn!(%error, "a note for the audit log waits for the books"),
                Err(_) => warn!("a note for the audit log waits for the books"),
            }
            if last {
                lost(note);
                return false;
            }
            // Cut short by the end, which leaves one more try.
            let _ = timeout(again, self.stop.wait_for(|stop| *stop)).await;
        }
    }
}

fn lost(note: &Note) {
    let Note { actor, action, subject, .. } = note;
    error!(%actor, action, ?subject, "the audit log lacks an entry: the books were not reached in time");
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use serde_json::Value;

    use super::*;
    use crate::store::sqlite::{Archives, SqliteStore, path};

    fn note(subject: &str) -> Note {
        Note::of_books("ops", "switch", subject, Value::Null)
    }

    /// Proves that a note which the books cannot take is not lost: it waits, in its place, and is written
    /// once they can, also where the gateway ends meanwhile.
    #[tokio::test]
    async fn the_books_are_away() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(dir.path());
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&file, Archives::No).unwrap());
        let other = Connection::open(&file).unwrap();
        other.execute_batch("ALTER TABLE audit_log RENAME TO elsewhere").unwrap();
        let (stop, stopped) = watch::channel(false);
        let (notes, scribe) = Notes::new(Arc::clone(&store), stopped);
        notes.take(note("first"));
        notes.take(note("second"));
        let scribe = tokio::spawn(scribe.run());
        // It has tried once the first is no longer in the queue.
        while notes.0.capacity() < limits::NOTES_MAX - 1 {
            tokio::task::yield_now().await;
        }
        other.execute_batch("ALTER TABLE elsewhere RENAME TO audit_log").unwrap();
        stop.send_replace(true);
        scribe.await.unwrap();
        let log = store.audit_log(0, 9).await.unwrap();
        let subjects: Vec<_> = log.iter().map(|entry| entry["subject"].clone()).collect();
        assert_eq!(subjects, ["second", "first"], "newest first");
    }

    /// Proves that what has no room is dropped without a wait, and what has room is kept.
    #[tokio::test]
    async fn too_many() {
        let (notes, mut taken) = Notes::taken();
        for n in 0..limits::NOTES_MAX + 3 {
            notes.take(note(&n.to_string()));
        }
        let mut kept = Vec::new();
        while let Ok(note) = taken.try_recv() {
            kept.push(note.subject);
        }
        assert_eq!(kept.len(), limits::NOTES_MAX);
        assert_eq!(kept.last(), Some(&(limits::NOTES_MAX - 1).to_string()));
    }
}
