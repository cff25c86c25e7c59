//! The audit: reads ledger, outbox and books directly and proves that they agree.
//!
//! It trusts neither the engine's counters nor the API. The ledger's events are folded here once more,
//! by other code than the engine's, with every rule checked at every event; then the books are laid
//! beside the fold, as it stood where the books' cursor stands. What lies after the cursor is lag, not
//! a fault.
//!
//! Works beside a running gateway and without one.

mod books;
mod findings;
mod fold;
mod log;
mod source;

use std::path::{Path, PathBuf};

use serde::Serialize;

use self::findings::Findings;
use self::fold::Fold;
use self::source::Source;
use crate::clock::Millis;
use crate::config::{Settings, redis_fault};
use crate::ledger::journal;
use crate::ledger::name::{self, Foreign};
use crate::ledger::redis::server::{Server, ServerError};
use crate::limits;
use crate::sale::{LaneId, SaleId};
use crate::store::snapshot::{Snapshot, SnapshotError};
use crate::store::{Mend, StoreAt};

pub use findings::Check;
pub use log::{LogEnd, LogMark};

/// What an audit found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Every check held.
    pub ok: bool,
    /// Each check.
    pub checks: Vec<Check>,
    /// Each sale, as the ledger's events add up.
    pub sales: Vec<SaleTotals>,
    /// Events that the books have not digested yet.
    pub undigested: u64,
    /// Where the audit log of each lane ends.
    pub audit_log: Vec<LogEnd>,
    /// What would make the books what the ledger's events say; nothing where those are in doubt.
    #[serde(skip)]
    pub mends: Vec<Mend>,
    /// How often the books had been mended when this was looked at.
    #[serde(skip)]
    pub mended: u64,
}

impl Report {
    /// Whether the books are what the ledger's events say, and only have letters about it besides.
    pub fn only_letters_left(&self) -> bool {
        let mut broken = self.checks.iter().filter(|check| !check.ok);
        broken.all(|check| check.name == findings::DEAD_LETTERS)
    }
}

/// What a sale's events add up to.
#[derive(Debug, Serialize)]
pub struct SaleTotals {
    /// The sale.
    pub sale: String,
    /// Reservations ever taken.
    pub reservations: u64,
    /// Orders in the books, as far as they are.
    pub orders: u64,
    /// Of those, the ones that are pending or paid.
    pub standing: u64,
    /// Users whose cart in the books has a line of this sale's reservations.
    pub carts: u64,
    /// Each item.
    pub items: Vec<ItemTotals>,
}

/// What an item's events add up to.
#[derive(Debug, Serialize)]
pub struct ItemTotals {
    /// The item.
    pub item: String,
    /// Initial stock, restocks and withdrawals.
    pub stock: i64,
    /// Held and not ended.
    pub held: i64,
    /// Paid.
    pub confirmed: i64,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// There is nothing to audit.
    #[error("{0} holds no ledger, and its books know of none")]
    Nothing(PathBuf),
    /// The books are another ledger's.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// Redis cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// The books.
    #[error(transparent)]
    Books(#[from] SnapshotError),
    /// A file or a lane cannot be read.
    #[error("{what}: {cause}")]
    Unreadable {
        /// Which.
        what: String,
        /// In the words of SQLite or Redis.
        cause: String,
    },
}

/// Where the ledger is that is audited.
#[derive(Clone, Copy, Debug)]
pub enum LedgerAt<'a> {
    /// In the data dir.
    DataDir,
    /// In Redis.
    Redis {
        /// As in the configuration.
        url: &'a str,
        /// How many lanes it has.
        lanes: u16,
    },
}

impl<'a> LedgerAt<'a> {
    /// Where these settings have it.
    pub fn of(settings: &'a Settings) -> Self {
        let lanes = settings.ledger.lanes;
        settings.redis_url.as_deref().map_or(Self::DataDir, |url| Self::Redis { url, lanes })
    }
}

/// Audits a ledger and its books; one sale only, if one is named.
///
/// # Errors
/// [`AuditError`] where there is no verdict. What is wrong is in the report.
pub fn run(
    dir: &Path,
    ledger: LedgerAt<'_>,
    store: &StoreAt,
    sale: Option<&SaleId>,
) -> Result<Report, AuditError> {
    run_with(dir, ledger, store, sale, &[])
}

