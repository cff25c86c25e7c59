//! `embedded-bench`: what a durable reservation costs, measured against the fastest answer that
//! hyper can give on the same machine in the same minute. Only ratios carry from one machine to
//! the next.

mod cpu;
mod server;
mod summary;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use floodgate_loadtest::limits::CONNECTIONS_DEFAULT;
use floodgate_loadtest::oracle;
use floodgate_loadtest::rig::{self, ReserveRequest, Stats, Until};

use self::cpu::Machine;
use self::server::{ITEM, SALE, Server};
use self::summary::{Costs, Round, Sample, Summary};
use crate::cli::{Failure, block_on, print, print_json};

/// Users of the measured run are numbered from here; those of the warm-up from zero.
const FIRST_MEASURED: u64 = 1_000_000_000;

#[derive(Debug, Args)]
pub struct BenchOptions {
    /// The server's binary
    #[arg(long, value_name = "PATH")]
    floodgate: PathBuf,
    /// How often each server is measured
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// For how long, each time
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// For how long it is warmed up before
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Connections
    #[arg(long, default_value_t = CONNECTIONS_DEFAULT)]
    connections: usize,
    /// Units for sale
    #[arg(long, default_value_t = 10_000_000)]
    stock: u64,
    /// Send an `Idempotency-Key` as well
    #[arg(long)]
    key: bool,
    /// Threads of the bare server
    #[arg(long, default_value_t = 1)]
    bare_threads: usize,
    /// Where the temporary data directories are made
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
    /// How long the writer may take to digest a run, in seconds; 0 does not wait
    #[arg(long, default_value_t = 120.0)]
    drain: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Further arguments of `floodgate serve`
    #[arg(last = true)]
    serve: Vec<String>,
}

pub fn run(options: &BenchOptions) -> Result<(), Failure> {
    let summary = block_on(1, measure_all(options))?;
    if options.json {
        print_json(&summary)?;
    } else {
        print(&summary.to_string())?;
    }
    match summary.fault() {
        Some(fault) => Err(Failure::Failed(fault)),
        None => Ok(()),
    }
}

async fn measure_all(options: &BenchOptions) -> Result<Summary, Failure> {
    let mut rounds = Vec::with_capacity(options.rounds);
    for number in 0..options.rounds {
        // Who goes first changes, so that neither always finds the machine warm.
        let (bare, floodgate) = if number % 2 == 0 {
            let bare = measure_bare(options).await?;
            (bare, measure_floodgate(options).await?)
        } else {
            let floodgate = measure_floodgate(options).await?;
            (measure_bare(options).await?, floodgate)
        };
        let round = Round::new(bare, floodgate);
        eprintln!("round {} of {}: {round}", number + 1, options.rounds);
        rounds.push(round);
    }
    Ok(Summary::new(options.connections, options.seconds, rounds))
}

async fn measure_bare(options: &BenchOptions) -> Result<Sample, Failure> {
    let server = Server::bare(options.bare_threads).await?;
    measure(options, &server).await
}

async fn measure_floodgate(options: &BenchOptions) -> Result<Sample, Failure> {
    let root = options.data_root.as_deref();
    let server = Server::floodgate(&options.floodgate, root, &options.serve, options.stock).await?;
    measure(options, &server).await
}

async fn measure(options: &BenchOptions, server: &Server) -> Result<Sample, Failure> {
    load(options, server, options.warmup, 0).await?;
    let drain = seconds(options.drain)?;
    drained(server, drain).await?;
    let (before, own_before) =
        (cpu::of_process(server.id())?, cpu::of_process(std::process::id())?);
    let machine = Machine::now()?;
    let stats = load(options, server, options.seconds, FIRST_MEASURED).await?;
    let stolen = Machine::now()?.stolen_since(machine);
    let (after, own_after) = (cpu::of_process(server.id())?, cpu::of_process(std::process::id())?);
    let with_writer = match drained(server, drain).await? {
        true => Some(cpu::of_process(server.id())? - before),
        false => None,
    };
    let costs =
        Costs { server: after - before, with_writer, generator: own_after - own_before, stolen };
    Ok(Sample::new(&stats, costs))
}

async fn load(
    options: &BenchOptions,
    server: &Server,
    time: f64,
    first: u64,
) -> Result<Stats, Failure> {
    let host = server.addr().to_string();
    let requests = ReserveRequest::new(&host, SALE, ITEM, "u", options.key);
    let until = Until::Elapsed(seconds(time)?);
    let stats = rig::closed(server.addr(), options.connections, until, first, requests).await;
    stats.map_err(Failure::failed)
}

/// Waits for the writer, where there is one and it was asked for; whether it was.
async fn drained(server: &Server, within: Duration) -> Result<bool, Failure> {
    let Some(ops) = server.ops() else {
        return Ok(false);
    };
    if within.is_zero() {
        return Ok(false);
    }
    oracle::wait_drained(ops, SALE, within).await?;
    Ok(true)
}

fn seconds(seconds: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(seconds).map_err(Failure::failed)
}
