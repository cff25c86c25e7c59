//! How the reservations of one sale ended, as counters whose handles are made once.

use std::collections::HashMap;
use std::sync::RwLock;

use metrics::Counter;

use crate::metrics::Metrics;

/// `floodgate_reservations_total{sale,outcome}` of one sale. Outcomes are few and come from the code,
/// so the map stays small, and after the first of each kind only reading locks are taken.
#[derive(Default)]
pub struct Tally {
    outcomes: RwLock<HashMap<&'static str, Counter>>,
}

impl Tally {
    /// Counts one.
    pub fn count(&self, metrics: &Metrics, sale: &str, outcome: &'static str) {
        if let Ok(outcomes) = self.outcomes.read()
            && let Some(counter) = outcomes.get(outcome)
        {
            counter.increment(1);
            return;
        }
        let labels = [("sale", sale.to_owned()), ("outcome", outcome.to_owned())];
        let counter = metrics.counter("floodgate_reservations_total", &labels);
        counter.increment(1);
        if let Ok(mut outcomes) = self.outcomes.write() {
            outcomes.insert(outcome, counter);
        }
    }
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally").finish_non_exhaustive()
    }
}
