//! `floodgate demo`: the main job on the embedded default, with nothing installed.
//!
//! A gateway of this very binary, a sale, a crowd that behaves like people over real loopback HTTP,
//! then the books: the crowd's own oracle and the product's audit judge apart from each other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use floodgate_loadtest::buyers::{self, Control, CrowdPlan, CrowdReport};
use floodgate_loadtest::ops::OpsAccess;
use floodgate_loadtest::oracle::{self, Scope, Verdict};
use floodgate_loadtest::progress;
use hyper::Method;
use serde_json::{Value, json};

use super::arguments::DemoArguments;
use super::client::{Ops, Question};
use super::serve::{Signals, runtimes, start};
use super::{Exit, Failure, audit as audit_command, say, table};
use crate::app::{self, Gateway, Handed};
use crate::audit::{self, LedgerAt};
use crate::config::Settings;
use crate::logs;
use crate::runtimes::Handles;
use crate::store::{StoreAt, sqlite};

/// Where operators see and make sales.
const SALES: &str = "/admin/v1/sales";
const SALE: &str = "demo";
const ITEM: &str = "sku-1";
/// How long the writer may take to drain after the crowd has gone home.
const DRAIN: Duration = Duration::from_secs(60);

pub(super) fn run(arguments: &DemoArguments, as_json: bool) -> Result<Exit, Failure> {
    let runtimes = runtimes()?;
    runtimes.block_on(demo(arguments, as_json, &runtimes.handles()))
}

async fn demo(
    arguments: &DemoArguments,
    as_json: bool,
    runtimes: &Handles,
) -> Result<Exit, Failure> {
    let mut signals = Signals::new()?;
    let temporary = match &arguments.data_dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("floodgate-demo-").tempdir()?),
    };
    let dir = temporary.as_ref().map(|dir| dir.path().to_owned());
    let dir = arguments.data_dir.clone().or(dir).unwrap_or_default();
    let settings = settings(arguments, dir.clone());
    let _logging = logs::start(&settings).map_err(|error| Failure::new(Exit::Failure, error))?;
    let gateway = start(&settings, Handed::default(), runtimes, |_| ()).await?;
    // From here on whatever happens, the gateway is taken down in good order.
    let shown = tokio::select! {
        shown = show(arguments, as_json, &gateway, &dir) => shown,
        () = signals.stop() => Err(Failure::new(Exit::Failure, "interrupted")),
    };
    if shown.is_ok() && !arguments.exit {
        signals.stop().await;
    }
    gateway.drain().await;
    shown
}

fn settings(arguments: &DemoArguments, data_dir: PathBuf) -> Settings {
    Settings {
        listen: free(arguments.listen),
        ops_listen: free(arguments.ops_listen),
        data_dir,
        log: std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()),
        ..Settings::default()
    }
}

/// The address, or any free port of it if somebody else is there: a demo must not fail for that.
fn free(address: SocketAddr) -> SocketAddr {
    match std::net::TcpListener::bind(address) {
        Ok(_) => address,
        Err(_) => SocketAddr::new(address.ip(), 0),
    }
}

async fn show(
    arguments: &DemoArguments,
    as_json: bool,
    gateway: &Gateway,
    dir: &Path,
) -> Result<Exit, Failure> {
    let token =
        app::read_token(dir).map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
    let public = gateway.public_address;
    let ops_url = format!("http://{}", gateway.ops_address);
    let ops = Ops::at(&ops_url, Some(token.clone()))?;
    open_sale(&ops, arguments.stock).await?;
    if !as_json {
        say!("gateway  http://{public}/v1/sales/{SALE}");
        say!("ops      {ops_url}  (token in {})\n", dir.join("admin.token").display());
        let (users, stock) = (arguments.users, arguments.stock);
        say!("{users} buyers come for {stock} units");
    }
    let access = OpsAccess { addr: gateway.ops_address, token };
    let mut plan = CrowdPlan::new(public, SALE, &[ITEM], arguments.users);
    plan.ops = Some(access.clone());
    plan.seed = arguments.seed;
    let control = Control { progress: progress::bar(), ..Control::default() };
    let failure = |error: String| Failure::new(Exit::Failure, error);
    let crowd = buyers::run(&plan, control).await.map_err(|error| failure(error.to_string()))?;
    let scope =
        Scope { complete: true, sold_out: arguments.users >= arguments.stock, ..Scope::default() };
    let verdict = oracle::examine(&access, dir, SALE, &crowd.history, scope, DRAIN)
        .await
        .map_err(|error| failure(error.to_string()))?;
    let path = format!("{SALES}/{SALE}");
    let sale = ops.ask(&Question::new(Method::GET, path, format!("sale {SALE}"))).await?;
    let audited = {
        let dir = dir.to_owned();
        let store = StoreAt::File(sqlite::path(&dir));
        let audit = move || audit::run(&dir, LedgerAt::DataDir, &store, None);
        tokio::task::spawn_blocking(audit).await
    };
    let audited = audited
        .map_err(|error| failure(error.to_string()))?
        .map_err(|error| failure(error.to_string()))?;
    let report = Report { crowd: &crowd, verdict: &verdict, sale: &sale, audit: &audited };
    let ok = verdict.ok && audited.ok && crowd.anomalies_total == 0;
    if as_json {
        say!("{}", report.to_json(ok, dir));
    } else {
        report.print();
        if !arguments.exit {
            say!("\nStill serving; end with Ctrl-C. Look around with:");
            say!("  curl http://{public}/v1/sales/{SALE}");
            say!("  curl {ops_url}/metrics");
            say!("  floodgate audit --data-dir {}", dir.display());
        }
    }
    Ok(if ok { Exit::Ok } else { Exit::Broken })
}

