//! What a crowd tells when it has come home. Everything follows from the history, so the figures
//! add up.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::Serialize;

use crate::history::{Entry, History, Op, Seen};

/// What a crowd did and saw.
#[derive(Clone, Debug, Serialize)]
pub struct CrowdReport {
    /// Requests that were sent; the sum of `outcomes`.
    pub attempts: u64,
    /// Requests by how they ended: `reserved`, `replayed`, `cancelled`, `confirmed`, `unknown`, or
    /// a refusal's code.
    pub outcomes: BTreeMap<String, u64>,
    /// Answers that no server may give, described; bounded.
    pub anomalies: Vec<String>,
    /// How many there were.
    pub anomalies_total: u64,
    /// Latencies by outcome, and `all` together.
    pub latency_us: BTreeMap<String, Percentiles>,
    /// From the first request to the last answer, in seconds.
    pub elapsed_seconds: f64,
    /// Different reservations that were granted.
    pub reservations: u64,
    /// Waves of second chances after the burst.
    pub waves: u32,
    /// The crowd was stopped before it had finished.
    pub stopped: bool,
    /// What everybody saw.
    #[serde(skip)]
    pub history: History,
}

/// A distribution of latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// 90 of 100 are at most this.
    pub p90: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// 999 of 1000 are at most this.
    #[serde(rename = "p99.9")]
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

/// What asking again brought to light.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Resolution {
    /// Outcomes that were unknown.
    pub unknown: u64,
    /// Of those, the ones that turned out to be granted.
    pub granted: u64,
    /// Of those, the ones that turned out to be refused.
    pub refused: u64,
    /// Of those, the ones that are still unknown.
    pub unresolved: u64,
    /// Answers that no server may give, described; bounded.
    pub anomalies: Vec<String>,
}

impl CrowdReport {
    pub(super) fn new(history: History, elapsed: Duration) -> Self {
        let outcomes = history.outcomes();
        Self {
            attempts: history.len() as u64,
            anomalies: Vec::new(),
            anomalies_total: 0,
            latency_us: latencies(history.entries()),
            elapsed_seconds: elapsed.as_secs_f64(),
            reservations: reservations(history.entries()),
            waves: 0,
            stopped: false,
            outcomes,
            history,
        }
    }
}

fn reservations(entries: &[Entry]) -> u64 {
    let granted = entries.iter().filter(|entry| entry.op == Op::Reserve && entry.seen == Seen::Ok);
    granted.filter_map(|entry| entry.reservation.as_ref()).collect::<HashSet<_>>().len() as u64
}

fn latencies(entries: &[Entry]) -> BTreeMap<String, Percentiles> {
    let mut by_outcome: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    // What never ended, or never began, took no time that means anything.
    let timed = entries.iter().filter(|entry| entry.end_us > 0 && entry.outcome() != "not-sent");
    for entry in timed {
        let latency = entry.end_us.saturating_sub(entry.start_us);
        by_outcome.entry(entry.outcome()).or_default().push(latency);
        by_outcome.entry("all").or_default().push(latency);
    }
    let of = |(name, mut values): (&str, Vec<u64>)| (name.to_owned(), percentiles(&mut values));
    by_outcome.into_iter().map(of).collect()
}

/// The distribution of values, by the nearest rank.
pub(crate) fn percentiles(values: &mut [u64]) -> Percentiles {
    values.sort_unstable();
    let at = |per_mille: usize| {
        let rank = (values.len() * per_mille).div_ceil(1_000).max(1);
        values.get(rank - 1).copied().unwrap_or(0)
    };
    Percentiles {
        count: values.len() as u64,
        p50: at(500),
        p90: at(900),
        p99: at(990),
        p999: at(999),
        max: at(1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::percentiles;

    /// Proves the nearest rank on a known series, and that nothing gives zeros.
    #[test]
    fn nearest_rank() {
        let mut values: Vec<u64> = (1..=1_000).rev().collect();
        let found = percentiles(&mut values);
        assert_eq!((found.p50, found.p90, found.p99), (500, 900, 990));
        assert_eq!((found.p999, found.max, found.count), (999, 1_000, 1_000));
        assert_eq!(percentiles(&mut []), super::Percentiles::default());
        assert_eq!(percentiles(&mut [7]).p50, 7);
    }
}
