//! How far the models go.

use loom::model::Builder;

/// Threads that are stopped at a step that does not wait, in one order of the steps. Most bugs need two.
const PREEMPTIONS: usize = 2;

/// Runs `scenario` once for each order of its threads' steps. `LOOM_MAX_PREEMPTIONS` makes it look
/// further.
///
/// # Panics
/// As the scenario does, in the first order in which it does.
pub fn every_order(scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.check(scenario);
}
