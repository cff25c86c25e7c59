//! `crowd`: the buyers on the command line.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use floodgate_loadtest::buyers::{self, Control, CrowdPlan, CrowdReport, Habits, Identity};
use floodgate_loadtest::limits::CONNECTIONS_DEFAULT;
use floodgate_loadtest::ops::{OpsClient, SaleSpec};
use floodgate_loadtest::progress;

use super::{Failure, OpsOptions, address, block_on, print, print_json};

#[derive(Debug, Args)]
pub struct CrowdOptions {
    /// The public listener
    #[arg(long, value_name = "ADDR", value_parser = address, default_value = "127.0.0.1:8080")]
    target: SocketAddr,
    #[command(flatten)]
    ops: OpsOptions,
    /// The sale
    #[arg(long)]
    sale: String,
    /// An item of it; may be given several times
    #[arg(long = "item", required = true)]
    items: Vec<String>,
    /// Create and open the sale first, with so many units of each item (needs --ops)
    #[arg(long, requires = "ops")]
    stock: Option<u64>,
    /// Units per user in that sale
    #[arg(long, requires = "stock")]
    per_user_limit: Option<u32>,
    /// How many buyers
    #[arg(long, default_value_t = 10_000)]
    users: u64,
    /// Number of the first buyer
    #[arg(long, default_value_t = 0)]
    first_user: u64,
    /// Connections that they share
    #[arg(long, default_value_t = CONNECTIONS_DEFAULT)]
    connections: usize,
    /// Units in one reservation
    #[arg(long, default_value_t = 1)]
    quantity: u32,
    /// The crowd's order and habits follow from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// User and key in the body, for a server with --auth insecure
    #[arg(long)]
    identity_in_body: bool,
    #[command(flatten)]
    habits: HabitOptions,
    /// Winners who have not paid do not pay in the end either
    #[arg(long)]
    no_settle: bool,
    /// Go home at the first sign that the server is gone
    #[arg(long)]
    stop_on_disconnect: bool,
    /// Append the history to this file
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Sync that file after every line
    #[arg(long, requires = "history")]
    history_sync: bool,
    /// Threads of the buyers
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shares of the buyers that do more than buy.
#[derive(Debug, Args)]
struct HabitOptions {
    /// Send twice
    #[arg(long, default_value_t = Habits::default().duplicate_ratio)]
    duplicate_ratio: f64,
    /// Repeat a finished request
    #[arg(long, default_value_t = Habits::default().retry_ratio)]
    retry_ratio: f64,
    /// Use a key for another body
    #[arg(long, default_value_t = Habits::default().reuse_ratio)]
    reuse_ratio: f64,
    /// Look at the reservation, and have a stranger try
    #[arg(long, default_value_t = Habits::default().look_ratio)]
    look_ratio: f64,
    /// Cancel
    #[arg(long, default_value_t = Habits::default().cancel_ratio)]
    cancel_ratio: f64,
    /// Pay at once
    #[arg(long, default_value_t = Habits::default().confirm_ratio)]
    confirm_ratio: f64,
    /// Want two items at once
    #[arg(long, default_value_t = Habits::default().basket_ratio)]
    basket_ratio: f64,
}

pub fn run(options: &CrowdOptions) -> Result<(), Failure> {
    let plan = plan(options)?;
    let control = Control {
        progress: progress::bar(),
        history_file: options.history.clone(),
        history_sync: options.history_sync,
        ..Control::default()
    };
    let report = block_on(options.threads, async {
        if let (Some(stock), Some(ops)) = (options.stock, &plan.ops) {
            let mut client = OpsClient::new(ops);
            client.create_sale(&sale(options, stock)).await?;
            client.transition(&options.sale, "open").await?;
        }
        Ok(buyers::run(&plan, control).await?)
    })?;
    if options.json {
        print_json(&report)?;
    } else {
        print(&Table(&report).to_string())?;
    }
    verdict(options, &report)
}

fn verdict(options: &CrowdOptions, report: &CrowdReport) -> Result<(), Failure> {
    if report.anomalies_total > 0 {
        return Err(Failure::Broken(format!("{} strange answers", report.anomalies_total)));
    }
    let unsent = report.outcomes.get("not-sent").copied().unwrap_or(0);
    if unsent == report.attempts {
        return Err(Failure::Unavailable(format!("{} cannot be reached", options.target)));
    }
    Ok(())
}

fn plan(options: &CrowdOptions) -> Result<CrowdPlan, Failure> {
    let items: Vec<&str> = options.items.iter().map(String::as_str).collect();
    let habits = &options.habits;
    Ok(CrowdPlan {
        ops: options.ops.access()?,
        first_user: options.first_user,
        connections: options.connections,
        quantity: options.quantity,
        seed: options.seed,
        identity: if options.identity_in_body { Identity::Body } else { Identity::Header },
        habits: Habits {
            duplicate_ratio: habits.duplicate_ratio,
            retry_ratio: habits.retry_ratio,
            reuse_ratio: habits.reuse_ratio,
            look_ratio: habits.look_ratio,
            cancel_ratio: habits.cancel_ratio,
            confirm_ratio: habits.confirm_ratio,
            basket_ratio: habits.basket_ratio,
        },
        settle: !options.no_settle,
        stop_on_disconnect: options.stop_on_disconnect,
        ..CrowdPlan::new(options.target, &options.sale, &items, options.users)
    })
}

fn sale(options: &CrowdOptions, stock: u64) -> SaleSpec {
    let mut spec = SaleSpec::single(&options.sale, "", stock, options.per_user_limit);
    spec.items = options
        .items
        .iter()
        .flat_map(|item| SaleSpec::single(&options.sale, item, stock, None).items)
        .collect();
    spec
}

/// A report for people.
struct Table<'a>(&'a CrowdReport);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        let stopped = if report.stopped { ", stopped early" } else { "" };
        writeln!(
            f,
            "{} requests in {:.2} s, {} reservations, {} waves of second chances{stopped}",
            report.attempts, report.elapsed_seconds, report.reservations, report.waves,
        )?;
        let (outcome, count) = ("outcome", "requests");
        writeln!(f, "{outcome:<26} {count:>10} {:>9} {:>9} {:>9}", "p50 ms", "p99 ms", "max ms")?;
        let ms = |us: u64| us as f64 / 1e3;
        for (outcome, count) in &report.outcomes {
            let latency = report.latency_us.get(outcome).copied().unwrap_or_default();
            let (p50, p99, max) = (ms(latency.p50), ms(latency.p99), ms(latency.max));
            writeln!(f, "{outcome:<26} {count:>10} {p50:>9.2} {p99:>9.2} {max:>9.2}")?;
        }
        report.anomalies.iter().try_for_each(|anomaly| writeln!(f, "strange: {anomaly}"))
    }
}
