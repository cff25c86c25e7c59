//! All token buckets of a gateway, as they are configured now.
//!
//! A request pays, in this order, out of its user's bucket, its address's, its sale's and everybody's,
//! and stops at the first that is empty. So whoever is refused as a user has taken nothing from those
//! behind the same address, and whoever is refused as an address nothing from the sale.
//!
//! What is in force is swapped as a whole; a limit whose quota stays keeps its buckets.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use governor::Quota;
use governor::nanos::Nanos;
use metrics::Gauge;
use tokio::sync::{Semaphore, watch};

use super::bucket::{Bucket, Counters, Empty, Token};
use super::limit::Limit;
use super::network::Network;
use super::settings::{AdmissionSettings, HeaderStyle, RateSetting};
use super::standing::{Admitted, RateLimited, Standing};
use crate::limits;
use crate::metrics::Metrics;

/// Who asks for what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asking<'a> {
    /// The buyer, if they are known.
    pub user: Option<&'a str>,
    /// The client's address, if it is known.
    pub client: Option<IpAddr>,
    /// The sale that units are wanted of.
    pub sale: Option<&'a str>,
}

/// The token buckets of a gateway.
pub struct Buckets {
    set: ArcSwap<Set>,
    /// When the buckets' time began.
    origin: Instant,
    counters: [Counters; Limit::ALL.len()],
    keys: [Gauge; Limit::ALL.len()],
    /// A permit for each request that may wait for a token.
    waiting: Semaphore,
    /// The quota of users that all gateways keep together.
    shared: watch::Sender<Option<Quota>>,
}

/// What is in force.
struct Set {
    buckets: [Option<Arc<Bucket>>; Limit::ALL.len()],
    patience: Duration,
    backlog: Duration,
    headers: HeaderStyle,
}

/// What a request has to pay out of its buckets, and how it went.
struct Payment {
    wait: Duration,
    standing: Option<Standing>,
}

impl Buckets {
    /// Buckets that are full.
    pub fn new(settings: &AdmissionSettings, metrics: &Metrics) -> Self {
        let counters = Limit::ALL.map(|limit| {
            let counter = |outcome: &str| {
                let labels = [("gate", limit.as_str().to_owned()), ("outcome", outcome.to_owned())];
                metrics.counter("floodgate_admission_total", &labels)
            };
            Counters {
                passed: counter("passed"),
                delayed: counter("delayed"),
                refused: counter("refused"),
                overflowed: counter("overflowed"),
            }
        });
        let keys = Limit::ALL.map(|limit| {
            metrics.gauge("floodgate_admission_keys", &[("gate", limit.as_str().to_owned())])
        });
        let none = Set {
            buckets: Default::default(),
            patience: Duration::ZERO,
            backlog: Duration::ZERO,
            headers: HeaderStyle::Off,
        };
        let set = ArcSwap::from_pointee(Set::of(settings, &none, &counters));
        let waiting = Semaphore::new(limits::SMOOTH_WAITING_MAX);
        let shared = watch::Sender::new(settings.shared_quota());
        Self { set, origin: Instant::now(), counters, keys, waiting, shared }
    }

    /// Takes other settings into force. A limit whose quota stays keeps its buckets; another begins with
    /// full ones.
    pub fn reconfigure(&self, settings: &AdmissionSettings) {
        self.set.rcu(|set| Set::of(settings, set, &self.counters));
        self.shared.send_replace(settings.shared_quota());
    }

    /// How often a user may reserve through all gateways together, as it is now, for the ledger that they share.
    pub fn shared_quota(&self) -> watch::Receiver<Option<Quota>> {
        self.shared.subscribe()
    }

    /// What a user is told who asks more often than that.
    pub fn limited_by_all(&self, quota: &Quota, wait: Duration) -> RateLimited {
        RateLimited(Standing::new(Limit::PerUser, quota, 0, wait, self.set.load().headers))
    }

    /// How long a new reservation may have to wait for its lane.
    pub fn backlog(&self) -> Duration {
        self.set.load().backlog
    }

    /// Lets a write through, perhaps after a wait; or refuses it. Nothing else is done.
    ///
    /// Cancel-safe: whoever goes away while waiting has used up the token.
    ///
    /// # Errors
    /// [`RateLimited`].
    pub async fn admit_write(&self, asking: Asking<'_>) -> Result<Admitted, RateLimited> {
        let (Payment { wait, standing }, _permit) = {
            let set = self.set.load();
            // Whoever finds no room to wait pays at once or not at all.
            let permit =
                if set.patience.is_zero() { None } else { self.waiting.try_acquire().ok() };
            let patience = if permit.is_some() { set.patience } else { Duration::ZERO };
            (self.pay(&set, Limit::WRITES, asking, patience)?, permit)
        };
        if wait.is_zero() {
            return Ok(Admitted { standing, waited: false });
        }
        tokio::time::sleep(wait).await;
        Ok(Admitted { standing, waited: true })
    }

