//! A crowd that behaves like people and their broken clients.
//!
//! Everybody comes at once, in shuffled order. Some send twice, some ask again after they were
//! answered, some reuse a key for something else, some cancel, the others pay. Who is told to come
//! back later does, with the same key; who was refused tries again, with a new one, as long as
//! units come back. At the end everything is sold, or the crowd was stopped.

mod anomalies;
mod answer;
mod backoff;
mod cashier;
mod crowd;
mod insist;
mod persona;
mod plan;
mod report;
mod resolve;
mod stock;
#[cfg(test)]
mod tests;
mod visit;
mod wave;
mod waves;
mod wish;
mod worker;

pub use plan::{BadPlan, Control, CrowdPlan, Habits, Identity, Patience};
pub use report::{CrowdReport, Percentiles, Resolution};

use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;

use self::cashier::Cashiers;
use self::crowd::Crowd;
use crate::history::History;
use crate::limits::RESOLVERS_MAX;

/// Why a crowd could not be sent.
#[derive(Debug, Error)]
pub enum CrowdError {
    /// The plan makes no sense.
    #[error("bad plan: {0}")]
    Plan(#[from] BadPlan),
    /// The history's file cannot be opened or written.
    #[error("history file: {0}")]
    History(#[from] std::io::Error),
    /// A task of the crowd panicked.
    #[error("a buyer fell over: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Sends the crowd and waits until everybody has gone home.
///
/// # Errors
///
/// A plan that makes no sense, or a history file that cannot be written. A server that is gone is
/// no error: the history says so.
///
/// Not cancel-safe: an abandoned crowd leaves requests whose outcome is unknown.
pub async fn run(plan: &CrowdPlan, control: Control) -> Result<CrowdReport, CrowdError> {
    plan.check()?;
    let began = Instant::now();
    let crowd = Arc::new(Crowd::new(plan, control, History::new())?);
    let cashiers = plan.ops.as_ref().map(|ops| Cashiers::open(&crowd, ops));
    let (waves, standing) = waves::send(&crowd, cashiers.as_ref()).await?;
    if let Some(cashiers) = cashiers {
        if plan.settle {
            cashiers.settle(standing).await;
        }
        cashiers.close().await?;
    }
    let (history, written) = crowd.recorder.finish();
    written?;
    let mut report = CrowdReport::new(history, began.elapsed());
    (report.anomalies, report.anomalies_total) = crowd.anomalies.take();
    report.waves = waves;
    report.stopped = crowd.stop.is_set();
    Ok(report)
}

/// Asks again, with the same key, for everything in `history` whose outcome is unknown, and
/// appends the answers. Of the plan it needs the server, the sale, the identity and the patience.
///
/// # Errors
///
/// As for [`run`].
pub async fn resolve(
    history: &mut History,
    plan: &CrowdPlan,
    control: Control,
) -> Result<Resolution, CrowdError> {
    plan.check()?;
    let questions = resolve::questions(history);
    // Who asks again is patient: the server may not be quite back.
    let plan = &CrowdPlan { stop_on_disconnect: false, ..plan.clone() };
    let crowd = Arc::new(Crowd::new(plan, control, history.clone())?);
    let connections = plan.connections.min(questions.len()).min(RESOLVERS_MAX);
    let asked = resolve::ask_all(&crowd, questions, connections).await;
    let (found, written) = crowd.recorder.finish();
    *history = found;
    let mut resolution = asked?;
    written?;
    (resolution.anomalies, _) = crowd.anomalies.take();
    Ok(resolution)
}
