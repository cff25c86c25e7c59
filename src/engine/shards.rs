//! A map that grows without a pause.
//!
//! A hash map that is full moves everything that it has to a place twice as large. With a quarter of a million
//! reservations that takes a tenth of a second, in which a lane serves nobody. Many small ones are full at different
//! times, and each moves little.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

/// A map in `N` parts. Costs one hash more than a map. A part of four thousand entries moves them in a
/// millisecond.
#[derive(Debug)]
pub(super) struct Shards<K, V, const N: usize> {
    parts: Box<[HashMap<K, V>]>,
    /// Chooses the part: another hasher than those of the parts, or each would use a part of its places.
    chooser: RandomState,
}

impl<K, V, const N: usize> Default for Shards<K, V, N> {
    fn default() -> Self {
        let parts = std::iter::repeat_with(HashMap::new).take(N).collect();
        Self { parts, chooser: RandomState::new() }
    }
}

impl<K: Hash + Eq, V, const N: usize> Shards<K, V, N> {
    fn at(&self, key: &K) -> usize {
        // Safe: the remainder is below the number of parts.
        (self.chooser.hash_one(key) % N as u64) as usize
    }

    pub(super) fn part_mut(&mut self, key: &K) -> &mut HashMap<K, V> {
        let at = self.at(key);
        &mut self.parts[at]
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.parts[self.at(key)].get(key)
    }

    /// All entries, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.parts.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that entries are found again, that all are there, and that no part has many more than its share.
    #[test]
    fn parts_share() {
        let mut shards = Shards::<u32, u32, 256>::default();
        for key in 0..100_000_u32 {
            shards.part_mut(&key).insert(key, key + 1);
        }
        assert!((0..100_000).all(|key| shards.get(&key) == Some(&(key + 1))));
        assert_eq!(shards.iter().count(), 100_000);
        let largest = shards.parts.iter().map(HashMap::len).max().unwrap();
        assert!(largest < 2 * 100_000 / 256, "{largest}");
    }
}
