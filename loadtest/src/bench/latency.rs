//! Latencies at half of what it can do: open loop, so that whoever waits is counted.

use std::time::Duration;

use floodgate_loadtest::gateway::Durable;
use floodgate_loadtest::rig::{self, OpenPlan, OpenReport, ReserveRequest};

use super::BenchOptions;
use super::contender::{Contender, ITEM, Running, SALE};
use super::rates::{AMPLE, FIRST_MEASURED, closed, drained};
use super::report::{Bound, Figure, Report};
use crate::cli::Failure;

/// How long a round takes, unless said otherwise.
const SECONDS: f64 = 10.0;
/// For how long the capacity is measured.
const CAPACITY_SECONDS: f64 = 3.0;

pub async fn measure(options: &BenchOptions) -> Result<Report, Failure> {
    let time = options.seconds.unwrap_or(SECONDS);
    let mut figures = Vec::new();
    for (name, redis) in
        [("embedded", None), ("memory", Some(Durable::Memory)), ("fsync", Some(Durable::Fsync))]
    {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        let (mut rounds, mut yardstick) = (Vec::new(), Vec::new());
        for round in 0..options.rounds {
            let contender = Contender::Floodgate { redis, postgres: false };
            let running = contender.start(options, AMPLE).await?;
            let (capacity, report) = round_of(&running, options, time).await?;
            let latency = &report.stats.latency_percentiles;
            eprintln!(
                "round {}: {name} at half of {capacity:.0}/s: p99 {:.2} ms, p99.9 {:.2} ms, {} dropped",
                round + 1,
                latency.p99 * 1e3,
                latency.p999 * 1e3,
                report.dropped()
            );
            rounds.push((capacity, report));
            drop(running);
            // What the machine itself does to whoever waits, at the same rate.
            let bare = Contender::Bare.start(options, AMPLE).await?;
            let beside = by_the_clock(&bare, options, capacity / 2.0, time).await?;
            yardstick.push(beside.stats.latency_percentiles.p99 * 1e3);
        }
        let of =
            |value: fn(&OpenReport) -> f64| rounds.iter().map(move |(_, report)| value(report));
        figures.extend([
            Figure::new(
                format!("{name}: capacity/s"),
                rounds.iter().map(|(capacity, _)| *capacity),
            ),
            Figure::new(format!("{name}: p50 ms"), of(|r| r.stats.latency_percentiles.p50 * 1e3)),
            Figure::new(format!("{name}: p99 ms"), of(|r| r.stats.latency_percentiles.p99 * 1e3))
                .within(Bound::AtMost(5.0)),
            Figure::new(
                format!("{name}: p99.9 ms"),
                of(|r| r.stats.latency_percentiles.p999 * 1e3),
            )
            .within(Bound::AtMost(20.0)),
            Figure::new(format!("{name}: dropped"), of(|r| r.dropped() as f64))
                .within(Bound::AtMost(0.0)),
            Figure::new(
                format!("{name}: p99 ms of bare at that rate, beside it"),
                yardstick.into_iter(),
            ),
        ]);
    }
    Ok(Report {
        suite: "half-capacity".to_owned(),
        how: format!(
            "capacity by a closed loop over {} connections, then half of it by the clock for {time} s; latency from \
             the intended start; {} rounds",
            options.connections, options.rounds
        ),
        figures,
        ..Report::default()
    })
}

async fn round_of(
    running: &Running,
    options: &BenchOptions,
    time: f64,
) -> Result<(f64, OpenReport), Failure> {
    closed(running, options.connections, options.warmup, 0).await?;
    let stats = closed(running, options.connections, CAPACITY_SECONDS, FIRST_MEASURED).await?;
    drained(running).await?;
    let capacity = stats.summary.requests_per_sec;
    Ok((capacity, by_the_clock(running, options, capacity / 2.0, time).await?))
}

async fn by_the_clock(
    running: &Running,
    options: &BenchOptions,
    rate: f64,
    time: f64,
) -> Result<OpenReport, Failure> {
    let time = Duration::try_from_secs_f64(time).map_err(Failure::failed)?;
    let plan = OpenPlan {
        connections: options.connections,
        ..OpenPlan::steady(running.addr(), rate, time)
    };
    let requests = ReserveRequest::new(&running.addr().to_string(), SALE, ITEM, "o", false);
    let (report, _) = rig::open(plan, requests).await.map_err(Failure::failed)?;
    Ok(report)
}
