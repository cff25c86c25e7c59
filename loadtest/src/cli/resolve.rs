//! `resolve`: after a crash, asks again for everything whose outcome a history does not know.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use floodgate_loadtest::buyers::{self, Control, CrowdPlan, Identity};
use floodgate_loadtest::history::History;

use super::{Failure, OpsOptions, address, block_on, print_json};

#[derive(Debug, Args)]
pub struct ResolveOptions {
    /// The public listener
    #[arg(long, value_name = "ADDR", value_parser = address, default_value = "127.0.0.1:8080")]
    target: SocketAddr,
    #[command(flatten)]
    ops: OpsOptions,
    /// The sale
    #[arg(long)]
    sale: String,
    /// The history that a crowd has written; the answers are appended to it
    #[arg(long, value_name = "FILE")]
    history: PathBuf,
    /// User and key in the body, for a server with --auth insecure
    #[arg(long)]
    identity_in_body: bool,
}

pub fn run(options: &ResolveOptions) -> Result<(), Failure> {
    let mut history = History::load(&options.history)
        .map_err(|bad| Failure::Failed(format!("{}: {bad}", options.history.display())))?;
    let plan = CrowdPlan {
        ops: options.ops.access()?,
        identity: if options.identity_in_body { Identity::Body } else { Identity::Header },
        // What was wanted stands in the history; the plan only has to name something.
        ..CrowdPlan::new(options.target, &options.sale, &["any"], 1)
    };
    let control = Control { history_file: Some(options.history.clone()), ..Control::default() };
    let found = block_on(1, async { Ok(buyers::resolve(&mut history, &plan, control).await?) })?;
    print_json(&found)?;
    if !found.anomalies.is_empty() {
        return Err(Failure::Broken(found.anomalies.join("; ")));
    }
    match found.unresolved {
        0 => Ok(()),
        open => Err(Failure::Unavailable(format!("{open} outcomes are still unknown"))),
    }
}
