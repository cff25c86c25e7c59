//! What came of a scenario.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Miss;
use crate::ops::SaleView;
use crate::oracle::Verdict;
use crate::rig::OpenReport;

/// What came of a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Requests a second that phases were multiples of.
    pub capacity: Option<f64>,
    /// What the generator measured.
    #[serde(flatten)]
    pub report: OpenReport,
    /// The ledger afterwards.
    pub ledger: SaleView,
    /// The oracle's verdict.
    pub verdict: Verdict,
    /// The product's own audit found everything right.
    pub audited: bool,
    /// What it said.
    #[serde(skip)]
    pub audit: String,
    /// Figures that are not what was wanted.
    pub misses: Vec<Miss>,
    /// From the end of the load until the books were digested.
    pub drained_after: Duration,
}

impl Outcome {
    /// Whether the books are proven, by the oracle and by the product's own audit.
    #[must_use]
    pub fn proven(&self) -> bool {
        self.verdict.ok && self.audited
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(capacity) = self.capacity {
            writeln!(f, "capacity {capacity:.0} reservations/s")?;
        }
        write!(f, "{}", self.report)?;
        let drained = self.drained_after.as_secs_f64();
        writeln!(f, "books digested {drained:.2} s after the load")?;
        writeln!(f, "{}", self.verdict)?;
        if self.audited {
            writeln!(f, "floodgate audit: clean")?;
        } else {
            writeln!(f, "floodgate audit: NOT CLEAN\n{}", self.audit)?;
        }
        for Miss { wanted, seen } in &self.misses {
            writeln!(f, "missed: {wanted}; it was {seen}")?;
        }
        Ok(())
    }
}
