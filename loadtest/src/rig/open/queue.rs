//! Requests that are due and wait for a free connection, oldest first; and those that will come again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Instant;

use tokio::sync::Semaphore;

use crate::limits::OPEN_QUEUE_MAX;

/// One try of a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Try {
    /// Which visitor.
    pub visitor: u64,
    /// The how manieth try, from 1 on.
    pub tries: u32,
    /// The phase in which it is due.
    pub phase: usize,
    /// When it is due.
    pub due: Instant,
    /// When the visitor's first try was.
    pub first_due: Instant,
}

/// Shared by pacer and workers.
#[derive(Debug)]
pub(super) struct Queue {
    due: Mutex<VecDeque<Try>>,
    /// A permit for each try in the queue; closed when the run is over.
    ready: Semaphore,
    again: mpsc::Sender<Try>,
    coming: Mutex<mpsc::Receiver<Try>>,
    /// Visitors that have come and not gone.
    inside: AtomicU64,
}

impl Queue {
    pub(super) fn new() -> Self {
        // Bounded by who is inside: nobody is in it twice, and a plan has a bound of its own.
        let (again, coming) = mpsc::channel();
        let (due, coming) = (Mutex::new(VecDeque::new()), Mutex::new(coming));
        Self { due, ready: Semaphore::new(0), again, coming, inside: AtomicU64::new(0) }
    }

    /// A visitor comes.
    pub(super) fn enter(&self) {
        self.inside.fetch_add(1, Ordering::Relaxed);
    }

    /// A visitor goes.
    pub(super) fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }

    /// Visitors that never went.
    pub(super) fn left(&self) -> u64 {
        self.inside.load(Ordering::Relaxed)
    }

    /// Lets tries be sent; how many of them the queue had no room for.
    pub(super) fn release(&self, tries: &mut Vec<Try>) -> u64 {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let room = OPEN_QUEUE_MAX.saturating_sub(due.len()).min(tries.len());
        due.extend(tries.drain(..room));
        drop(due);
        self.ready.add_permits(room);
        let surplus = tries.len() as u64;
        tries.clear();
        surplus
    }

    /// The next try that is due; `None` when the run is over. Cancel-safe.
    pub(super) async fn next(&self) -> Option<Try> {
        loop {
            self.ready.acquire().await.ok()?.forget();
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(next) = due.pop_front() {
                return Some(next);
            }
        }
    }

    /// The visitor will come again when this is due.
    pub(super) fn again(&self, next: Try) {
        // The receiver lives as long as the queue.
        let _ = self.again.send(next);
    }

    /// Visitors that said so since the last call.
    pub(super) fn coming(&self, take: impl FnMut(Try)) {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner).try_iter().for_each(take);
    }

    /// Nobody is sent any more.
    pub(super) fn close(&self) {
        self.ready.close();
    }
}
