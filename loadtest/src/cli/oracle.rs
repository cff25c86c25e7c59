//! `oracle`: the judge on the command line.

use std::path::PathBuf;

use clap::Args;
use floodgate_loadtest::history::History;
use floodgate_loadtest::oracle::{Scope, examine};

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
    let scope = Scope { complete: options.complete, sold_out: options.sold_out };
    let (data_dir, within) = (&options.ops.data_dir, seconds(options.within)?);
    let verdict = block_on(1, async {
        Ok(examine(&ops, data_dir, &options.sale, &history, scope, within).await?)
    })?;
    if options.json {
        print_json(&verdict)?;
    } else {
        print(&format!("{verdict}\n"))?;
    }
    if verdict.ok {
        return Ok(());
    }
    let names: Vec<&str> = verdict.failures().map(|check| check.name.as_str()).collect();
    Err(Failure::Broken(format!("broken: {}", names.join(", "))))
}
