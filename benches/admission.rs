//! What the token buckets cost a request: every limit alone, all of them together, let through and
//! refused, and with many keys.
//!
//! "passed" has a bucket that never runs empty, "refused" one that is. Contention is not measured here:
//! everything runs on one thread.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use floodgate::admission::{AdmissionSettings, Asking, Buckets, RateSetting, ReadSettings};
use floodgate::metrics::Metrics;

/// A bucket that never runs empty.
const AMPLE: RateSetting = RateSetting { rate: 1_000_000.0, burst: 1_000_000 };
/// A bucket that has one token a day.
const EMPTY: RateSetting = RateSetting { rate: 0.000_1, burst: 1 };
/// Users that ask in turn where there are many.
const MANY: usize = 400_000;

fn asking() -> Asking<'static> {
    Asking { user: Some("user-4711"), client: Some(IpAddr::from([192, 0, 2, 1])), sale: Some("bf") }
}

/// Each limit by its name, alone, as it is set by `rate`.
fn alone(rate: RateSetting) -> [(&'static str, AdmissionSettings); 5] {
    let off = AdmissionSettings::unlimited();
    let all = AdmissionSettings { per_user: rate, per_ip: rate, per_sale: rate, ..off.clone() };
    [
        ("per_user", AdmissionSettings { per_user: rate, ..off.clone() }),
        ("per_ip", AdmissionSettings { per_ip: rate, ..off.clone() }),
        ("per_sale", AdmissionSettings { per_sale: rate, ..off.clone() }),
        ("global", AdmissionSettings { global: rate, ..off }),
        ("all_four", AdmissionSettings { global: rate, ..all }),
    ]
}

fn checks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("admission");
    let metrics = Metrics::new();
    let mut bench = |name: String, buckets: &Buckets| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let admitted = buckets.admit_write(black_box(asking()));
                black_box(futures_now(admitted))
            });
        });
    };
    bench("none".to_owned(), &Buckets::new(&AdmissionSettings::unlimited(), &metrics));
    for (outcome, rate) in [("passed", AMPLE), ("refused", EMPTY)] {
        for (name, settings) in alone(rate) {
            let buckets = Buckets::new(&settings, &metrics);
            // The one token that the empty bucket has.
            assert!(futures_now(buckets.admit_write(asking())).is_some());
            bench(format!("{name}/{outcome}"), &buckets);
        }
    }
    let off = AdmissionSettings::unlimited();
    let reads = ReadSettings { per_user: AMPLE, per_ip: AMPLE };
    let buckets = Buckets::new(&AdmissionSettings { reads, ..off.clone() }, &metrics);
    group.bench_function("read/passed", |bencher| {
        bencher.iter(|| buckets.admit_read(black_box(asking())).is_ok());
    });
    let slow = RateSetting { rate: 0.001, burst: 1_000 };
    let buckets = Buckets::new(&AdmissionSettings { per_user: slow, ..off }, &metrics);
    let users: Vec<String> = (0..MANY).map(|user| format!("user-{user}")).collect();
    let mut next = users.iter().cycle();
    group.bench_function("per_user/among_400k", |bencher| {
        bencher.iter(|| {
            let asking = Asking { user: next.next().map(String::as_str), ..asking() };
            black_box(futures_now(buckets.admit_write(asking)))
        });
    });
    group.finish();
}

/// The output of a future that has no reason to wait.
fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

criterion_group!(benches, checks);
criterion_main!(benches);
