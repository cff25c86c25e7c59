//! Time is an argument here, so these tests have all of it and wait for none.

use proptest::prelude::*;

use super::*;
use crate::admission::settings::RateSetting;

fn counters() -> Counters {
    let none = Counter::noop;
    Counters { passed: none(), delayed: none(), refused: none(), overflowed: none() }
}

fn bucket(rate: f64, burst: u32) -> Bucket {
    Bucket::new(RateSetting { rate, burst }.quota().unwrap(), counters())
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

proptest! {
    /// Proves that in no stretch of time more is admitted than the burst and what came in meanwhile,
    /// whenever anybody asks; and that whoever is refused is refused until the instant that they were
    /// told, and admitted then.
    #[test]
    fn never_more_than_promised(
        period_us in 1..5_000_000_u64,
        burst in 1..20_u32,
        gaps in prop::collection::vec(0..3_000_000_u64, 1..200),
    ) {
        let quota = Quota::with_period(Duration::from_micros(period_us)).unwrap();
        let bucket = Bucket::new(quota.allow_burst(burst.try_into().unwrap()), counters());
        let period = Duration::from_micros(period_us);
        let mut now = ms(5);
        let mut admitted: Vec<Duration> = Vec::new();
        for gap in gaps {
            now += Duration::from_micros(gap);
            match bucket.take(&"ann", now, Duration::ZERO) {
                Ok(token) => {
                    prop_assert_eq!(token.wait, Duration::ZERO);
                    admitted.push(now);
                }
                Err(Empty { wait }) => {
                    prop_assert!(!wait.is_zero());
                    let there = now + wait;
                    let before = there - Duration::from_nanos(1);
                    prop_assert!(bucket.take(&"ann", before, Duration::ZERO).is_err());
                    prop_assert!(bucket.take(&"ann", there, Duration::ZERO).is_ok());
                    admitted.push(there);
                    now = there;
                }
            }
        }
        for (first, from) in admitted.iter().enumerate() {
            for (number, to) in admitted[first..].iter().enumerate() {
                let came_in = (*to - *from).as_nanos() / period.as_nanos();
                prop_assert!(
                    (number as u128) < u128::from(burst) + came_in,
                    "{} from {from:?} to {to:?}", number + 1
                );
            }
        }
    }

    /// Proves that those who are made to wait leave in order, one period apart after the burst, none of
    /// them later than they have patience for; and that a refusal takes nothing.
    #[test]
    fn smoothing_is_even(
        period_ms in 1..200_u64,
        burst in 1..10_u32,
        patience_ms in 0..2_000_u64,
        gaps in prop::collection::vec(0..100_u64, 1..200),
    ) {
        let quota = Quota::with_period(ms(period_ms)).unwrap();
        let bucket = Bucket::new(quota.allow_burst(burst.try_into().unwrap()), counters());
        let (mut now, mut left) = (ms(5), Vec::new());
        for gap in gaps {
            now += ms(gap);
            match bucket.take(&"ann", now, ms(patience_ms)) {
                Ok(Token { wait, .. }) => {
                    prop_assert!(wait <= ms(patience_ms));
                    left.push(now + wait);
                }
                Err(Empty { wait }) => prop_assert!(wait > ms(patience_ms)),
            }
        }
        prop_assert!(left.is_sorted());
        let burst = burst as usize;
        for pair in left.windows(burst + 1) {
            prop_assert!(pair[burst] - pair[0] >= ms(period_ms));
        }
    }
}

/// Proves that what is left is told truly, and comes back with time.
#[test]
fn remaining() {
    let bucket = bucket(10.0, 3);
    let take = |at| bucket.take(&"ann", ms(at), Duration::ZERO);
    let left: Vec<_> = (0..3).map(|_| take(1_000).unwrap().remaining).collect();
    assert_eq!(left, [2, 1, 0]);
    assert_eq!(take(1_000), Err(Empty { wait: ms(100) }));
    assert_eq!(take(1_040), Err(Empty { wait: ms(60) }));
    assert_eq!(take(1_200).map(|token| token.remaining), Ok(1), "two came in, one is taken");
    assert_eq!(take(9_000).map(|token| token.remaining), Ok(2), "never more than the burst");
}

/// Proves that keys have buckets of their own.
#[test]
fn keys_are_apart() {
    let bucket = bucket(0.001, 2);
    let takes = |key: &str| (0..5).filter(|_| bucket.take(&key, ms(1), ms(0)).is_ok()).count();
    assert_eq!([takes("ann"), takes("bob"), takes("ann")], [2, 2, 0]);
}

/// Proves that forgetting full buckets changes no decision, and that none is forgotten that is not full.
#[test]
fn sweeping_changes_nothing() {
    let (swept, kept) = (bucket(10.0, 3), bucket(10.0, 3));
    for step in 0..2_000_u64 {
        let (key, at) = (step * step % 97, ms(step * 7));
        assert_eq!(swept.take(&key, at, ms(0)), kept.take(&key, at, ms(0)), "{step}");
        for shard in 0.. {
            if !swept.keys.sweep(shard, Nanos::from(at)) {
                break;
            }
        }
    }
    assert!(swept.keys.len() < kept.keys.len());
    assert_eq!(kept.keys.len(), 49, "the squares modulo 97");
}

/// Proves that a million names in a limit's memory do not pass its bound; that those who came first keep
/// their buckets; that those who came too late share what a few would have; and that sweeping gives the
/// room back to newcomers.
#[test]
fn names_are_bounded() {
    const NAMES: usize = 1_000_000;
    /// Room for all keys that there may be, twice while it grows, and for what other tests do meanwhile.
    const BYTES_MAX: usize = 64 << 20;
    let bucket = bucket(0.01, 2);
    let bytes_before = resident_bytes();
    let take = |name: usize, at| bucket.take(&name, at, Duration::ZERO).is_ok();
    let admitted = (0..NAMES).filter(|name| take(*name, ms(1))).count();
    let keys = bucket.keys.len();
    assert!(keys <= limits::ADMISSION_KEYS_MAX, "{keys}");
    assert!(keys > limits::ADMISSION_KEYS_MAX * 99 / 100, "the room is used: {keys}");
    let bytes = resident_bytes().saturating_sub(bytes_before);
    println!("{keys} keys in {bytes} bytes");
    assert!(bytes < BYTES_MAX, "{bytes}");
    let shared = admitted - keys;
    assert!(shared <= 64 * 2, "{shared} of {} newcomers", NAMES - keys);
    assert!(shared > 0, "the shared buckets have tokens as well");
    assert!((0..1_000).all(|name| take(name, ms(1))), "the second of each one's two");
    let later = Duration::from_secs(1_000);
    let mut shards = 0;
    while bucket.keys.sweep(shards, Nanos::from(later)) {
        shards += 1;
    }
    assert_eq!(bucket.keys.len(), 0);
    assert!((NAMES..NAMES + 1_000).all(|name| take(name, later)));
}

/// What this process has in memory.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Proves that threads that ask at the same time get as many tokens as there are, not one more.
#[test]
fn no_token_twice() {
    let bucket = bucket(0.001, 1_000);
    let taken: usize = std::thread::scope(|scope| {
        let take = || (0..1_000).filter(|_| bucket.take(&(), ms(1), ms(0)).is_ok()).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(taken, 1_000);
}
