//! `scenario`: a file played against a gateway of its own, and the oracle afterwards.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use floodgate_loadtest::gateway::Durable;
use floodgate_loadtest::scenario::{self, Outcome, Scenario, Stage};

use super::generate::seconds;
use super::{Failure, block_on, print, print_json};

#[derive(Debug, Args)]
pub struct ScenarioOptions {
    /// The files; each gets a gateway of its own
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The product [default: beside this program]
    #[arg(long, value_name = "PATH")]
    floodgate: Option<PathBuf>,
    /// A Redis ledger instead of the embedded one (needs redis-server)
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "fsync")]
    redis: Option<Promise>,
    /// Books in PostgreSQL (needs its programs)
    #[arg(long)]
    postgres: bool,
    /// Requests a second that phases with `times` are multiples of [default: the file's, or measured]
    #[arg(long, value_name = "RATE")]
    capacity: Option<f64>,
    /// Phases last so many times as long
    #[arg(long, default_value_t = 1.0)]
    stretch: f64,
    /// How long the writer may take afterwards, in seconds
    #[arg(long, default_value_t = 120.0)]
    drain: f64,
    /// Threads of the generator
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Figures that are missed are no failure: only the books count
    #[arg(long)]
    books_only: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a 201 of the Redis ledger promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Promise {
    /// Nothing is synced.
    Memory,
    /// Every write is synced first.
    Fsync,
}

impl From<Promise> for Durable {
    fn from(promise: Promise) -> Self {
        match promise {
            Promise::Memory => Self::Memory,
            Promise::Fsync => Self::Fsync,
        }
    }
}

pub fn run(options: &ScenarioOptions) -> Result<(), Failure> {
    let floodgate = match &options.floodgate {
        Some(path) => path.clone(),
        None => scenario::beside().map_err(Failure::failed)?,
    };
    let stage = Stage {
        floodgate,
        redis: options.redis.map(Durable::from),
        postgres: options.postgres,
        capacity: options.capacity,
        stretch: options.stretch,
        drain: seconds(options.drain)?,
    };
    let mut missed = Vec::new();
    for file in &options.files {
        let scenario = Scenario::read(file).map_err(Failure::failed)?;
        let name = file.display();
        let run = scenario::run(&scenario, &stage);
        let outcome = block_on(options.threads, async {
            run.await.map_err(|bad| Failure::Failed(format!("{name}: {bad}")))
        })?;
        show(options, &format!("{name}: {}", scenario.question), &outcome)?;
        if !outcome.proven() {
            return Err(Failure::Broken(format!("{name}: the books are not right")));
        }
        if !outcome.misses.is_empty() {
            missed.push(name.to_string());
        }
    }
    if missed.is_empty() || options.books_only {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "right books, and figures that were missed: {}",
        missed.join(", ")
    )))
}

fn show(options: &ScenarioOptions, title: &str, outcome: &Outcome) -> Result<(), Failure> {
    if options.json {
        return print_json(outcome);
    }
    print(&format!("{title}\n{outcome}\n"))
}