    /// Lets a read through, or refuses it. Reads never wait.
    ///
    /// # Errors
    /// [`RateLimited`].
    pub fn admit_read(&self, asking: Asking<'_>) -> Result<(), RateLimited> {
        let set = self.set.load();
        self.pay(&set, Limit::READS, asking, Duration::ZERO).map(|_| ())
    }

    fn pay<const N: usize>(
        &self,
        set: &Set,
        limits: [Limit; N],
        asking: Asking<'_>,
        patience: Duration,
    ) -> Result<Payment, RateLimited> {
        let mut payment = Payment { wait: Duration::ZERO, standing: None };
        let mut now = None;
        for limit in limits {
            let Some(bucket) = &set.buckets[limit.index()] else { continue };
            let now = *now.get_or_insert_with(|| self.origin.elapsed());
            let Some(taken) = take(bucket, limit, asking, now, patience) else { continue };
            let standing =
                |remaining, wait| Standing::new(limit, &bucket.quota, remaining, wait, set.headers);
            match taken {
                Ok(Token { wait, remaining }) => {
                    payment.wait = payment.wait.max(wait);
                    if limit == Limit::PerUser {
                        payment.standing = Some(standing(remaining, Duration::ZERO));
                    }
                }
                Err(Empty { wait }) => return Err(RateLimited(standing(0, wait))),
            }
        }
        Ok(payment)
    }

    /// Forgets buckets that are full again, over and over. Ends when dropped.
    pub async fn keep_swept(self: Arc<Self>) {
        let mut every = tokio::time::interval(Duration::from_millis(limits::ADMISSION_SWEEP_MS));
        loop {
            every.tick().await;
            self.sweep().await;
        }
    }

    /// Forgets buckets that are full again, and tells how many are left.
    pub async fn sweep(&self) {
        let now = Nanos::from(self.origin.elapsed());
        let set = self.set.load_full();
        for limit in Limit::ALL {
            let mut left = 0;
            if let Some(bucket) = &set.buckets[limit.index()] {
                let mut shard = 0;
                while bucket.keys.sweep(shard, now) {
                    shard += 1;
                    // A full shard takes some tens of microseconds: others may want the thread.
                    tokio::task::yield_now().await;
                }
                left = bucket.keys.len();
            }
            self.keys[limit.index()].set(left as f64);
        }
    }

    /// How many buckets a limit has.
    pub fn keys(&self, limit: Limit) -> usize {
        let set = self.set.load();
        set.buckets[limit.index()].as_ref().map_or(0, |bucket| bucket.keys.len())
    }
}

/// Takes a token of the bucket that a limit has for a request; `None` where the limit is not for it.
fn take(
    bucket: &Bucket,
    limit: Limit,
    asking: Asking<'_>,
    now: Duration,
    patience: Duration,
) -> Option<Result<Token, Empty>> {
    Some(match limit {
        Limit::PerUser | Limit::ReadsPerUser => bucket.take(&asking.user?, now, patience),
        Limit::PerIp | Limit::ReadsPerIp => {
            bucket.take(&Network::of(asking.client?), now, patience)
        }
        Limit::PerSale => bucket.take(&asking.sale?, now, patience),
        Limit::Global => bucket.take(&(), now, patience),
    })
}

impl Set {
    fn of(
        settings: &AdmissionSettings,
        before: &Set,
        counters: &[Counters; Limit::ALL.len()],
    ) -> Self {
        let buckets = Limit::ALL.map(|limit| {
            let quota = rate(settings, limit).quota()?;
            let kept = before.buckets[limit.index()].as_ref();
            let kept = kept.filter(|bucket| bucket.quota == quota).map(Arc::clone);
            let counters = &counters[limit.index()];
            Some(kept.unwrap_or_else(|| Arc::new(Bucket::new(quota, counters.clone()))))
        });
        let backlog = Duration::from_millis(settings.backlog_ms);
        Self { buckets, patience: settings.patience(), backlog, headers: settings.headers }
    }
}

fn rate(settings: &AdmissionSettings, limit: Limit) -> RateSetting {
    match limit {
        Limit::PerUser => settings.per_user,
        Limit::PerIp => settings.per_ip,
        Limit::PerSale => settings.per_sale,
        Limit::Global => settings.global,
        Limit::ReadsPerUser => settings.reads.per_user,
        Limit::ReadsPerIp => settings.reads.per_ip,
    }
}

impl std::fmt::Debug for Buckets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buckets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
