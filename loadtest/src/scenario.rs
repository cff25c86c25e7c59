//! Scenarios: a sale, a crowd that comes by the clock, and what must have come of it, in a file each.
//!
//! [`run`] starts a gateway with what it stands on, plays a file against it, reads ledger and store
//! afterwards, and says whether the books are right, whatever the figures were.

mod expect;
mod file;
mod outcome;
mod workload;

pub use expect::Miss;
pub use file::{
    BackoffSpec, Clients, Expect, GatewaySpec, PhaseSpec, RetrySpec, SaleSection, Scenario,
    ScenarioError,
};
pub use outcome::Outcome;
pub use workload::Workload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::gateway::{Backends, Durable, Gateway, GatewayError};
use crate::limits::{CAPACITY_SECONDS, CONNECTIONS_DEFAULT, DRAIN_LOOK_EVERY};
use crate::ops::{OpsClient, OpsError, SaleSpec, SaleView};
use crate::oracle::{self, Flood, OracleError, Wanted, judge_flood};
use crate::rig::{self, ReserveRequest, RigError, Until};

/// Units of the sale in which the capacity is measured.
const MEASURED_STOCK: u64 = 100_000_000;

/// Where and how a scenario is played.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The product.
    pub floodgate: PathBuf,
    /// A Redis ledger, and what it promises.
    pub redis: Option<Durable>,
    /// Books in PostgreSQL.
    pub postgres: bool,
    /// Requests a second that phases with `times` are multiples of; else the file's, else measured.
    pub capacity: Option<f64>,
    /// Phases last so many times as long as the file says.
    pub stretch: f64,
    /// How long the writer may take to digest everything.
    pub drain: Duration,
}

/// Why a scenario could not be played to its end.
#[derive(Debug, Error)]
pub enum StageError {
    /// No gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The operator's side.
    #[error(transparent)]
    Ops(#[from] OpsError),
    /// The generator.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The judge.
    #[error(transparent)]
    Oracle(#[from] OracleError),
    /// The file.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

/// Plays a scenario.
///
/// # Errors
/// Whatever keeps it from a verdict; a broken promise is a verdict.
pub async fn run(scenario: &Scenario, stage: &Stage) -> Result<Outcome, StageError> {
    let mut backends = Backends::start(stage.redis, stage.postgres)?;
    if let Some(delay) = scenario.gateway.store_delay_ms {
        backends.slow_down(Duration::from_millis(delay))?;
    }
    let arguments: Vec<String> = scenario.gateway.arguments();
    let gateway = Gateway::start(&stage.floodgate, backends, None, &arguments).await?;
    let capacity = capacity(scenario, stage, &gateway).await?;
    let plan = scenario.plan(gateway.addr(), capacity, stage.stretch)?;
    let workload = Workload::new(scenario, &gateway.addr().to_string(), plan.arrivals());

    let (spec, wanted) = sale(scenario, &workload)?;
    let mut ops = OpsClient::new(gateway.ops());
    ops.create_sale(&spec).await?;
    if spec.opens_at.is_none() {
        ops.transition(&spec.id, "open").await?;
    }
    let (report, seen) = rig::open(plan, workload.clone()).await?;
    if wanted.all_expired {
        wait_expired(&gateway, &spec.id, scenario.sale.hold_seconds).await?;
    }
    let books = gateway.backends().books(gateway.data_dir());
    let (ledger, books, drained_after) =
        oracle::gather(gateway.ops(), &books, &spec.id, stage.drain).await?;
    let verdict = judge_flood(&Flood {
        seen: &seen,
        user_of: &workload,
        ledger: &ledger,
        books: &books,
        wanted,
    });
    let (audited, audit) = gateway.audit()?;
    let misses = scenario.expect.misses(&report, capacity);
    Ok(Outcome { capacity, report, ledger, verdict, audited, audit, misses, drained_after })
}

/// What phases with `times` are multiples of, where there are any.
async fn capacity(
    scenario: &Scenario,
    stage: &Stage,
    gateway: &Gateway,
) -> Result<Option<f64>, StageError> {
    let given = stage.capacity.or(scenario.capacity);
    if given.is_some() || !scenario.needs_capacity() {
        return Ok(given);
    }
    let sale = "capacity";
    let mut ops = OpsClient::new(gateway.ops());
    ops.create_sale(&SaleSpec::single(sale, "sku-1", MEASURED_STOCK, Some(1))).await?;
    ops.transition(sale, "open").await?;
    let addr = gateway.addr();
    let request = ReserveRequest::new(&addr.to_string(), sale, "sku-1", "c", false);
    let until = Until::Elapsed(CAPACITY_SECONDS);
    let stats = rig::closed(addr, CONNECTIONS_DEFAULT, until, 0, request).await?;
    oracle::wait_drained(gateway.ops(), sale, stage.drain).await?;
    let won = stats.status_code_distribution.get(&201).copied().unwrap_or(0);
    Ok(Some(won as f64 / stats.summary.total.max(f64::EPSILON)))
}

/// The sale as the ops API takes it, and what must come of it.
fn sale(scenario: &Scenario, workload: &Workload) -> Result<(SaleSpec, Wanted), ScenarioError> {
    let section = &scenario.sale;
    let now = jiff::Timestamp::now().as_millisecond();
    let at = |after: Option<u64>| {
        after.map(|ms| now.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
    };
    // Where only the end is given the beginning is now.
    let closes_at_ms = at(section.closes_after_ms);
    let opens_at_ms = at(section.opens_after_ms).or(closes_at_ms.map(|_| now));
    let text = |ms: i64| {
        let at = jiff::Timestamp::from_millisecond(ms);
        at.map(|at| at.to_string()).map_err(|_| ScenarioError::Time)
    };
    let spec = SaleSpec {
        hold_seconds: section.hold_seconds,
        opens_at: opens_at_ms.map(text).transpose()?,
        closes_at: closes_at_ms.map(text).transpose()?,
        items: workload.items(section.stock),
        ..SaleSpec::single(workload::SALE, "", 0, section.per_user_limit)
    };
    let wanted = Wanted {
        keyed: scenario.clients.keys,
        sold_out: scenario.expect.sold_out,
        all_expired: scenario.expect.all_expired,
        opens_at_ms,
        closes_at_ms,
    };
    Ok((spec, wanted))
}

/// Waits until no unit is held any more, or until the last hold must have run out long ago.
async fn wait_expired(
    gateway: &Gateway,
    sale: &str,
    hold_seconds: u64,
) -> Result<SaleView, StageError> {
    let mut ops = OpsClient::new(gateway.ops());
    let mut looks = tokio::time::interval(DRAIN_LOOK_EVERY);
    let ends =
        tokio::time::Instant::now() + Duration::from_secs(hold_seconds) + crate::limits::GRACE;
    loop {
        looks.tick().await;
        let view = ops.sale(sale).await?;
        let held: i64 = view.items.iter().map(|item| item.held).sum();
        if held == 0 || tokio::time::Instant::now() >= ends {
            return Ok(view);
        }
    }
}

/// The product's binary beside this program's.
///
/// # Errors
/// This program does not know where it is.
pub fn beside() -> std::io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().unwrap_or(Path::new(".")).join("floodgate"))
}
