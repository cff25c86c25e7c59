//! `bench`: the product beside what others would be, measured in turn by the same generator on the same
//! machine in the same minutes. Only ratios carry from one machine to the next.

mod big;
mod contender;
mod cpu;
mod idle;
mod latency;
mod past;
mod plot;
mod rates;
mod report;
mod sample;
mod spread;
mod whole;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use floodgate_loadtest::limits::CONNECTIONS_DEFAULT;
use floodgate_loadtest::scenario;

use self::report::Report;
use crate::cli::{Failure, block_on, print, print_json};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Refusals of a sale that is sold out, beside bare hyper
    SoldOut,
    /// Reservations with nothing to install, beside bare hyper
    Embedded,
    /// Reservations over a Redis that syncs nothing, beside bare hyper, fastify and nginx with Lua
    RedisMemory,
    /// The same over a Redis that syncs every write before it answers
    RedisFsync,
    /// Redis, PostgreSQL and the writer for a minute: are orders written as fast as they are taken?
    WholePath,
    /// Latencies at half of what it can do, open loop
    HalfCapacity,
    /// 100,000 units and 1,000,000 attempts, from the beginning to the audit
    BigSale,
    /// Memory with 10,000 connections that do nothing
    Idle,
    /// Rates with 0, one and five million reservations in the ledger
    Past,
}

#[derive(Debug, Args)]
pub struct BenchOptions {
    /// What to measure [default: the four that compare rates]
    #[arg(value_enum)]
    suites: Vec<Suite>,
    /// The product [default: beside this program]
    #[arg(long, value_name = "PATH")]
    floodgate: Option<PathBuf>,
    /// How often each contender is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// For how long, each time [default: 2, and what the suite needs for the others]
    #[arg(long)]
    seconds: Option<f64>,
    /// For how long it is warmed up before
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Connections
    #[arg(long, default_value_t = CONNECTIONS_DEFAULT)]
    connections: usize,
    /// Contenders, by name [default: all that can be started here]
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Requests a second of `whole-path` [default: as many as it takes]
    #[arg(long)]
    rate: Option<f64>,
    /// Steps of `past`, in reservations
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1_000_000, 5_000_000])]
    past: Vec<u64>,
    /// Where the baselines are
    #[arg(long, value_name = "DIR", default_value = "loadtest/baselines")]
    baselines: PathBuf,
    /// Write each suite's figures to DIR/<suite>.json, its table to .txt and its plot to .svg
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Further arguments of `floodgate serve`
    #[arg(last = true)]
    serve: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl BenchOptions {
    fn floodgate(&self) -> Result<PathBuf, Failure> {
        match &self.floodgate {
            Some(path) => Ok(path.clone()),
            None => scenario::beside().map_err(Failure::failed),
        }
    }
}

pub fn run(options: &BenchOptions) -> Result<(), Failure> {
    let default = [Suite::SoldOut, Suite::Embedded, Suite::RedisMemory, Suite::RedisFsync];
    let suites = if options.suites.is_empty() { &default[..] } else { &options.suites };
    for suite in suites {
        let report = block_on(1, measure(*suite, options))?;
        if options.json {
            print_json(&report)?;
        } else {
            print(&format!("{report}\n"))?;
        }
        if let Some(dir) = &options.out {
            keep(dir, &report)?;
        }
        if let Some(fault) = &report.fault {
            return Err(Failure::Broken(fault.clone()));
        }
    }
    Ok(())
}

async fn measure(suite: Suite, options: &BenchOptions) -> Result<Report, Failure> {
    match suite {
        Suite::SoldOut | Suite::Embedded | Suite::RedisMemory | Suite::RedisFsync => {
            rates::measure(suite, options).await
        }
        Suite::WholePath => whole::measure(options).await,
        Suite::HalfCapacity => latency::measure(options).await,
        Suite::BigSale => big::measure(options).await,
        Suite::Idle => idle::measure(options).await,
        Suite::Past => past::measure(options).await,
    }
}

fn keep(dir: &Path, report: &Report) -> Result<(), Failure> {
    let said = |path: &Path, bad: &dyn std::fmt::Display| {
        Failure::Failed(format!("{}: {bad}", path.display()))
    };
    std::fs::create_dir_all(dir).map_err(|bad| said(dir, &bad))?;
    let path = dir.join(format!("{}.json", report.suite));
    let text = serde_json::to_string_pretty(report).map_err(Failure::failed)?;
    std::fs::write(&path, text + "\n").map_err(|bad| said(&path, &bad))?;
    let path = dir.join(format!("{}.txt", report.suite));
    std::fs::write(&path, report.to_string()).map_err(|bad| said(&path, &bad))?;
    let path = dir.join(format!("{}.svg", report.suite));
    plot::draw(&path, report).map_err(|bad| said(&path, &bad))
}
