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
