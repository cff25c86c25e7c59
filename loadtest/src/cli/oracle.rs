//! `oracle`: the judge on the command line.

use std::path::PathBuf;

use clap::Args;
use floodgate_loadtest::history::{History, Level};
use floodgate_loadtest::oracle::{BooksAt, Evidence, Report, Run, Scope, gather, judge};

use super::generate::seconds;
use super::{Failure, OpsOptions, block_on, print, print_json};

#[derive(Debug, Args)]
pub struct OracleOptions {
    #[command(flatten)]
    ops: OpsOptions,
    /// The sale
    #[arg(long)]
    sale: String,
    /// The history that a crowd has written; several are put one after the other
    #[arg(long = "history", value_name = "FILE", required = true)]
    histories: Vec<PathBuf>,
    /// The histories hold every request that was ever made to the sale
    #[arg(long)]
    complete: bool,
    /// Everything has to be sold
    #[arg(long)]
    sold_out: bool,
    /// The books are in this database, not in the data directory
    #[arg(long, env = "DATABASE_URL", value_name = "URL")]
    database_url: Option<String>,
    /// There were faults that only promises of this level and above survive: memory, fsync,
    /// replicated or stored
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    lost_below: Option<Level>,
    /// What the gateways were set to promise: every 201 has to say so
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    level: Option<Level>,
    /// Several gateways shared the ledger: for a moment after a 201 another of them may say "sold out"
    #[arg(long)]
    shared: bool,
    /// What the run's choices followed from, for the report
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What was set in the run, for the report
    #[arg(long, default_value = "")]
    settings: String,
    /// The server's version, for the report
    #[arg(long, default_value = "")]
    commit: String,
    /// How long to wait for the writer, in seconds
    #[arg(long, default_value_t = 60.0)]
    within: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(options: &OracleOptions) -> Result<(), Failure> {
    let Some(ops) = options.ops.access()? else {
        return Err(Failure::Failed("the oracle needs --ops".to_owned()));
    };
    let mut history = History::new();
    for path in &options.histories {
        let loaded = History::load(path)
            .map_err(|bad| Failure::Failed(format!("{}: {bad}", path.display())))?;
        history.append(loaded);
    }
    let (complete, sold_out) = (options.complete, options.sold_out);
    let scope = Scope {
        complete,
        sold_out,
        lost_below: options.lost_below,
        shared: options.shared,
        level: options.level,
        ..Scope::default()
    };
    let books = match &options.database_url {
        Some(url) if url.starts_with("postgres") => BooksAt::Postgres(url.clone()),
        Some(_) | None => BooksAt::Sqlite(options.ops.data_dir.join("store.db")),
    };
    let within = seconds(options.within)?;
    let (view, books, _) =
        block_on(1, async { Ok(gather(&ops, &books, &options.sale, within).await?) })?;
    let evidence = Evidence { history: &history, ledger: &view, books: &books, scope };
    let verdict = judge(&evidence);
    if options.json {
        print_json(&verdict)?;
    } else if verdict.ok {
        print(&format!("{verdict}\n"))?;
    } else {
        let run = Run {
            seed: options.seed,
            settings: options.settings.clone(),
            commit: options.commit.clone(),
            history: options.histories.first().cloned(),
            logs: None,
        };
        print(&format!("{}\n", Report::of(run, &evidence, &verdict)))?;
    }
    if verdict.ok {
        return Ok(());
    }
    let names: Vec<&str> = verdict.failures().map(|check| check.name.as_str()).collect();
    Err(Failure::Broken(format!("broken: {}", names.join(", "))))
}

fn level(word: &str) -> Result<Level, String> {
    Level::parse(word).ok_or_else(|| format!("{word} is no level"))
}