/// The same, and looks for links of the audit log that were seen before.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    dir: &Path,
    ledger: LedgerAt<'_>,
    store: &StoreAt,
    sale: Option<&SaleId>,
    marks: &[LogMark],
) -> Result<Report, AuditError> {
    // One instant of the books first; the lanes, read later, reach at least as far.
    let books = Snapshot::open(store)?;
    check_name(dir, ledger, store, &books)?;
    let sources = sources(dir, ledger, store, &books)?;
    if sources.is_empty() {
        return Err(AuditError::Nothing(dir.to_owned()));
    }
    let mut findings = Findings::new(sale.cloned());
    let mut folds = Vec::new();
    for (lane, source) in sources {
        let cursor = books.cursor(lane)?;
        findings.look_how_far(rule(!matches!(source, Source::Lost), || {
            format!("lane {lane}: {} is not there", journal::path(dir, lane).display())
        }));
        let mut fold = Fold::new(lane, source);
        fold.up_to(Some(cursor), &mut findings).map_err(unreadable(lane))?;
        folds.push(fold);
    }
    let mended = books.mended()?;
    let counts = books::compare(&books, &folds, &mut findings)?;
    let audit_log = log::follow(&books, marks, &mut findings)?;
    drop(books);
    let mut undigested = 0;
    for fold in &mut folds {
        let (lane, digested) = (fold.lane, fold.seq());
        Source::compare(fold, &mut findings).map_err(unreadable(lane))?;
        fold.up_to(None, &mut findings).map_err(unreadable(lane))?;
        undigested += fold.seq().saturating_sub(digested);
        fold.close(&mut findings);
    }
    let mut sales: Vec<SaleTotals> = folds
        .iter()
        .flat_map(Fold::totals)
        .filter(|totals| findings.concerns(&totals.sale))
        .collect();
    for totals in &mut sales {
        if let Some(counts) = counts.get(&totals.sale) {
            totals.orders = counts.orders;
            totals.standing = counts.standing;
            totals.carts = counts.carts;
        }
    }
    let mends = findings.take_mends();
    let checks = findings.into_checks();
    let ok = checks.iter().all(|check| check.ok);
    Ok(Report { ok, checks, sales, undigested, audit_log, mends, mended })
}

/// Books of another ledger say nothing about this one.
fn check_name(
    dir: &Path,
    ledger: LedgerAt<'_>,
    store: &StoreAt,
    books: &Snapshot,
) -> Result<(), AuditError> {
    let Some(found) = books.ledger()? else { return Ok(()) };
    // Books in the data dir may have been named as if they were elsewhere, and then bear its id.
    let id = std::fs::read_to_string(name::id_file(dir));
    let with_id = name::elsewhere(id.as_deref().map_or("without gateway.id", str::trim));
    let own = match ledger {
        LedgerAt::Redis { lanes, .. } => name::redis(lanes),
        LedgerAt::DataDir if found == with_id => return Ok(()),
        LedgerAt::DataDir if StoreAt::of(None, dir).as_ref() == Ok(store) => {
            name::EMBEDDED.to_owned()
        }
        LedgerAt::DataDir => with_id,
    };
    if found == own { Ok(()) } else { Err(Foreign { found, own }.into()) }
}

/// Every lane of a data dir. A journal that is not there is lost, unless the ledger is only being made:
/// then no book knows of it yet, and what is missing are the last ones.
fn journals(dir: &Path, books: &Snapshot) -> Result<Vec<(LaneId, Source)>, AuditError> {
    let mut sources: Vec<(LaneId, Source)> = Vec::new();
    for lane in (0..limits::LANES_MAX).map(LaneId) {
        let path = journal::path(dir, lane);
        let source = if path.exists() {
            Source::journal(&path).map_err(unreadable(lane))?
        } else {
            Source::Lost
        };
        sources.push((lane, source));
    }
    let is_there = |(_, source): &(LaneId, Source)| !matches!(source, Source::Lost);
    let there = sources.iter().rposition(is_there).map_or(0, |last| last + 1);
    let known = books.lanes()?;
    let made = sources.iter().find_map(|(_, source)| source.lanes()).filter(|_| known > 0);
    sources.truncate(there.max(known.into()).max(made.unwrap_or(0).into()));
    Ok(sources)
}

fn unreadable(lane: LaneId) -> impl Fn(String) -> AuditError {
    move |cause| AuditError::Unreadable { what: format!("lane {lane}"), cause }
}

/// Every lane, and where its records are.
fn sources(
    dir: &Path,
    ledger: LedgerAt<'_>,
    store: &StoreAt,
    books: &Snapshot,
) -> Result<Vec<(LaneId, Source)>, AuditError> {
    match ledger {
        LedgerAt::DataDir => journals(dir, books),
        LedgerAt::Redis { url, lanes } => {
            let unreachable =
                |error: ServerError| AuditError::Unreachable(redis_fault(url, &error));
            let server = Server::of(url).map_err(unreachable)?;
            (0..lanes)
                .map(LaneId)
                .map(|lane| {
                    let mut stream =
                        server.connect(lane).map_err(|error| unreachable(error.into()))?;
                    let made = Source::lanes_in(&mut stream, lane).map_err(unreadable(lane))?;
                    if let Some(made) = made.filter(|made| *made != lanes) {
                        let (found, own) = (name::redis(lanes), name::redis(made));
                        return Err(Foreign { found, own }.into());
                    }
                    let source = Source::redis(stream, lane, store).map_err(unreadable(lane))?;
                    Ok((lane, source))
                })
                .collect()
        }
    }
}

/// What a rule says of one event.
type Rule = Result<(), String>;

fn rule(holds: bool, fault: impl FnOnce() -> String) -> Rule {
    if holds { Ok(()) } else { Err(fault()) }
}

/// Instants in findings, as people read them.
fn at(at: Millis) -> String {
    at.to_string()
}
