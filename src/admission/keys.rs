//! What buckets there are: the state of a limiter, one number a key, bounded.
//!
//! The arithmetic is governor's (GCRA); what is kept here is its "theoretical arrival time" by key. Keys
//! are kept as keyed hashes: a bucket has the same size whatever a client calls itself, and nobody can
//! make two keys collide on purpose.
//!
//! A bucket that is full again is like one that never was, so sweeping forgets those and changes no
//! decision. Where a shard has no room left, keys that are new to it share one bucket of the same
//! quota. So whoever invents names until the room is used up gets `SHARDS` buckets for all of them
//! together, and takes nothing from those who have one.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use governor::nanos::Nanos;
use governor::state::StateStore;
use metrics::Counter;

use crate::limits;

/// Parts with a lock each. A lock is held for some tens of nanoseconds.
const SHARDS: usize = 64;
/// A shard with so much more room than keys gives it back.
const ROOM_FACTOR: usize = 4;
/// A shard keeps room for so many keys in any case.
const ROOM_MIN: usize = 64;

/// The buckets of one limiter.
pub(super) struct Keys {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    per_shard_max: usize,
    /// Requests that had to use a shared bucket.
    overflowed: Counter,
}

#[derive(Default)]
struct Shard {
    buckets: HashMap<u64, Nanos>,
    /// The bucket of all keys for which there was no room.
    overflow: Option<Nanos>,
}

impl Keys {
    /// Room for at most so many keys.
    pub(super) fn new(keys_max: usize, overflowed: Counter) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            per_shard_max: keys_max / SHARDS,
            overflowed,
        }
    }

    /// The name under which a key's bucket is kept.
    pub(super) fn name(&self, key: &impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// How many buckets there are.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).buckets.len()).sum()
    }

    /// Forgets the buckets of one shard that are full again, and gives back what room they took.
    /// `false` once there is no such shard.
    pub(super) fn sweep(&self, shard: usize, now: Nanos) -> bool {
        let Some(shard) = self.shards.get(shard) else { return false };
        let mut shard = lock(shard);
        shard.buckets.retain(|_, arrival| *arrival > now);
        let wanted = shard.buckets.len().max(ROOM_MIN) * 2;
        if shard.buckets.capacity() > wanted * ROOM_FACTOR / 2 {
            shard.buckets.shrink_to(wanted);
        }
        true
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// By reference, so that a limiter is made for one decision and the state outlives it.
impl StateStore for &Keys {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, name: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // Safe: the remainder of a division by SHARDS fits any usize.
        let mut shard = lock(&self.shards[(name % SHARDS as u64) as usize]);
        if let Some(arrival) = shard.buckets.get_mut(name) {
            let (outcome, next) = decide(Some(*arrival))?;
            *arrival = next;
            return Ok(outcome);
        }
        if shard.buckets.len() < self.per_shard_max {
            let (outcome, next) = decide(None)?;
            shard.buckets.insert(*name, next);
            return Ok(outcome);
        }
        self.overflowed.increment(1);
        let (outcome, next) = decide(shard.overflow)?;
        shard.overflow = Some(next);
        Ok(outcome)
    }
}

const _: () =
    assert!(limits::ADMISSION_KEYS_MAX >= SHARDS, "every shard has room for one key at least");
