//! What was looked at, and what is wrong.

use serde::Serialize;

use super::Rule;
use crate::sale::SaleId;

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
    Ledger,
}

const PROMISES: [(Promise, &str); 12] = [
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
    (Promise::DeadLetters, "no dead letters"),
    (Promise::Ledger, "Redis keeps what its events add up to"),
];

/// Collects.
#[derive(Debug)]
pub(super) struct Findings {
    only: Option<SaleId>,
    checks: Vec<Check>,
}

impl Findings {
    pub(super) fn new(only: Option<SaleId>) -> Self {
        let check = |(_, name): &(Promise, &'static str)| Check {
            name,
            ok: true,
            looked_at: 0,
            broken: 0,
            offenders: Vec::new(),
        };
        Self { only, checks: PROMISES.iter().map(check).collect() }
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

    /// All checks. An embedded ledger keeps nothing but its events, so there is nothing to compare.
    pub(super) fn into_checks(mut self) -> Vec<Check> {
        self.checks.pop_if(|ledger| ledger.looked_at == 0);
        self.checks
    }
}
