//! Which keyed requests this gateway may have handed to the ledger: a Bloom filter over their ids
//! (B. H. Bloom, CACM 13(7), 1970).
//!
//! A buyer whose winning answer was lost asks again under the same key. By then the sale may be sold
//! out or closed, and cheap refusals would tell a winner "no". So before a cheap refusal the gate asks
//! here: "never seen" is certain, and the refusal is true; "maybe" goes to the ledger, which knows.
//! A false "maybe" costs one trip to the ledger and is never wrong.

use crate::sale::ReservationId;
use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bits per unit of stock: with as many requests as units, one in 400 strangers looks seen; with four
/// times as many, one in six. More requests only reach the ledger before a sale has sold out.
const BITS_PER_UNIT: u64 = 16;
/// The smallest filter, 16 KiB. Loom keeps the history of each word, so there it has one.
const BITS_MIN: u64 = if cfg!(floodgate_loom) { 64 } else { 1 << 17 };
/// The largest filter, 32 MiB.
const BITS_MAX: u64 = 1 << 28;

/// A set of ids that never forgets one, and sometimes remembers one too many. Fixed in size; made
/// when the first id comes.
#[derive(Debug)]
pub struct Seen {
    bits: u64,
    words: OnceLock<Box<[AtomicU64]>>,
}

impl Seen {
    /// A filter for a sale of so many units.
    pub fn for_stock(units: u64) -> Self {
        let bits = units.saturating_mul(BITS_PER_UNIT).clamp(BITS_MIN, BITS_MAX);
        Self { bits: bits.next_power_of_two().min(BITS_MAX), words: OnceLock::new() }
    }

    /// Remembers an id. Before its request is handed to the ledger, so that a retry cannot overtake it.
    pub fn insert(&self, id: &ReservationId) {
        let words = self.words.get_or_init(|| {
            (0..self.bits / u64::from(u64::BITS)).map(|_| AtomicU64::new(0)).collect()
        });
        for (word, bit) in self.places(id) {
            // Most ids of a retry storm are there already: do not take the cache line for writing.
            if words[word].load(Relaxed) & bit == 0 {
                words[word].fetch_or(bit, Relaxed);
            }
        }
    }

    /// `false`: certainly never inserted. `true`: probably inserted.
    pub fn contains(&self, id: &ReservationId) -> bool {
        let Some(words) = self.words.get() else { return false };
        self.places(id).into_iter().all(|(word, bit)| words[word].load(Relaxed) & bit != 0)
    }

    fn places(&self, id: &ReservationId) -> [(usize, u64); 4] {
        id.hashes().map(|hash| {
            let bit = u64::from(hash) & (self.bits - 1);
            // Safe: at most BITS_MAX / 64 words, which fits any usize.
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sale::LaneId;

    /// Nothing that was inserted is ever missed, and few strangers are taken for known.
    #[test]
    fn never_forgets() {
        let units = 10_000;
        let seen = Seen::for_stock(units);
        let known: Vec<_> = (0..units).map(|_| ReservationId::random(LaneId(3))).collect();
        assert!(!seen.contains(&known[0]));
        known.iter().for_each(|id| seen.insert(id));
        assert!(known.iter().all(|id| seen.contains(id)));
        let strangers = (0..units).filter(|_| seen.contains(&ReservationId::random(LaneId(3))));
        let strangers = strangers.count();
        assert!(strangers < 100, "{strangers} of {units} strangers look known");
    }
}