async fn open_sale(ops: &Ops, stock: u64) -> Result<(), Failure> {
    let sale = json!({
        "id": SALE, "title": "Demonstration", "hold_seconds": 600, "per_user_limit": 1,
        "items": [{ "id": ITEM, "title": "Limited edition", "price": 19_900, "currency": "EUR",
                    "stock": stock }],
    });
    let about = format!("sale {SALE}");
    ops.ask(&Question::new(Method::POST, SALES, about.as_str()).with_body(sale)).await?;
    ops.ask(&Question::new(Method::POST, format!("{SALES}/{SALE}/open"), about)).await?;
    Ok(())
}

/// What the demonstration came to.
struct Report<'a> {
    crowd: &'a CrowdReport,
    verdict: &'a Verdict,
    sale: &'a Value,
    audit: &'a audit::Report,
}

/// What is in the books at the end.
struct Totals {
    stock: u64,
    sold: u64,
    confirmed: u64,
    held: u64,
    /// Orders that stand, and those that were cancelled or expired.
    orders: u64,
    orders_ended: u64,
    /// Carts that a reservation's line is in.
    carts: u64,
}

impl Report<'_> {
    fn totals(&self) -> Totals {
        let item = &self.sale["items"][0];
        let count = |name: &str| item[name].as_u64().unwrap_or(0);
        let books = |count: fn(&audit::SaleTotals) -> u64| -> u64 {
            self.audit.sales.iter().map(count).sum()
        };
        let orders = books(|sale| sale.standing);
        Totals {
            stock: count("stock"),
            sold: count("held") + count("confirmed"),
            confirmed: count("confirmed"),
            held: count("held"),
            orders,
            orders_ended: books(|sale| sale.orders).saturating_sub(orders),
            carts: books(|sale| sale.carts),
        }
    }

    fn to_json(&self, ok: bool, dir: &Path) -> Value {
        let totals = self.totals();
        json!({
            "ok": ok,
            "attempts": self.crowd.attempts,
            "outcomes": self.crowd.outcomes,
            "anomalies": self.crowd.anomalies_total,
            "latency_us": self.crowd.latency_us,
            "elapsed_seconds": self.crowd.elapsed_seconds,
            "stock": totals.stock,
            "sold": totals.sold,
            "confirmed": totals.confirmed,
            "held": totals.held,
            "orders": totals.orders,
            "orders_cancelled": totals.orders_ended,
            "carts": totals.carts,
            "oracle": self.verdict,
            "audit": self.audit,
            "data_dir": dir,
        })
    }

    fn print(&self) {
        let crowd = self.crowd;
        let mut rows = Vec::new();
        for (outcome, count) in &crowd.outcomes {
            let latency = crowd.latency_us.get(outcome).copied().unwrap_or_default();
            let ms = |us: u64| format!("{:.2}", us as f64 / 1_000.0);
            rows.push(vec![
                outcome.clone(),
                count.to_string(),
                ms(latency.p50),
                ms(latency.p99),
                ms(latency.p999),
                ms(latency.max),
            ]);
        }
        let all = crowd.attempts.to_string();
        rows.push(vec![
            "all attempts".to_owned(),
            all,
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ]);
        say!();
        let headings = ["OUTCOME", "COUNT", "P50 ms", "P99 ms", "P99.9 ms", "MAX ms"];
        table::print(&headings, &[1, 2, 3, 4, 5], rows);
        let rate = crowd.attempts as f64 / crowd.elapsed_seconds.max(f64::EPSILON);
        say!("\n{:.1} s, {rate:.0} requests/s, {} waves", crowd.elapsed_seconds, crowd.waves);
        let totals = self.totals();
        say!(
            "sold {} of {} units ({} confirmed, {} held), {} orders, {} carts; {} orders cancelled",
            totals.sold,
            totals.stock,
            totals.confirmed,
            totals.held,
            totals.orders,
            totals.carts,
            totals.orders_ended
        );
        for anomaly in &crowd.anomalies {
            say!("anomaly: {anomaly}");
        }
        say!("\nThe crowd's oracle (docs/RELIABILITY.md says what I1, I2, … promise)");
        say!("{}\n", self.verdict);
        say!("The audit");
        audit_command::show(self.audit);
    }
}
