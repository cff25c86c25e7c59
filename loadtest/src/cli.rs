//! The commands, and what they have in common.

mod bare;
mod bodies;
mod capacity;
mod chaos;
mod crowd;
mod failure;
mod generate;
mod losses;
mod oracle;
mod place;
mod resolve;
mod scenario;

pub use failure::Failure;
pub use place::{OpsOptions, address};

use std::future::Future;
use std::io::{ErrorKind, Write};

use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::bench;

/// Buyers, load and an independent oracle for Floodgate.
///
/// Exit codes: 0 ok, 1 failure, 2 usage, 3 a promise was broken, 4 the server cannot be reached.
#[derive(Debug, Parser)]
#[command(name = "floodgate-loadtest", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  floodgate-loadtest crowd --ops 127.0.0.1:9090 --data-dir floodgate-data --stock 1000 \\
      --sale flash --item sku-1 --users 50000 --history history.jsonl
  floodgate-loadtest oracle --ops 127.0.0.1:9090 --data-dir floodgate-data --sale flash \\
      --history history.jsonl --complete --sold-out
  floodgate-loadtest closed --sale flash --item sku-1 --connections 128 --seconds 10
  floodgate-loadtest open --sale flash --item sku-1 --rate 5000 --seconds 10 --json
  floodgate-loadtest scenario loadtest/scenarios/overload.toml --redis --postgres
  floodgate-loadtest bodies --users 1000000 --item sku-1 > bodies.ndjson
  floodgate-loadtest bench redis-fsync --rounds 5 --out bench-data";

#[derive(Debug, Subcommand)]
enum Command {
    /// Sends a crowd of buyers to a sale and reports what they saw
    Crowd(Box<crowd::CrowdOptions>),
    /// Drives a server as fast as it answers, over a fixed number of connections
    Closed(generate::ClosedOptions),
    /// Drives a server at a fixed rate; latency counts from the intended start
    Open(generate::OpenOptions),
    /// Plays scenarios against a gateway of their own, and proves the books afterwards
    Scenario(Box<scenario::ScenarioOptions>),
    /// Serves a fixed 201: the fastest that hyper can be
    Bare(bare::BareOptions),
    /// Asks again for everything whose outcome a history does not know
    Resolve(resolve::ResolveOptions),
    /// Judges a history against the ops API and the books, and shows the smallest case of a fault
    #[command(alias = "check")]
    Oracle(oracle::OracleOptions),
    /// Kills, stops, wipes and cuts real programs under load, and judges, again and again
    Chaos(chaos::ChaosOptions),
    /// Kills a Redis that keeps little, and counts what was told and is lost
    Losses(losses::LossesOptions),
    /// Writes request bodies for oha, one a line
    Bodies(bodies::BodiesOptions),
    /// What is needed for how many, by what was measured: a simulation
    Capacity(capacity::CapacityOptions),
    /// Measures the product beside others, in alternating rounds
    Bench(Box<bench::BenchOptions>),
}

/// Runs a command.
///
/// # Errors
///
/// Whatever keeps it from its end, with the exit code for it.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Crowd(options) => crowd::run(&options),
        Command::Closed(options) => generate::closed(&options),
        Command::Open(options) => generate::open(&options),
        Command::Scenario(options) => scenario::run(&options),
        Command::Bare(options) => bare::run(&options),
        Command::Resolve(options) => resolve::run(&options),
        Command::Oracle(options) => oracle::run(&options),
        Command::Chaos(options) => chaos::run(&options),
        Command::Losses(options) => losses::run(&options),
        Command::Bodies(options) => bodies::run(&options),
        Command::Capacity(options) => capacity::run(&options),
        Command::Bench(options) => bench::run(&options),
    }
}

/// Runs a future on `threads` threads; one is the leanest.
pub fn block_on<T>(
    threads: usize,
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut builder = if threads > 1 {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().map_err(Failure::failed)?.block_on(future)
}

/// Prints data as JSON.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn print_json(data: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(data).map_err(Failure::failed)?;
    print(&format!("{text}\n"))
}

/// Prints text; a reader that has had enough is no failure.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(bad) if bad.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Failure::failed),
    }
}
