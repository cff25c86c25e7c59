//! The open loop: requests are due at a fixed rate, come what may. Latency counts from the moment
//! at which a request was due, so a server that stalls is charged for everybody who had to wait
//! (no coordinated omission).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::closed::{join, reconnect};
use super::connection::Connection;
use super::meter::Meter;
use super::{Render, RigError, Stats};
use crate::limits::{GRACE, PACE_EVERY};

struct Run<R> {
    addr: SocketAddr,
    render: R,
    meter: Meter,
    rate: f64,
    count: u64,
    ends: Instant,
    /// A permit for each request that is due and not yet sent.
    due: Semaphore,
    next: AtomicU64,
}

pub(super) async fn run(
    addr: SocketAddr,
    connections: usize,
    rate: f64,
    duration: Duration,
    render: impl Render,
) -> Result<Stats, RigError> {
    let meter = Meter::new()?;
    let count = (rate * duration.as_secs_f64()).round() as u64;
    let ends = meter.began() + duration;
    let (due, next) = (Semaphore::new(0), AtomicU64::new(0));
    let run = Arc::new(Run { addr, render, meter: meter.clone(), rate, count, ends, due, next });
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(drive(run.clone()));
    }
    let pacer = {
        let run = run.clone();
        // A thread of its own: timers of the runtime are too coarse.
        tokio::task::spawn_blocking(move || pace(&run))
    };
    join(&mut tasks, ends + GRACE, &meter).await;
    run.due.close();
    if pacer.await.is_err() {
        meter.count_error("the pacer fell over", 1);
    }
    let sent = run.next.load(Ordering::Relaxed).min(count);
    meter.count_error("due but never sent", count - sent);
    Ok(meter.stats())
}

/// Releases what is due; ends with the run.
fn pace<R>(run: &Run<R>) {
    let mut released = 0;
    while released < run.count && !run.due.is_closed() {
        let elapsed = run.meter.began().elapsed().as_secs_f64();
        let due = ((elapsed * run.rate) as u64).saturating_add(1).min(run.count);
        run.due.add_permits(usize::try_from(due - released).unwrap_or(usize::MAX));
        released = due;
        thread::sleep(PACE_EVERY);
    }
    // Wakes those who wait for more.
    run.due.close();
}

async fn drive<R: Render>(run: Arc<Run<R>>) {
    let mut connection = Connection::new(run.addr);
    let mut request = Vec::with_capacity(512);
    let gives_up = run.ends + GRACE;
    while reconnect(&mut connection, &run.meter, gives_up).await {
        match run.due.acquire().await {
            Ok(permit) => permit.forget(),
            // Closed: everything was released; whatever is left may still be taken.
            Err(_) if run.next.load(Ordering::Relaxed) >= run.count => return,
            Err(_) => {}
        }
        let n = run.next.fetch_add(1, Ordering::Relaxed);
        if n >= run.count {
            return;
        }
        let from = run.meter.began() + Duration::from_secs_f64(n as f64 / run.rate);
        request.clear();
        run.render.render(n, &mut request);
        match connection.exchange(&request).await {
            Ok(head) => run.meter.answered(from, &head),
            Err(broken) => run.meter.failed(&broken),
        }
    }
}
