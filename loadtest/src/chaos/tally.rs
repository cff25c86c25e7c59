//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;

use super::round::Sold;
use crate::history::Level;

/// The figures of all rounds together.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Sales that were judged.
    pub rounds: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Of them, those that did not show that they had an effect.
    pub without_effect: BTreeMap<&'static str, u64>,
    /// Requests by how they ended.
    pub requests: BTreeMap<String, u64>,
    /// What was promised, by level.
    pub promises: BTreeMap<Level, Promises>,
    /// The longest time from the last mending until every gateway had sold again.
    pub slowest_ms: u128,
    /// What is wrong, in full.
    pub broken: Option<String>,
}

/// What was promised at one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promises {
    /// Reservations that buyers were told of.
    pub told: u64,
    /// Those that are not there, none of which was to survive what happened. One that was to is in
    /// [`Tally::broken`].
    pub lost: u64,
}

impl Tally {
    /// Adds a round.
    pub(super) fn add(&mut self, sold: Sold) {
        self.rounds += 1;
        let promises = self.promises.entry(sold.level).or_default();
        promises.told += sold.promises.told;
        promises.lost += sold.promises.lost;
        self.slowest_ms = self.slowest_ms.max(sold.revived.as_millis());
        for fault in sold.faults {
            *self.faults.entry(fault).or_default() += 1;
        }
        for fault in sold.without_effect {
            *self.without_effect.entry(fault).or_default() += 1;
        }
        for (outcome, count) in sold.requests {
            *self.requests.entry(outcome).or_default() += count;
        }
        self.broken = sold.broken;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, slowest_ms, .. } = self;
        writeln!(f, "{rounds} rounds; slowest to sell again: {slowest_ms} ms")?;
        for (fault, count) in &self.faults {
            let idle = self.without_effect.get(fault).copied().unwrap_or_default();
            let idle = if idle > 0 { format!(", {idle} without effect") } else { String::new() };
            writeln!(f, "  {fault:<24} {count:>8}{idle}")?;
        }
        for (outcome, count) in &self.requests {
            writeln!(f, "  {outcome:<24} {count:>8}")?;
        }
        for (level, Promises { told, lost }) in &self.promises {
            writeln!(f, "  promised at {:<12} {told:>8}, lost {lost}", level.word())?;
        }
        Ok(())
    }
}
