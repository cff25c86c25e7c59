//! Whether it gets slower with what has happened already.

use std::time::Duration;

use floodgate_loadtest::gateway::Durable;
use floodgate_loadtest::rig::{self, ReserveRequest, Until};

use super::contender::{Contender, ITEM, SALE};
use super::rates::{AMPLE, closed, drained};
use super::report::{Bound, Curve, Figure, Report};
use super::{BenchOptions, cpu};
use crate::cli::Failure;

/// How long a measurement takes, unless said otherwise.
const SECONDS: f64 = 2.0;
/// How long it may take to get to a step.
const WITHIN: Duration = Duration::from_secs(1_800);

pub async fn measure(options: &BenchOptions) -> Result<Report, Failure> {
    let time = options.seconds.unwrap_or(SECONDS);
    let contender = Contender::Floodgate { redis: Some(Durable::Memory), postgres: false };
    let running = contender.start(options, AMPLE).await?;
    // Steps are minutes apart, and the machine is not the same then: each round is laid beside one of the
    // bare server.
    let bare = Contender::Bare.start(options, AMPLE).await?;
    let host = running.addr().to_string();
    let mut report = Report {
        suite: "past".to_owned(),
        how: format!(
            "{} rounds of {time} s at each step, {} connections, Redis without AOF",
            options.rounds, options.connections
        ),
        ..Report::default()
    };
    closed(&running, options.connections, options.warmup, 0).await?;
    let (mut next, mut there) = (10_000_000_000, 0);
    let mut first = None;
    let mut rates = Vec::new();
    for step in &options.past {
        if *step > there {
            let requests = ReserveRequest::new(&host, SALE, ITEM, "p", false);
            let until = Until::Count(*step - there, WITHIN);
            let run = rig::closed(running.addr(), options.connections, until, there, requests);
            run.await.map_err(Failure::failed)?;
            there = *step;
        }
        drained(&running).await?;
        let (mut seen, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            let stats = closed(&running, options.connections, time, next).await?;
            next += 1_000_000_000;
            drained(&running).await?;
            let rate = stats.summary.requests_per_sec;
            let yardstick = closed(&bare, options.connections, time, next).await?;
            seen.push(rate);
            beside.push(rate / yardstick.summary.requests_per_sec);
        }
        let name = format!("{step} before: reservations/s");
        let figure = Figure::new(name, seen.into_iter());
        rates.push((*step as f64, figure.value.median));
        let share = Figure::new(format!("{step} before: of bare"), beside.into_iter());
        let base = *first.get_or_insert(share.value.median);
        let ratio = Figure::new(
            format!("{step} before: ratio to the first, both of bare"),
            std::iter::once(share.value.median / base),
        );
        eprintln!("{step}: {}, {} of bare", figure.value, share.value);
        report.figures.extend([figure, share, ratio.within(Bound::AtLeast(0.9))]);
        let mib = cpu::rss(running.id())? as f64 / f64::from(1 << 20);
        report.figures.push(Figure::new(
            format!("{step} before: RSS of the gateway, MiB"),
            std::iter::once(mib),
        ));
    }
    report.curves = vec![Curve { name: "reservations/s".to_owned(), points: rates }];
    Ok(report)
}
