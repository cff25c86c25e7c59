//! Carts that were read lately.
//!
//! The store is the truth. A cart that changes is forgotten: by whoever changed it here, by the writer
//! after the transaction that did, and on the word of other gateways. Each kept cart is forgotten after
//! a while in any case, so that a word that was lost makes a cart late, never wrong for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use metrics::Counter;
use moka::sync::Cache;

use super::{Cart, CartKey};
use crate::limits;
use crate::metrics::Metrics;
use crate::sale::UserId;

/// A bounded number of carts.
#[derive(Debug)]
pub struct CartCache {
    carts: Cache<CartKey, Arc<(UserId, Cart)>>,
    /// How often any cart of a shard was forgotten: whoever reads one from the store sees whether it
    /// was forgotten meanwhile.
    forgotten: Box<[AtomicU64]>,
    /// Whether everybody who changes carts says so at the moment.
    told: AtomicBool,
    hits: Counter,
    misses: Counter,
}

/// A read from the store that is under way.
#[derive(Clone, Copy, Debug)]
#[must_use = "what is read is kept"]
pub struct Reading {
    key: CartKey,
    forgotten: u64,
}

/// A read of many carts that is under way.
#[derive(Debug)]
#[must_use = "what is read is kept"]
pub struct Warming(Box<[u64]>);

/// Cells that carts share by their keys.
const SHARDS: usize = 1_024;

impl CartCache {
    /// An empty one.
    pub fn new(metrics: &Metrics) -> Self {
        let counter = |outcome: &str| {
            metrics.counter("floodgate_cart_cache_total", &[("outcome", outcome.to_owned())])
        };
        Self {
            carts: Cache::builder()
                .max_capacity(limits::CARTS_CACHED)
                .time_to_live(Duration::from_millis(limits::CART_CACHE_MS))
                .build(),
            forgotten: (0..SHARDS).map(|_| AtomicU64::new(0)).collect(),
            told: AtomicBool::new(true),
            hits: counter("hit"),
            misses: counter("miss"),
        }
    }

    /// A user's cart, if it is kept; otherwise the right to keep what is read now.
    ///
    /// # Errors
    /// It is not kept.
    pub fn get(&self, user: &UserId) -> Result<Cart, Reading> {
        let key = CartKey::of(user);
        // Before the cart is read, so that whoever forgets it later is seen.
        let forgotten = self.shard(key).load(SeqCst);
        let kept = self.carts.get(&key).filter(|kept| kept.0 == *user);
        match kept.filter(|_| self.told.load(SeqCst)) {
            Some(kept) => {
                self.hits.increment(1);
                Ok(kept.1.clone())
            }
            None => {
                self.misses.increment(1);
                Err(Reading { key, forgotten })
            }
        }
    }

    /// Keeps what was read, unless it was forgotten since the reading began.
    pub fn keep(&self, reading: Reading, user: UserId, cart: Cart) {
        self.carts.insert(reading.key, Arc::new((user, cart)));
        // Whoever forgets counts first and removes then: seen here, or removed there.
        if self.shard(reading.key).load(SeqCst) != reading.forgotten {
            self.carts.invalidate(&reading.key);
        }
    }

    /// Begins to read many.
    pub fn warming(&self) -> Warming {
        Warming(self.forgotten.iter().map(|shard| shard.load(SeqCst)).collect())
    }

    /// Keeps one of them, unless it was forgotten since.
    pub fn keep_warm(&self, warming: &Warming, user: UserId, cart: Cart) {
        let key = CartKey::of(&user);
        let forgotten = warming.0.get((key.0 % SHARDS as u64) as usize).copied().unwrap_or(0);
        self.keep(Reading { key, forgotten }, user, cart);
    }

    /// These carts have changed.
    pub fn forget(&self, keys: &[CartKey]) {
        for &key in keys {
            self.shard(key).fetch_add(1, SeqCst);
            self.carts.invalidate(&key);
        }
    }

    /// Whether others tell of their changes; nothing is answered from memory while they do not.
    pub fn set_told(&self, told: bool) {
        for shard in &self.forgotten {
            shard.fetch_add(1, SeqCst);
        }
        self.carts.invalidate_all();
        self.told.store(told, SeqCst);
    }

    fn shard(&self, key: CartKey) -> &AtomicU64 {
        // Safe: the remainder is below the length.
        &self.forgotten[(key.0 % SHARDS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cart(version: u64) -> Cart {
        Cart { version, ..Cart::default() }
    }

    /// What was forgotten while it was read is not kept.
    #[test]
    fn a_change_during_a_read() {
        let cache = CartCache::new(&Metrics::new());
        let user = UserId::parse("u").unwrap();
        let reading = cache.get(&user).unwrap_err();
        cache.keep(reading, user.clone(), cart(1));
        assert_eq!(cache.get(&user).unwrap(), cart(1));
        cache.forget(&[CartKey::of(&user)]);
        let reading = cache.get(&user).unwrap_err();
        cache.forget(&[CartKey::of(&user)]);
        cache.keep(reading, user.clone(), cart(1));
        assert!(cache.get(&user).is_err(), "an old cart was kept");
    }

    /// A cache that is not told of changes answers nothing, and begins anew when it is again.
    #[test]
    fn untold() {
        let cache = CartCache::new(&Metrics::new());
        let user = UserId::parse("u").unwrap();
        let reading = cache.get(&user).unwrap_err();
        cache.keep(reading, user.clone(), cart(1));
        cache.set_told(false);
        let reading = cache.get(&user).unwrap_err();
        cache.keep(reading, user.clone(), cart(2));
        assert!(cache.get(&user).is_err());
        cache.set_told(true);
        assert!(cache.get(&user).is_err());
    }
}
