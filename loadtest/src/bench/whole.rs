//! The whole path for a minute: reservations over Redis, the writer, and orders in PostgreSQL, all on the
//! same machine. What is accepted has to be written as fast, or the backlog grows.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use floodgate_loadtest::gateway::Durable;
use floodgate_loadtest::ops::{OpsAccess, OpsClient};
use floodgate_loadtest::rig::{self, OpenPlan, ReserveRequest, Stats};

use super::contender::{Contender, ITEM, Running, SALE};
use super::rates::{AMPLE, FIRST_MEASURED, closed, drained};
use super::report::{Bound, Curve, Figure, Report};
use super::sample::{Marks, Sample};
use super::{BenchOptions, cpu};
use crate::cli::Failure;

/// How long it takes, unless said otherwise.
const SECONDS: f64 = 60.0;
/// How often the backlog is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub async fn measure(options: &BenchOptions) -> Result<Report, Failure> {
    let contender = Contender::Floodgate { redis: Some(Durable::Fsync), postgres: true };
    let running = contender.start(options, AMPLE).await?;
    let time = options.seconds.unwrap_or(SECONDS);
    closed(&running, options.connections, options.warmup, 0).await?;
    drained(&running).await?;

    let before = Marks::now(&running).await?;
    let backlog = Arc::<Mutex<Vec<_>>>::default();
    let ops = running.gateway().map(|gateway| gateway.ops().clone());
    let watcher = ops.map(|ops| tokio::spawn(watch(ops, backlog.clone())));
    let stats = load(&running, options, time).await?;
    let after = Marks::now(&running).await?;
    if let Some(watcher) = watcher {
        watcher.abort();
    }
    let backlog = std::mem::take(&mut *backlog.lock().unwrap_or_else(PoisonError::into_inner));

    let began = Instant::now();
    drained(&running).await?;
    let drained_after = began.elapsed().as_secs_f64();
    let rss = cpu::rss(running.id())?;
    let sample = Sample::between(contender.name(), &stats, &before, &after, rss);
    let audited = running.gateway().map(|gateway| gateway.audit()).transpose()?;
    let one = |value: f64| std::iter::once(value);
    let persisted = sample.persisted_per_second.unwrap_or(0.0);
    let last = backlog.last().map_or(0.0, |(_, waiting)| *waiting);
    let figures = vec![
        Figure::new("accepted/s", one(sample.accepted_per_second)).within(Bound::AtLeast(25_000.0)),
        Figure::new("persisted/s while the load went on", one(persisted))
            .within(Bound::AtLeast(25_000.0)),
        Figure::new("persisted by accepted", one(persisted / sample.accepted_per_second))
            .within(Bound::AtLeast(0.99)),
        Figure::new("backlog at the end, events", one(last)),
        Figure::new("backlog at the end, seconds of writing", one(last / persisted.max(1.0))),
        Figure::new("digested so long after the load, s", one(drained_after)),
    ];
    let how = match options.rate {
        Some(rate) => {
            format!("open loop at {rate}/s for {time} s, Redis with AOF always, PostgreSQL")
        }
        None => format!("closed loop for {time} s, Redis with AOF always, PostgreSQL"),
    };
    Ok(Report {
        suite: "whole-path".to_owned(),
        how: format!("{how}, {} connections", options.connections),
        samples: vec![sample],
        figures,
        curves: vec![Curve { name: "waiting in the outbox".to_owned(), points: backlog }],
        fault: audited.and_then(|(clean, said)| (!clean).then_some(said)),
    })
}

async fn load(running: &Running, options: &BenchOptions, time: f64) -> Result<Stats, Failure> {
    let Some(rate) = options.rate else {
        return closed(running, options.connections, time, FIRST_MEASURED).await;
    };
    let time = Duration::try_from_secs_f64(time).map_err(Failure::failed)?;
    let plan = OpenPlan {
        connections: options.connections,
        ..OpenPlan::steady(running.addr(), rate, time)
    };
    let requests = ReserveRequest::new(&running.addr().to_string(), SALE, ITEM, "o", false);
    let (report, _) = rig::open(plan, requests).await.map_err(Failure::failed)?;
    Ok(report.stats)
}

/// Looks at the backlog until it is aborted.
async fn watch(ops: OpsAccess, points: Arc<Mutex<Vec<(f64, f64)>>>) {
    let (mut client, began) = (OpsClient::new(&ops), Instant::now());
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        if let Ok(view) = client.sale(SALE).await {
            let point = (began.elapsed().as_secs_f64(), view.outbox_length as f64);
            points.lock().unwrap_or_else(PoisonError::into_inner).push(point);
        }
    }
}
