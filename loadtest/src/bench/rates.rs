//! Suites that compare rates: every contender in turn, again and again.

use std::time::Duration;

use floodgate_loadtest::gateway::Durable;
use floodgate_loadtest::oracle;
use floodgate_loadtest::rig::{self, ReserveRequest, Stats, Until};

use super::contender::{Contender, ITEM, Running, SALE};
use super::report::{Bound, Figure, Report};
use super::sample::{Marks, Sample};
use super::{BenchOptions, Suite, cpu};
use crate::cli::Failure;

/// Users of the measured run are numbered from here; those of the warm-up from zero.
pub const FIRST_MEASURED: u64 = 1_000_000_000;
/// Units for sale, where they are not to run out.
pub const AMPLE: u64 = 100_000_000;
/// How long a measurement takes, unless said otherwise.
const SECONDS: f64 = 2.0;
/// The least seconds after which Node has compiled what it runs.
const FASTIFY_WARMUP: f64 = 6.0;
/// How long the writer may take to digest a run.
pub const DRAIN: Duration = Duration::from_secs(300);

pub async fn measure(suite: Suite, options: &BenchOptions) -> Result<Report, Failure> {
    let contenders = contenders(suite, options);
    let stock = if suite == Suite::SoldOut { 1 } else { AMPLE };
    let time = options.seconds.unwrap_or(SECONDS);
    let mut report = Report {
        suite: name(suite).to_owned(),
        how: format!(
            "{} connections, closed loop, {} rounds of {time} s each in turn; CPU of the server, of Redis and \
             of the generator for each answer",
            options.connections, options.rounds
        ),
        ..Report::default()
    };
    for round in 0..options.rounds {
        // Who goes first changes, so that nobody always finds the machine warm.
        let turns = (0..contenders.len()).map(|n| contenders[(n + round) % contenders.len()]);
        for contender in turns {
            let running = match contender.start(options, stock).await {
                Err(Failure::Unavailable(why)) if options.only.is_empty() => {
                    eprintln!("without {}: {why}", contender.name());
                    continue;
                }
                started => started?,
            };
            let sample = sample(contender, &running, options, time).await?;
            eprintln!(
                "round {}: {} {:.0} accepted/s, {:.0} refused/s, {:.1} µs",
                round + 1,
                sample.contender,
                sample.accepted_per_second,
                sample.refused_per_second,
                sample.cpu_us
            );
            report.samples.push(sample);
        }
    }
    report.samples.sort_by_key(|s| contenders.iter().position(|c| c.name() == s.contender));
    report.fault = fault(suite, &report.samples);
    report.figures = figures(suite, &report);
    Ok(report)
}

fn name(suite: Suite) -> &'static str {
    match suite {
        Suite::SoldOut => "sold-out",
        Suite::Embedded => "embedded",
        Suite::RedisMemory => "redis-memory",
        Suite::RedisFsync => "redis-fsync",
        Suite::WholePath | Suite::HalfCapacity | Suite::BigSale | Suite::Idle | Suite::Past => {
            "other"
        }
    }
}

fn contenders(suite: Suite, options: &BenchOptions) -> Vec<Contender> {
    let over = |durable| {
        vec![
            Contender::Bare,
            Contender::Floodgate { redis: Some(durable), postgres: false },
            Contender::Fastify(durable),
            Contender::Nginx(durable),
        ]
    };
    let all = match suite {
        Suite::RedisMemory => over(Durable::Memory),
        Suite::RedisFsync => over(Durable::Fsync),
        Suite::SoldOut
        | Suite::Embedded
        | Suite::WholePath
        | Suite::HalfCapacity
        | Suite::BigSale
        | Suite::Idle
        | Suite::Past => {
            vec![Contender::Bare, Contender::Floodgate { redis: None, postgres: false }]
        }
    };
    let wanted =
        |c: &Contender| options.only.is_empty() || options.only.iter().any(|n| n == c.name());
    all.into_iter().filter(wanted).collect()
}

