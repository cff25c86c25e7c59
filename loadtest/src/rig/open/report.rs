//! What an open loop has measured: as oha would say it, and phase by phase.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::tally::{Counts, PhaseCounts, histogram};
use crate::rig::RigError;
use crate::rig::meter::{Totals, stats};
use crate::rig::plan::{OpenPlan, Phase};
use crate::rig::stats::Stats;

/// A run. Its first keys are oha's; `phases`, `visits` and `seconds` come on top.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenReport {
    /// The run as a whole.
    #[serde(flatten)]
    pub stats: Stats,
    /// Its phases.
    pub phases: Vec<PhaseReport>,
    /// What became of the visitors, retries and all.
    pub visits: Visits,
    /// Answers by second of the run.
    pub seconds: Vec<Second>,
}

/// A phase. Requests belong to the phase in which they were due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// How long it lasted.
    pub seconds: f64,
    /// Arrivals a second, as planned.
    pub rate: f64,
    /// Requests that were sent, retries included.
    pub sent: u64,
    /// Those of them that were somebody's second try or a later one.
    pub retries: u64,
    /// Sent later than they were due, by more than 10 ms: all connections were busy.
    pub late: u64,
    /// The latest of them, in seconds.
    pub latest: f64,
    /// Due and never sent: no connection was free for as long as they would wait.
    pub dropped: u64,
    /// Answers 201 a second.
    pub goodput: f64,
    /// Answers 201.
    pub accepted: u64,
    /// Other answers.
    pub refused: Vec<Refused>,
    /// Requests without an answer.
    pub unanswered: u64,
    /// Latencies of answers 201, in seconds, from when they were due.
    pub accepted_latency: Times,
    /// The same of the other answers.
    pub refused_latency: Times,
}

/// One kind of refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// The problem's code.
    pub code: String,
    /// How often.
    pub count: u64,
}

/// Latencies in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Times {
    pub p50: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p999: f64,
    pub max: f64,
}

/// What became of the visitors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Visits {
    /// How many came.
    pub visitors: u64,
    /// How many of them got a 201.
    pub served: u64,
    /// How many had neither got one nor given up when the run was over.
    pub left: u64,
    /// From a visitor's first intention to the 201.
    pub served_after: Times,
}

/// A second of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Answers 201.
    pub accepted: u64,
    /// Other answers.
    pub refused: u64,
}

impl Times {
    fn of(latency: &Histogram<u64>) -> Self {
        let at = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e6;
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: latency.max() as f64 / 1e6 }
    }
}

pub(super) fn of(
    counts: &Counts,
    plan: &OpenPlan,
    began: Instant,
    left: u64,
) -> Result<OpenReport, RigError> {
    let mut latency = histogram()?;
    let mut statuses = BTreeMap::new();
    let mut errors: BTreeMap<String, u64> = BTreeMap::new();
    for phase in &counts.phases {
        for part in [&phase.accepted, &phase.others] {
            latency.add(part).map_err(|bad| RigError::Histogram(bad.to_string()))?;
        }
        *statuses.entry(201).or_insert(0) += phase.accepted.len();
        for (status, _, count) in &phase.refused {
            *statuses.entry(*status).or_insert(0) += count;
        }
    }
    statuses.retain(|_, count| *count > 0);
    errors.extend(counts.errors.iter().map(|(cause, count)| ((*cause).to_owned(), *count)));
    let dropped = counts.phases.iter().map(|phase| phase.dropped).sum();
    if dropped > 0 {
        errors.insert("due but never sent".to_owned(), dropped);
    }
    let per_second: Vec<u64> = counts.seconds.iter().map(|(won, other)| won + other).collect();
    let stats = stats(&Totals {
        latency: &latency,
        statuses: &statuses,
        errors: &errors,
        per_second: &per_second,
        body_bytes: counts.body_bytes,
        total: counts.last.saturating_duration_since(began),
    });
    let phases = plan.phases.iter().zip(&counts.phases);
    let second = |&(accepted, refused): &(u64, u64)| Second { accepted, refused };
    Ok(OpenReport {
        stats,
        phases: phases.map(|(phase, counts)| phase_of(phase, counts)).collect(),
        visits: Visits {
            visitors: plan.arrivals(),
            served: counts.visits.len(),
            left,
            served_after: Times::of(&counts.visits),
        },
        seconds: counts.seconds.iter().map(second).collect(),
    })
}

fn phase_of(phase: &Phase, counts: &PhaseCounts) -> PhaseReport {
    let seconds = phase.time.as_secs_f64();
    let accepted = counts.accepted.len();
    let refused = |(status, code, count): &(u16, String, u64)| Refused {
        status: *status,
        code: code.clone(),
        count: *count,
    };
    let mut refused: Vec<Refused> = counts.refused.iter().map(refused).collect();
    refused.sort_by_key(|refused| std::cmp::Reverse(refused.count));
    PhaseReport {
        name: phase.name.clone(),
        seconds,
        rate: phase.rate,
        sent: counts.sent,
        retries: counts.retries,
        late: counts.late,
        latest: counts.latest.as_secs_f64(),
        dropped: counts.dropped,
        goodput: if seconds > 0.0 { accepted as f64 / seconds } else { 0.0 },
        accepted,
        refused,
        unanswered: counts.unanswered,
        accepted_latency: Times::of(&counts.accepted),
        refused_latency: Times::of(&counts.others),
    }
}

impl OpenReport {
    /// Requests that were due and never sent, in all phases: the generator was too slow, or had too
    /// few connections.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.phases.iter().map(|phase| phase.dropped).sum()
    }
}

impl fmt::Display for OpenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12} {:>8} {:>9} {:>8} {:>9} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>8} {:>10}",
            "phase",
            "due/s",
            "sent",
            "retries",
            "201/s",
            "p50 ms",
            "p99 ms",
            "p99.9",
            "late",
            "dropped",
            "refused",
            "p99 ms",
            "unanswered"
        )?;
        for phase in &self.phases {
            let ms = |seconds: f64| seconds * 1e3;
            let refused: u64 = phase.refused.iter().map(|refused| refused.count).sum();
            let (won, lost) = (&phase.accepted_latency, &phase.refused_latency);
            writeln!(
                f,
                "{:<12} {:>8.0} {:>9} {:>8} {:>9.0} {:>8.2} {:>8.2} {:>8.2} {:>8} {:>9} {:>9} {:>8.2} {:>10}",
                phase.name,
                phase.rate,
                phase.sent,
                phase.retries,
                phase.goodput,
                ms(won.p50),
                ms(won.p99),
                ms(won.p999),
                phase.late,
                phase.dropped,
                refused,
                ms(lost.p99),
                phase.unanswered
            )?;
            for Refused { status, code, count } in &phase.refused {
                writeln!(f, "{:<12} {count:>8} times {status} {code}", "")?;
            }
        }
        for (cause, count) in &self.stats.error_distribution {
            writeln!(f, "{count:>21} without answer: {cause}")?;
        }
        let Visits { visitors, served, left, served_after } = &self.visits;
        writeln!(
            f,
            "{served} of {visitors} visitors served, p99 {:.1} ms after their first try; {left} still \
             inside at the end",
            served_after.p99 * 1e3
        )
    }
}

/// For tests and callers that want whole seconds.
impl PhaseReport {
    /// How often it was refused with that code.
    #[must_use]
    pub fn refused_with(&self, code: &str) -> u64 {
        self.refused
            .iter()
            .filter(|refused| refused.code == code)
            .map(|refused| refused.count)
            .sum()
    }

    /// How long it lasted.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds).unwrap_or_default()
    }
}
