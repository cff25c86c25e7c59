//! `closed` and `open`: the load generators.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use floodgate_loadtest::limits::CONNECTIONS_DEFAULT;
use floodgate_loadtest::rig::{
    self, Backoff, GetRequest, OpenPlan, Phase, Protocol, Render, ReserveRequest, Retry, Stats,
    Tls, Until,
};

use super::{Failure, address, block_on, print, print_json};

#[derive(Debug, Args)]
struct LoadOptions {
    /// The public listener
    #[arg(long, value_name = "ADDR", value_parser = address, default_value = "127.0.0.1:8080")]
    target: SocketAddr,
    /// Connections
    #[arg(long, default_value_t = CONNECTIONS_DEFAULT)]
    connections: usize,
    /// For how long
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Reserve in this sale
    #[arg(long, default_value = "bench")]
    sale: String,
    /// One unit of this item
    #[arg(long, default_value = "sku-1")]
    item: String,
    /// Each request is of another user, called by this prefix and a number
    #[arg(long, default_value = "u")]
    prefix: String,
    /// Send an `Idempotency-Key` as well
    #[arg(long)]
    key: bool,
    /// Send GETs of this path instead
    #[arg(long, value_name = "PATH")]
    get: Option<String>,
    /// Threads of the generator
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Print JSON, with oha's key names
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct ClosedOptions {
    #[command(flatten)]
    load: LoadOptions,
    /// End after this many requests
    #[arg(long)]
    count: Option<u64>,
    /// Number of the first user
    #[arg(long, default_value_t = 0)]
    first: u64,
}

#[derive(Debug, Args)]
pub struct OpenOptions {
    #[command(flatten)]
    load: LoadOptions,
    /// Requests per second; several, separated by commas, are phases one after the other
    #[arg(long, value_delimiter = ',', required = true)]
    rate: Vec<f64>,
    /// Seconds of each phase, if there are several and they differ
    #[arg(long, value_delimiter = ',', value_name = "SECONDS")]
    phases: Vec<f64>,
    /// Speak HTTP/2; with --ca as the product does, else without TLS
    #[arg(long)]
    http2: bool,
    /// By TLS, to whom this file's certificates vouch for
    #[arg(long, value_name = "PEM", requires = "http2")]
    ca: Option<PathBuf>,
    /// The name in the server's certificate
    #[arg(long, requires = "ca", default_value = "localhost")]
    server_name: String,
    /// A connection for each request
    #[arg(long, conflicts_with = "http2")]
    no_keep_alive: bool,
    /// Who gets no 201 asks again, so often
    #[arg(long, default_value_t = 0)]
    retries: u32,
    /// After these answers: statuses, codes, or `unanswered`
    #[arg(long, value_delimiter = ',', default_value = "503,429,unanswered")]
    retry_on: Vec<String>,
    /// At once, without waiting
    #[arg(long)]
    no_backoff: bool,
    /// Without regard to `Retry-After`
    #[arg(long)]
    ignore_retry_after: bool,
    /// Fail if anything was due and never sent: then the generator was measured
    #[arg(long)]
    no_drops: bool,
}

pub fn closed(options: &ClosedOptions) -> Result<(), Failure> {
    let load = &options.load;
    let time = seconds(load.seconds)?;
    let until = options.count.map_or(Until::Elapsed(time), |count| Until::Count(count, time));
    let run = rig::closed(load.target, load.connections, until, options.first, requests(load));
    show(load, &block_on(load.threads, async { run.await.map_err(Failure::failed) })?)
}

pub fn open(options: &OpenOptions) -> Result<(), Failure> {
    let load = &options.load;
    let run = rig::open(plan(options)?, requests(load));
    let (report, _) = block_on(load.threads, async { run.await.map_err(Failure::failed) })?;
    if load.json {
        print_json(&report)?;
    } else {
        print(&format!("{}{report}", Table(&report.stats)))?;
    }
    answered(load, &report.stats)?;
    match report.dropped() {
        dropped if options.no_drops && dropped > 0 => {
            Err(Failure::Failed(format!("{dropped} requests were due and never sent")))
        }
        _ => Ok(()),
    }
}

fn plan(options: &OpenOptions) -> Result<OpenPlan, Failure> {
    let load = &options.load;
    let all = [load.seconds];
    let times = if options.phases.is_empty() { &all[..] } else { &options.phases };
    let phase = |(n, rate): (usize, &f64)| {
        let time = times.get(n).or(times.last()).copied().unwrap_or_default();
        Ok(Phase { name: format!("{}", n + 1), rate: *rate, time: seconds(time)? })
    };
    let phases = options.rate.iter().enumerate().map(phase).collect::<Result<_, Failure>>()?;
    Ok(OpenPlan {
        connections: load.connections,
        protocol: if options.http2 { Protocol::HTTP2 } else { Protocol::Http1 },
        tls: options
            .ca
            .as_ref()
            .map(|ca| Tls::http2(ca, &options.server_name))
            .transpose()
            .map_err(Failure::failed)?,
        keep_alive: !options.no_keep_alive,
        phases,
        retry: Retry {
            times: options.retries,
            on: options.retry_on.clone(),
            backoff: if options.no_backoff { Backoff::None } else { Backoff::POLITE },
            honour_retry_after: !options.ignore_retry_after,
        },
        ..OpenPlan::steady(load.target, 1.0, Duration::ZERO)
    })
}

pub(crate) fn seconds(seconds: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(seconds).map_err(Failure::failed)
}

fn requests(load: &LoadOptions) -> Box<dyn Render> {
    let host = load.target.to_string();
    match &load.get {
        Some(path) => Box::new(GetRequest::new(&host, path)),
        None => {
            Box::new(ReserveRequest::new(&host, &load.sale, &load.item, &load.prefix, load.key))
        }
    }
}

fn show(load: &LoadOptions, stats: &Stats) -> Result<(), Failure> {
    if load.json {
        print_json(stats)?;
    } else {
        print(&Table(stats).to_string())?;
    }
    answered(load, stats)
}

fn answered(load: &LoadOptions, stats: &Stats) -> Result<(), Failure> {
    if stats.status_code_distribution.is_empty() {
        return Err(Failure::Unavailable(format!("{} gave no answer", load.target)));
    }
    Ok(())
}

/// A run for people.
struct Table<'a>(&'a Stats);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (summary, latency) = (&self.0.summary, &self.0.latency_percentiles);
        let (rate, time) = (summary.requests_per_sec, summary.total);
        writeln!(f, "{rate:>12.0} answers per second over {time:.2} s")?;
        for (name, seconds) in [
            ("p50", latency.p50),
            ("p90", latency.p90),
            ("p99", latency.p99),
            ("p99.9", latency.p999),
            ("max", summary.slowest),
        ] {
            writeln!(f, "{:>12.3} ms {name}", seconds * 1e3)?;
        }
        for (status, count) in &self.0.status_code_distribution {
            writeln!(f, "{count:>12} answers {status}")?;
        }
        for (cause, count) in &self.0.error_distribution {
            writeln!(f, "{count:>12} without answer: {cause}")?;
        }
        Ok(())
    }
}