async fn sample(
    contender: Contender,
    running: &Running,
    options: &BenchOptions,
    time: f64,
) -> Result<Sample, Failure> {
    let warmup = match contender {
        Contender::Fastify(_) => options.warmup.max(FASTIFY_WARMUP),
        Contender::Bare | Contender::Floodgate { .. } | Contender::Nginx(_) => options.warmup,
    };
    closed(running, options.connections, warmup, 0).await?;
    drained(running).await?;
    let before = Marks::now(running).await?;
    let stats = closed(running, options.connections, time, FIRST_MEASURED).await?;
    let after = Marks::now(running).await?;
    Ok(Sample::between(contender.name(), &stats, &before, &after, cpu::rss(running.id())?))
}

/// Reservations as fast as they are answered.
pub async fn closed(
    running: &Running,
    connections: usize,
    seconds: f64,
    first: u64,
) -> Result<Stats, Failure> {
    let host = running.addr().to_string();
    let requests = ReserveRequest::new(&host, SALE, ITEM, "u", false);
    let until = Until::Elapsed(Duration::try_from_secs_f64(seconds).map_err(Failure::failed)?);
    rig::closed(running.addr(), connections, until, first, requests).await.map_err(Failure::failed)
}

/// Waits for the writer, where there is one.
pub async fn drained(running: &Running) -> Result<(), Failure> {
    let Some(gateway) = running.gateway() else { return Ok(()) };
    oracle::wait_drained(gateway.ops(), SALE, DRAIN).await?;
    Ok(())
}

/// Why the figures mean little: answers that were other than they should be.
fn fault(suite: Suite, samples: &[Sample]) -> Option<String> {
    let wrong = |sample: &&Sample| {
        let wanted = match (suite, sample.contender.as_str()) {
            (Suite::SoldOut, "floodgate") => 409,
            _ => 201,
        };
        let others = sample.statuses.keys().any(|status| *status != wanted);
        others || !sample.errors.is_empty()
    };
    let wrong = samples.iter().find(wrong)?;
    Some(format!("{}: {:?}, {:?}", wrong.contender, wrong.statuses, wrong.errors))
}

/// Ratios, round by round, and what they are to be.
fn figures(suite: Suite, report: &Report) -> Vec<Figure> {
    let of = |name: &str| report.samples.iter().filter(|s| s.contender == name).collect::<Vec<_>>();
    let ours = of("floodgate");
    let by = |other: &str, value: fn(&Sample) -> f64| {
        let other = of(other);
        let ratios: Vec<f64> = ours.iter().zip(other).map(|(o, b)| value(o) / value(b)).collect();
        ratios.into_iter()
    };
    let rate: fn(&Sample) -> f64 = Sample::answers_per_second;
    let cpu: fn(&Sample) -> f64 = |sample| sample.cpu_us;
    let (rate_bound, cpu_bound, fastify_bound) = match suite {
        Suite::SoldOut => (0.85, 1.25, 0.0),
        Suite::RedisMemory => (0.5, 2.0, 3.0),
        Suite::RedisFsync => (0.35, 2.0, 2.2),
        Suite::Embedded
        | Suite::WholePath
        | Suite::HalfCapacity
        | Suite::BigSale
        | Suite::Idle
        | Suite::Past => (0.45, 2.0, 0.0),
    };
    let mut figures = Vec::new();
    if !of("bare").is_empty() {
        let figure = Figure::new("answers/s, floodgate by bare", by("bare", rate));
        figures.push(figure.within(Bound::AtLeast(rate_bound)));
        let figure = Figure::new("server CPU an answer, floodgate by bare", by("bare", cpu));
        figures.push(figure.within(Bound::AtMost(cpu_bound)));
    }
    if !of("fastify").is_empty() {
        let figure = Figure::new("accepted/s, floodgate by fastify", by("fastify", rate));
        figures.push(figure.within(Bound::AtLeast(fastify_bound)));
        figures.push(Figure::new("server CPU, floodgate by fastify", by("fastify", cpu)));
    }
    if !of("nginx").is_empty() {
        figures.push(Figure::new("accepted/s, floodgate by nginx", by("nginx", rate)));
    }
    let redis = ours.iter().filter_map(|sample| sample.redis_cpu_us);
    if redis.clone().next().is_some() {
        let figure = Figure::new("Redis CPU µs a reservation", redis);
        figures.push(figure.within(Bound::AtMost(5.0)));
        let bytes = ours.iter().filter_map(|sample| sample.redis_bytes);
        let figure = Figure::new("Redis bytes a reservation", bytes);
        figures.push(figure.within(Bound::AtMost(300.0)));
    }
    figures
}
