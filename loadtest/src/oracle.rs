//! The judge: were the promises of the contract kept?
//!
//! It puts side by side what the clients saw (the [`History`]), what the ledger counts (the ops
//! API) and what the store keeps (read with SQL of its own), and reports every promise by name.
//! It shares no code with the product.

mod answer_checks;
mod books;
mod books_postgres;
mod cart_checks;
mod digest;
mod flood;
mod hold_checks;
mod invariants;
mod linear;
mod order_checks;
mod report;
mod shrink;
mod stock_checks;
#[cfg(test)]
mod tests;
mod verdict;

pub use books::{Books, BooksAt, BooksError, CartLine, Order, OrderLine, Refund, StoreItem};
pub use flood::{Flood, UserOf, Wanted, judge_flood};
pub use report::{Inquiry, Report, Run, commit, examine_or_report, judge_or_report};
pub use shrink::smallest_case;
pub use verdict::{Check, Lines, NotSearched, Verdict, Why};

use std::path::Path;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};

use self::digest::Digest;
use crate::history::{History, Level};
use crate::limits::{DRAIN_LOOK_EVERY, STEADY_TRIES_MAX};
use crate::ops::{OpsAccess, OpsClient, OpsError, SaleView};

/// Everything that the judge looks at.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What the clients saw.
    pub history: &'a History,
    /// What the ledger counts.
    pub ledger: &'a SaleView,
    /// What the store keeps.
    pub books: &'a Books,
    /// What the judge may take for granted.
    pub scope: Scope,
}

/// What the judge may take for granted about the evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The history holds every request that was ever made to this sale: an order without a request
    /// is then a fault.
    pub complete: bool,
    /// Everything must be sold: a unit that is left is then a fault.
    pub sold_out: bool,
    /// There were faults that only this level survives: what was promised below it may be gone. It is
    /// counted, and everything else still has to hold.
    pub lost_below: Option<Level>,
    /// What the gateways were set to promise.
    pub level: Option<Level>,
    /// Several gateways share the ledger, and each may be behind the others for a moment: whoever has just won
    /// may be told "sold out" by another. It is counted.
    pub shared: bool,
    /// By so much the ledger's clock may have been set while it ran: so much earlier than by a client's clock
    /// a hold may be over.
    pub clock_off: Duration,
}

/// Why no verdict could be reached.
#[derive(Debug, Error)]
pub enum OracleError {
    /// The ops API did not answer.
    #[error(transparent)]
    Ops(#[from] OpsError),
    /// The store could not be read.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// The writer did not get done in time.
    #[error("the writer still has {outbox_length} changes to digest after {waited:?}")]
    NotDrained {
        /// Changes that are left.
        outbox_length: u64,
        /// How long the oracle waited.
        waited: Duration,
    },
    /// Ledger and store never stood still for long enough to be compared.
    #[error("ledger and store kept changing while they were read")]
    Unsteady,
}

/// Waits until the writer has digested everything that happened in a sale.
///
/// # Errors
///
/// No answer, or not drained within `within`.
pub async fn wait_drained(
    ops: &OpsAccess,
    sale: &str,
    within: Duration,
) -> Result<SaleView, OracleError> {
    let began = Instant::now();
    let mut client = OpsClient::new(ops);
    let mut looks = interval(DRAIN_LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let view = client.sale(sale).await?;
        if view.outbox_length == 0 {
            return Ok(view);
        }
        let waited = began.elapsed();
        if waited >= within {
            return Err(OracleError::NotDrained { outbox_length: view.outbox_length, waited });
        }
    }
}

/// Waits for the writer, reads ledger and store, and judges.
///
/// # Errors
///
/// Whatever keeps the oracle from seeing both; a broken promise is a verdict, not an error.
pub async fn examine(
    ops: &OpsAccess,
    data_dir: &Path,
    sale: &str,
    history: &History,
    scope: Scope,
    within: Duration,
) -> Result<Verdict, OracleError> {
    let at = BooksAt::Sqlite(data_dir.join("store.db"));
    let (ledger, books, _) = gather(ops, &at, sale, within).await?;
    Ok(judge(&Evidence { history, ledger: &ledger, books: &books, scope }))
}

/// Waits for the writer, and reads ledger and store as they are at one moment; and how long the
/// writer took.
///
/// # Errors
///
/// As for [`examine`].
pub async fn gather(
    ops: &OpsAccess,
    at: &BooksAt,
    sale: &str,
    within: Duration,
) -> Result<(SaleView, Books, Duration), OracleError> {
    let began = Instant::now();
    let mut before = wait_drained(ops, sale, within).await?;
    let took = began.elapsed();
    for _ in 0..STEADY_TRIES_MAX {
        let books = at.read(sale).await?;
        let after = wait_drained(ops, sale, within).await?;
        // The store was read between two equal looks at the ledger: they are of one moment.
        if before.items == after.items {
            return Ok((after, books, took));
        }
        before = after;
    }
    Err(OracleError::Unsteady)
}

/// Judges evidence that has been gathered.
#[must_use]
pub fn judge(evidence: &Evidence<'_>) -> Verdict {
    let digest = Digest::new(evidence);
    let (line, lines) = linear::one_line_of_time(&digest);
    let mut checks = vec![
        cart_checks::drained(&digest),
        stock_checks::conservation(&digest),
        stock_checks::no_oversell(&digest),
        stock_checks::ledger_and_store_agree(&digest),
        stock_checks::returns_are_counted(&digest),
        stock_checks::limits_kept(&digest),
        order_checks::an_order_for_every_grant(&digest),
        order_checks::ends_stand(&digest),
        answer_checks::one_reservation_a_key(&digest),
        answer_checks::replays_are_equal(&digest),
        answer_checks::a_grant_is_never_denied(&digest),
        answer_checks::a_no_is_a_no(&digest),
        answer_checks::misuse_is_refused(&digest),
        answer_checks::levels_are_those_set(&digest),
        hold_checks::holds_last(&digest),
        hold_checks::holds_end(&digest),
        hold_checks::late_payments_go_back(&digest),
        cart_checks::carts(&digest),
        cart_checks::no_dead_letters(&digest),
        line,
    ];
    if evidence.scope.complete {
        checks.push(order_checks::no_order_without_a_request(&digest));
        checks.push(order_checks::ends_were_asked_for(&digest));
        checks.push(order_checks::counts_agree(&digest));
    }
    if evidence.scope.sold_out {
        checks.push(stock_checks::sold_out(&digest));
    }
    Verdict { lost: digest.lost(), ..Verdict::new(checks, notes(&digest), lines) }
}

fn notes(digest: &Digest<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let open: u64 = digest.unresolved.values().sum();
    if open > 0 {
        notes.push(format!("{open} reservations whose outcome is still unknown"));
    }
    let behind = answer_checks::count_told_behind(digest);
    if behind > 0 {
        notes.push(format!(
            "{behind} winners who were told \"sold out\" by a gateway that was behind"
        ));
    }
    let lost = digest.lost();
    if lost > 0 {
        notes
            .push(format!("{lost} promises were lost, none of which was to survive what happened"));
    }
    let refunds = digest.evidence.books.refunds_needed.len();
    if refunds > 0 {
        notes.push(format!("{refunds} payments for which money has to be given back"));
    }
    let expired = digest.evidence.books.orders.iter().filter(|o| o.status == "expired").count();
    if expired > 0 {
        notes.push(format!("{expired} reservations expired"));
    }
    notes
}
