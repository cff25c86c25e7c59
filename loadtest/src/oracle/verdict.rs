//! What the judge says.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::invariants;
use crate::limits::OFFENDERS_NAMED_MAX;

/// One promise, and whether it was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The promise, in a few words; stable.
    pub name: String,
    /// The invariants that it judges, by number.
    #[serde(default)]
    pub invariants: String,
    /// Whether it was kept.
    pub ok: bool,
    /// What was looked at, or what is wrong.
    pub detail: String,
}

/// All promises together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Every promise was kept.
    pub ok: bool,
    /// Each of them.
    pub checks: Vec<Check>,
    /// Reservations that were told and are not there, none of which was to survive what happened.
    #[serde(default)]
    pub lost: u64,
    /// What is worth knowing and no fault.
    pub notes: Vec<String>,
    /// Of which items all requests were laid in one line of time.
    #[serde(default)]
    pub lines: Lines,
}

/// Of which items a line of time was looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// Items of which it was found out whether there is one.
    pub searched: u64,
    /// Items of which it was not. Their units were counted all the same, but for those that were restocked.
    pub not_searched: Vec<NotSearched>,
}

/// An item of which it was not found out whether its requests fit into one line of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotSearched {
    /// The item.
    pub item: String,
    /// Why not.
    pub why: Why,
}

/// Why no line of time was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// An operator changed its stock, or the books do not know what it was: nothing was looked at.
    Restocked,
    /// There are more requests than a search is for.
    TooMany,
    /// The search looked at as much as it may.
    GaveUp,
    /// Promises may be lost: only those that survive were laid in order.
    MayBeLost,
}

impl Verdict {
    pub(super) fn new(checks: Vec<Check>, notes: Vec<String>, lines: Lines) -> Self {
        Self { ok: checks.iter().all(|check| check.ok), checks, lost: 0, notes, lines }
    }

    /// The checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.ok)
    }

    /// The check of that name.
    #[must_use]
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let mark = if check.ok { "ok  " } else { "FAIL" };
            let Check { name, invariants, detail, .. } = check;
            writeln!(f, "{mark}  {name:<34} {invariants:<18} {detail}")?;
        }
        for note in &self.notes {
            writeln!(f, "note  {note}")?;
        }
        if self.lines != Lines::default() {
            writeln!(f, "note  {}", self.lines)?;
        }
        f.write_str(if self.ok { "every promise was kept" } else { "A PROMISE WAS BROKEN" })
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line of time: {} items searched", self.searched)?;
        for NotSearched { item, why } in &self.not_searched {
            write!(f, "; {item} not ({why:?})")?;
        }
        Ok(())
    }
}

/// Collects what breaks one promise.
#[derive(Debug)]
pub(super) struct Finding {
    name: &'static str,
    looked_at: u64,
    broken: u64,
    named: Vec<String>,
}

impl Finding {
    pub(super) fn of(name: &'static str) -> Self {
        Self { name, looked_at: 0, broken: 0, named: Vec::new() }
    }

    /// Looks at one thing; `fault` says what is wrong with it, if anything.
    pub(super) fn look(&mut self, fault: Option<String>) {
        self.looked_at += 1;
        if let Some(fault) = fault {
            self.broken += 1;
            if self.named.len() < OFFENDERS_NAMED_MAX {
                self.named.push(fault);
            }
        }
    }

    /// Looks at one thing that must hold.
    pub(super) fn expect(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        self.look((!holds).then(fault));
    }

    pub(super) fn check(self) -> Check {
        let detail = match self.broken {
            0 => format!("{} looked at", self.looked_at),
            broken => format!("{broken} of {}: {}", self.looked_at, self.named.join("; ")),
        };
        let invariants = invariants::of(self.name).to_owned();
        Check { name: self.name.to_owned(), invariants, ok: self.broken == 0, detail }
    }
}
