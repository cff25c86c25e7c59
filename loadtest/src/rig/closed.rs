//! The closed loop: every connection asks again as soon as it is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::connection::{Broken, Connection};
use super::meter::Meter;
use super::{Render, RigError, Stats, Until};
use crate::limits::{BACKOFF_FIRST, GRACE, RECONNECTS_MAX};

struct Run<R> {
    addr: SocketAddr,
    render: R,
    meter: Meter,
    /// The next request's number.
    next: AtomicU64,
    count: u64,
    ends: Instant,
}

pub(super) async fn run(
    addr: SocketAddr,
    connections: usize,
    until: Until,
    first: u64,
    render: impl Render,
) -> Result<Stats, RigError> {
    let meter = Meter::new()?;
    let (count, time) = match until {
        Until::Elapsed(time) => (u64::MAX, time),
        Until::Count(count, time) => (first.saturating_add(count), time),
    };
    let ends = meter.began() + time;
    let next = AtomicU64::new(first);
    let run = Arc::new(Run { addr, render, meter: meter.clone(), next, count, ends });
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(drive(run.clone()));
    }
    join(&mut tasks, ends + GRACE, &meter).await;
    Ok(meter.stats())
}

/// Waits for all connections; those which hang are cut off and counted.
pub(super) async fn join(tasks: &mut JoinSet<()>, by: Instant, meter: &Meter) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout_at(by.into(), all).await.is_err() {
        meter.count_error("no answer by the end of the run", tasks.len() as u64);
        tasks.shutdown().await;
    }
}

async fn drive<R: Render>(run: Arc<Run<R>>) {
    let mut connection = Connection::new(run.addr);
    let mut request = Vec::with_capacity(512);
    while reconnect(&mut connection, &run.meter, run.ends).await {
        let n = run.next.fetch_add(1, Ordering::Relaxed);
        if n >= run.count || Instant::now() >= run.ends {
            return;
        }
        request.clear();
        run.render.render(n, &mut request);
        let from = Instant::now();
        match connection.exchange(&request).await {
            Ok(head) => run.meter.answered(from, &head),
            Err(broken) => run.meter.failed(&broken),
        }
    }
}

/// Makes sure of a connection; false if the server stays away, or the time is up.
pub(super) async fn reconnect(connection: &mut Connection, meter: &Meter, ends: Instant) -> bool {
    for tries in 1..=RECONNECTS_MAX {
        match connection.ready().await {
            Ok(()) => return true,
            Err(broken) => meter.failed(&broken),
        }
        let wait = BACKOFF_FIRST.saturating_mul(tries).min(Duration::from_secs(1));
        if Instant::now() + wait >= ends {
            return false;
        }
        tokio::time::sleep(wait).await;
    }
    meter.failed(&Broken::Closed);
    false
}
