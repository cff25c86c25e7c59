//! A wave: some buyers, in the order in which they come.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Shared by the workers of one wave, who take buyers from it.
#[derive(Debug)]
pub(super) struct Wave {
    /// Zero is the burst; later ones are second chances.
    pub number: u32,
    /// The numbers of the items that are for sale.
    pub items: Vec<usize>,
    buyers: Vec<u64>,
    next: AtomicUsize,
    home: AtomicU64,
}

impl Wave {
    pub(super) fn new(number: u32, buyers: Vec<u64>, items: Vec<usize>) -> Self {
        let (next, home) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { number, items, buyers, next, home }
    }

    /// The next buyer, while there is one.
    pub(super) fn next(&self) -> Option<u64> {
        self.buyers.get(self.next.fetch_add(1, Ordering::Relaxed)).copied()
    }

    /// How many there are.
    pub(super) fn total(&self) -> u64 {
        self.buyers.len() as u64
    }

    /// One more went home; how many have.
    pub(super) fn goes_home(&self) -> u64 {
        self.home.fetch_add(1, Ordering::Relaxed) + 1
    }
}
