//! The audit: reads ledger, outbox and books directly and proves that they agree.
//!
//! It trusts neither the engine's counters nor the API. The journal's events are folded here once more,
//! by other code than the engine's, with every rule checked at every event; then the books are laid
//! beside the fold, as it stood where the books' cursor stands. What lies after the cursor is lag, not
//! a fault.
//!
//! Works beside a running gateway and without one.

mod books;
mod findings;
mod fold;

use std::path::{Path, PathBuf};

use serde::Serialize;

use self::findings::Findings;
use self::fold::Fold;
use crate::clock::Millis;
use crate::ledger::journal;
use crate::sale::{LaneId, SaleId};
use crate::sqlite;
use crate::store::sqlite as books_file;

pub use findings::Check;

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
    #[error("{0} holds no ledger and no books")]
    Nothing(PathBuf),
    /// A file cannot be read.
    #[error("{path}: {cause}", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// In SQLite's words.
        cause: rusqlite::Error,
    },
}

/// Audits a data dir; of one sale only, if one is named.
///
/// # Errors
/// [`AuditError`] where there is no verdict. What is wrong is in the report.
pub fn run(dir: &Path, sale: Option<&SaleId>) -> Result<Report, AuditError> {
    let store_path = books_file::path(dir);
    let lanes: Vec<(LaneId, PathBuf)> = (0..crate::limits::LANES_MAX)
        .map(|lane| (LaneId(lane), journal::path(dir, LaneId(lane))))
        .take_while(|(_, path)| path.exists())
        .collect();
    if lanes.is_empty() || !store_path.exists() {
        return Err(AuditError::Nothing(dir.to_owned()));
    }
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |cause| AuditError::Unreadable { path, cause }
    };
    // One instant of the books first; the journals, read later, reach at least as far.
    let mut store = sqlite::open_reader(&store_path).map_err(unreadable(&store_path))?;
    let books = store.transaction().map_err(unreadable(&store_path))?;
    let mut findings = Findings::new(sale.cloned());
    let mut folds = Vec::new();
    for (lane, path) in &lanes {
        let cursor = books::cursor(&books, *lane).map_err(unreadable(&store_path))?;
        let mut fold = Fold::new(*lane, path).map_err(unreadable(path))?;
        fold.up_to(Some(cursor), &mut findings).map_err(unreadable(path))?;
        folds.push(fold);
    }
    let counts = books::compare(&books, &folds, &mut findings).map_err(unreadable(&store_path))?;
    drop(books);
    let mut undigested = 0;
    for (fold, (_, path)) in folds.iter_mut().zip(&lanes) {
        let digested = fold.seq();
        fold.up_to(None, &mut findings).map_err(unreadable(path))?;
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
    let checks = findings.into_checks();
    Ok(Report { ok: checks.iter().all(|check| check.ok), checks, sales, undigested })
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
