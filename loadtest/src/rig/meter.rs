//! Counts while a run goes on. Shared by all its connections, so that what one of them measured is
//! kept even if it hangs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::RigError;
use super::connection::Broken;
use super::response::Head;
use super::stats::{LatencyPercentiles, Rps, Stats, Summary};
use crate::limits::{ERROR_KINDS_MAX, LATENCY_MAX_US, SECONDS_MAX};

/// Shared by its clones.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    began: Instant,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug)]
struct Counts {
    latency: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<String, u64>,
    per_second: Vec<u64>,
    body_bytes: u64,
    last: Instant,
}

impl Meter {
    pub(super) fn new() -> Result<Self, RigError> {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
            .map_err(|bad| RigError::Histogram(bad.to_string()))?;
        let began = Instant::now();
        let counts = Counts {
            latency,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            per_second: Vec::new(),
            body_bytes: 0,
            last: began,
        };
        Ok(Self { began, counts: Arc::new(Mutex::new(counts)) })
    }

    /// When the run began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// An answer to a request that was sent, or should have been sent, at `from`.
    pub(super) fn answered(&self, from: Instant, head: &Head) {
        let now = Instant::now();
        let latency = now.saturating_duration_since(from).as_micros();
        let mut counts = self.lock();
        let latency = u64::try_from(latency).unwrap_or(u64::MAX);
        counts.latency.saturating_record(latency.clamp(1, LATENCY_MAX_US));
        *counts.statuses.entry(head.status).or_insert(0) += 1;
        counts.body_bytes += head.body_bytes as u64;
        counts.last = counts.last.max(now);
        let second = usize::try_from((now - self.began).as_secs()).unwrap_or(usize::MAX);
        let second = second.min(SECONDS_MAX - 1);
        if counts.per_second.len() <= second {
            counts.per_second.resize(second + 1, 0);
        }
        counts.per_second[second] += 1;
    }

    /// A request without an answer.
    pub(super) fn failed(&self, broken: &Broken) {
        self.count_error(&broken.to_string(), 1);
    }

    /// Requests without an answer, for one cause.
    pub(super) fn count_error(&self, cause: &str, times: u64) {
        if times == 0 {
            return;
        }
        let mut counts = self.lock();
        let full = counts.errors.len() >= ERROR_KINDS_MAX && !counts.errors.contains_key(cause);
        let cause = if full { "other" } else { cause };
        *counts.errors.entry(cause.to_owned()).or_insert(0) += times;
    }

    pub(super) fn stats(&self) -> Stats {
        let counts = self.lock();
        stats(&Totals {
            latency: &counts.latency,
            statuses: &counts.statuses,
            errors: &counts.errors,
            per_second: &counts.per_second,
            body_bytes: counts.body_bytes,
            total: counts.last - self.began,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a run has counted.
#[derive(Debug)]
pub(super) struct Totals<'a> {
    pub latency: &'a Histogram<u64>,
    pub statuses: &'a BTreeMap<u16, u64>,
    pub errors: &'a BTreeMap<String, u64>,
    pub per_second: &'a [u64],
    pub body_bytes: u64,
    pub total: Duration,
}

/// The same in oha's words.
pub(super) fn stats(counts: &Totals<'_>) -> Stats {
    let total = counts.total;
    let answered = counts.latency.len();
    let failed: u64 = counts.errors.values().sum();
    let seconds = |us: u64| us as f64 / 1e6;
    let per_second = |count: u64| rate(count, total);
    Stats {
        summary: Summary {
            success_rate: ratio(answered, answered + failed),
            total: total.as_secs_f64(),
            slowest: seconds(counts.latency.max()),
            fastest: if answered == 0 { 0.0 } else { seconds(counts.latency.min()) },
            average: counts.latency.mean() / 1e6,
            requests_per_sec: per_second(answered),
            total_data: counts.body_bytes,
            size_per_request: counts.body_bytes.checked_div(answered),
            size_per_sec: per_second(counts.body_bytes),
        },
        latency_percentiles: percentiles(counts.latency),
        rps: rps(counts.per_second, total, per_second(answered)),
        status_code_distribution: counts.statuses.clone(),
        error_distribution: counts.errors.clone(),
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

fn percentiles(latency: &Histogram<u64>) -> LatencyPercentiles {
    let at = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e6;
    LatencyPercentiles {
        p10: at(0.10),
        p25: at(0.25),
        p50: at(0.50),
        p75: at(0.75),
        p90: at(0.90),
        p95: at(0.95),
        p99: at(0.99),
        p999: at(0.999),
        p9999: at(0.9999),
    }
}

/// Over the seconds that the run filled; a run of less than one counts as a whole.
fn rps(per_second: &[u64], total: Duration, mean: f64) -> Rps {
    let whole = usize::try_from(total.as_secs()).unwrap_or(usize::MAX).min(per_second.len());
    let seconds = &per_second[..whole];
    if seconds.is_empty() {
        return Rps { mean, stddev: 0.0, max: mean, min: mean };
    }
    let mean = seconds.iter().sum::<u64>() as f64 / whole as f64;
    let squares: f64 = seconds.iter().map(|&count| (count as f64 - mean).powi(2)).sum();
    Rps {
        mean,
        stddev: (squares / whole as f64).sqrt(),
        max: seconds.iter().max().copied().unwrap_or(0) as f64,
        min: seconds.iter().min().copied().unwrap_or(0) as f64,
    }
}
