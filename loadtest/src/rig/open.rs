//! The open loop: requests are due when the plan says so, come what may. Latency counts from the
//! moment at which a request was due, so a server that stalls is charged for everybody who had to
//! wait (no coordinated omission). What could not be sent in time is told, not hidden: such a run
//! has measured the generator.

mod pacer;
mod queue;
mod report;
mod tally;
mod worker;

pub use report::{OpenReport, PhaseReport, Refused, Second, Times, Visits};
pub use tally::Seen;

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use self::queue::Queue;
use self::tally::Tally;
use self::worker::Line;
use super::plan::OpenPlan;
use super::{Render, RigError};
use crate::limits::{GRACE, WATCH_EVERY};
use crate::progress;

/// What all who take part share.
struct Run<R> {
    plan: OpenPlan,
    render: R,
    queue: Queue,
    tally: Tally,
    began: Instant,
}

pub(super) async fn run(
    plan: OpenPlan,
    render: impl Render,
) -> Result<(OpenReport, Seen), RigError> {
    plan.check()?;
    let (tally, queue) = (Tally::new(plan.phases.len())?, Queue::new());
    let lines = Line::connect_all(Line::all(&plan)).await;
    let run = Arc::new(Run { plan, render, queue, tally, began: Instant::now() });
    let mut tasks = JoinSet::new();
    for line in lines {
        tasks.spawn(worker::work(run.clone(), line));
    }
    let pacer = {
        let run = run.clone();
        // A thread of its own: timers of the runtime are too coarse.
        tokio::task::spawn_blocking(move || pacer::pace(&run))
    };
    let watch = tokio::spawn(watch(run.clone()));
    let fell_over = pacer.await.is_err();
    // The pacer ends when everybody has gone home or their time is up; whoever hangs is cut off.
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        run.tally.cut_off(tasks.len() as u64);
        tasks.shutdown().await;
    }
    watch.abort();
    run.tally.cut_off(u64::from(fell_over));
    run.tally.report(&run.plan, run.began, run.queue.left())
}

/// Shows people how far it is, where there is a terminal.
async fn watch<R>(run: Arc<Run<R>>) {
    let Some(clock) = progress::clock(run.plan.time()) else { return };
    loop {
        clock.show(run.began.elapsed(), run.tally.line());
        tokio::time::sleep(WATCH_EVERY).await;
    }
}
