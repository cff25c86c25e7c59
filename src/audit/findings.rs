//! What was looked at, and what is wrong.

use serde::Serialize;

use super::Rule;
use crate::limits;
use crate::sale::SaleId;
use crate::store::Mend;

/// Offenders that a check names; the rest is counted.
const NAMED_MAX: usize = 10;

/// One promise, and whether it was kept.
#[derive(Debug, Serialize)]
pub struct Check {
    /// Which promise.
    pub name: &'static str,
    /// Whether every case kept it.
    pub ok: bool,
    /// Cases looked at.
    pub looked_at: u64,
    /// Cases that broke it.
    pub broken: u64,
    /// The first of those.
    pub offenders: Vec<String>,
    /// Whether it is about ledger and books agreeing, rather than about the ledger alone.
    #[serde(skip)]
    pub between: bool,
}

/// The promises, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    Journal,
    Conservation,
    Oversell,
    Limits,
    Window,
    OneEnding,
    Expiry,
    Orders,
    Books,
    Carts,
    DeadLetters,
    Log,
    Ledger,
}

impl Promise {
    /// Whether it is the books that break it, rather than the ledger's events.
    fn is_of_books(self) -> bool {
        matches!(self, Self::Orders | Self::Books | Self::Carts | Self::DeadLetters)
    }
}

/// The check that looks for them.
pub(super) const DEAD_LETTERS: &str = "no dead letters";

const PROMISES: [(Promise, &str); 13] = [
    (Promise::Journal, "journal is whole: no gap, no damage, every step possible"),
    (Promise::Conservation, "conservation: available + held + confirmed = stock"),
    (Promise::Oversell, "no oversell, after every event"),
    (Promise::Limits, "no user ever beyond a limit"),
    (Promise::Window, "nothing taken outside the window or while paused"),
    (Promise::OneEnding, "every reservation ends at most once, versions in order"),
    (Promise::Expiry, "no hold expired early, none confirmed late"),
    (Promise::Orders, "every reservation is exactly one order, and the same"),
    (Promise::Books, "the books' own counters agree, and do not oversell"),
    (Promise::Carts, "carts hold the lines of standing orders, and no others"),
    (Promise::DeadLetters, DEAD_LETTERS),
    (Promise::Log, "the audit log is whole: each entry follows from the one before"),
    (Promise::Ledger, "Redis keeps what its events add up to"),
];

/// Collects.
#[derive(Debug)]
pub(super) struct Findings {
    only: Option<SaleId>,
    checks: Vec<Check>,
    mends: Vec<Mend>,
}

impl Findings {
    pub(super) fn new(only: Option<SaleId>) -> Self {
        let check = |(promise, name): &(Promise, &'static str)| Check {
            between: promise.is_of_books() || *promise == Promise::Ledger,
            name,
            ok: true,
            looked_at: 0,
            broken: 0,
            offenders: Vec::new(),
        };
        Self { only, checks: PROMISES.iter().map(check).collect(), mends: Vec::new() }
    }

    /// Whether a sale is one of those that are audited.
    pub(super) fn concerns(&self, sale: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.as_str() == sale)
    }

    /// Looks at one case of a sale.
    pub(super) fn look(&mut self, sale: &SaleId, promise: Promise, case: Rule) {
        if self.concerns(sale.as_str()) {
            self.look_at_all(promise, case);
        }
    }

    /// Looks at one case that concerns every sale.
    pub(super) fn look_at_all(&mut self, promise: Promise, case: Rule) {
        let Some(index) = PROMISES.iter().position(|(known, _)| *known == promise) else { return };
        let check = &mut self.checks[index];
        check.looked_at += 1;
        if let Err(offender) = case {
            check.ok = false;
            check.broken += 1;
            if check.offenders.len() < NAMED_MAX {
                check.offenders.push(offender);
            }
        }
    }

    /// Looks whether a journal reaches as far as the books. Where it does not, they disagree.
    pub(super) fn look_how_far(&mut self, case: Rule) {
        let short = case.is_err();
        self.look_at_all(Promise::Journal, case);
        let journal = PROMISES.iter().position(|(known, _)| *known == Promise::Journal);
        if let Some(journal) = journal.filter(|_| short) {
            self.checks[journal].between = true;
        }
    }

    /// How a fault in the books of a sale can be mended.
    pub(super) fn mend(&mut self, sale: &SaleId, mend: impl FnOnce() -> Mend) {
        if self.concerns(sale.as_str()) && self.mends.len() < limits::MENDS_MAX {
            self.mends.push(mend());
        }
    }

    /// Everything that can be mended, if what the ledger itself has done is beyond doubt.
    pub(super) fn take_mends(&mut self) -> Vec<Mend> {
        let mends = std::mem::take(&mut self.mends);
        let sound = PROMISES.iter().zip(&self.checks).all(|((promise, _), check)| {
            check.ok || promise.is_of_books() || matches!(promise, Promise::Log | Promise::Ledger)
        });
        if sound { mends } else { Vec::new() }
    }

    /// All checks. An embedded ledger keeps nothing but its events, so there is nothing to compare.
    pub(super) fn into_checks(mut self) -> Vec<Check> {
        self.checks.pop_if(|ledger| ledger.looked_at == 0);
        self.checks
    }
}
