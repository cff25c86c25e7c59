//! What a run measured, in the key names of oha's JSON, so that the same scripts read both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A run. Times are in seconds, as oha writes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// The run in a few figures.
    pub summary: Summary,
    /// Latencies of all answers.
    pub latency_percentiles: LatencyPercentiles,
    /// Requests per second, second by second.
    pub rps: Rps,
    /// Answers by status.
    pub status_code_distribution: BTreeMap<u16, u64>,
    /// Requests without an answer, by cause.
    pub error_distribution: BTreeMap<String, u64>,
}

/// The run in a few figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Answered requests among all, whatever the status.
    pub success_rate: f64,
    /// From the first request to the last answer.
    pub total: f64,
    /// The longest latency.
    pub slowest: f64,
    /// The shortest.
    pub fastest: f64,
    /// The mean.
    pub average: f64,
    /// Answers per second.
    pub requests_per_sec: f64,
    /// Bytes of bodies.
    pub total_data: u64,
    /// Bytes of a body, on average.
    pub size_per_request: Option<u64>,
    /// Bytes of bodies per second.
    pub size_per_sec: f64,
}

/// Latencies: so many of a hundred are at most this.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LatencyPercentiles {
    pub p10: f64,
    pub p25: f64,
    pub p50: f64,
    pub p75: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p999: f64,
    #[serde(rename = "p99.99")]
    pub p9999: f64,
}

/// Answers per second over the whole seconds of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Rps {
    pub mean: f64,
    pub stddev: f64,
    pub max: f64,
    pub min: f64,
}
