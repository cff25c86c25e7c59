//! Whether the figures are what a scenario wants. They say how fast it was; whether the books are right
//! is the judge's business.

use serde::Serialize;

use super::file::Expect;
use crate::rig::OpenReport;

/// A figure that is not what was wanted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Miss {
    /// What was wanted.
    pub wanted: String,
    /// What was seen.
    pub seen: String,
}

impl Expect {
    pub(super) fn misses(&self, report: &OpenReport, capacity: Option<f64>) -> Vec<Miss> {
        let mut misses = Vec::new();
        let mut miss = |missed: bool, wanted: String, seen: String| {
            if missed {
                misses.push(Miss { wanted, seen });
            }
        };
        if self.nothing_dropped {
            let dropped = report.dropped();
            miss(dropped > 0, "nothing dropped".to_owned(), format!("{dropped} dropped"));
        }
        if self.all_answered {
            let unanswered: u64 = report.phases.iter().map(|phase| phase.unanswered).sum();
            let seen = format!("{unanswered} without an answer");
            miss(unanswered > 0, "all answered".to_owned(), seen);
        }
        for phase in report.phases.iter().filter(|phase| phase.accepted > 0) {
            if let Some(bound) = self.accepted_p99_ms {
                let p99 = phase.accepted_latency.p99 * 1e3;
                let wanted = format!("{}: p99 of answers 201 at most {bound} ms", phase.name);
                miss(p99 > bound, wanted, format!("{p99:.1} ms"));
            }
            let (Some(share), Some(capacity)) = (self.goodput_of_capacity, capacity) else {
                continue;
            };
            if phase.rate >= share * capacity {
                let wanted =
                    format!("{}: at least {:.0} times 201/s", phase.name, share * capacity);
                let seen = format!("{:.0}", phase.goodput);
                miss(phase.goodput < share * capacity, wanted, seen);
            }
        }
        misses
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Expect;
    use crate::rig::{
        LatencyPercentiles, OpenReport, PhaseReport, Rps, Stats, Summary, Times, Visits,
    };

    fn phase(rate: f64, goodput: f64) -> PhaseReport {
        PhaseReport {
            name: format!("{rate}"),
            seconds: 1.0,
            rate,
            sent: 10,
            retries: 0,
            late: 0,
            latest: 0.0,
            dropped: 0,
            goodput,
            accepted: 10,
            refused: Vec::new(),
            unanswered: 0,
            accepted_latency: Times { p50: 0.001, p99: 0.02, p999: 0.03, max: 0.04 },
            refused_latency: Times::default(),
        }
    }

    fn report() -> OpenReport {
        let summary = Summary {
            success_rate: 1.0,
            total: 1.0,
            slowest: 0.0,
            fastest: 0.0,
            average: 0.0,
            requests_per_sec: 0.0,
            total_data: 0,
            size_per_request: None,
            size_per_sec: 0.0,
        };
        let stats = Stats {
            summary,
            latency_percentiles: LatencyPercentiles::default(),
            rps: Rps::default(),
            status_code_distribution: BTreeMap::new(),
            error_distribution: BTreeMap::new(),
        };
        let visits = Visits { visitors: 20, served: 20, left: 0, served_after: Times::default() };
        let phases = vec![phase(80.0, 80.0), phase(1_000.0, 75.0)];
        OpenReport { stats, phases, visits, seconds: Vec::new() }
    }

    /// Proves that each wanted figure is missed where it is not there, and only there, and that goodput
    /// is wanted only of phases that offer enough.
    #[test]
    fn misses() {
        let wanted = Expect {
            nothing_dropped: true,
            all_answered: true,
            accepted_p99_ms: Some(20.0),
            goodput_of_capacity: Some(0.75),
            ..Expect::default()
        };
        let missed = |spoil: fn(&mut OpenReport)| {
            let mut report = report();
            spoil(&mut report);
            wanted
                .misses(&report, Some(100.0))
                .into_iter()
                .map(|miss| miss.wanted)
                .collect::<Vec<_>>()
        };
        assert_eq!(missed(|_| {}), Vec::<String>::new());
        assert_eq!(missed(|r| r.phases[0].dropped = 1), ["nothing dropped"]);
        assert_eq!(missed(|r| r.phases[1].unanswered = 1), ["all answered"]);
        let late = missed(|r| r.phases[0].accepted_latency.p99 = 0.021);
        assert_eq!(late, ["80: p99 of answers 201 at most 20 ms"]);
        assert_eq!(missed(|r| r.phases[1].goodput = 74.0), ["1000: at least 75 times 201/s"]);
        assert_eq!(missed(|r| (r.phases[0].rate, r.phases[0].goodput) = (74.0, 60.0)), [""; 0]);
    }
}
