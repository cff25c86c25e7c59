//! `floodgate reconcile`: what ledger and books disagree about, and mending it.

use serde_json::{Value, json};

use super::arguments::ConfigArguments;
use super::{Exit, Failure, audit, config, say, small_runtime};
use crate::app::{self, BooksError};
use crate::audit::Report;
use crate::config::Settings;
use crate::engine::Event;
use crate::limits;
use crate::sale::SaleId;
use crate::store::{DeadLetter, DeadMark, Retried, Store, StoreError};

/// In the audit log.
const ACTOR: &str = "reconcile";

/// What a repair did.
#[derive(Default)]
struct Repaired {
    rows: u64,
    letters: u64,
}

pub(super) fn run(
    arguments: &ConfigArguments,
    sale: Option<&str>,
    repair: bool,
    as_json: bool,
) -> Result<Exit, Failure> {
    let settings = config::load(arguments)?.settings;
    let sale = audit::sale(sale)?;
    let found = audit::examine(&settings, sale.as_ref())?;
    let (repaired, left) = if repair && !agree(&found) {
        let (repaired, left) = mend(&settings, sale.as_ref(), &found)?;
        (Some(repaired), Some(left))
    } else {
        (None, None)
    };
    let left = left.as_ref().unwrap_or(&found);
    if as_json {
        let repaired = repaired
            .map(|repaired| json!({ "rows": repaired.rows, "dead_letters": repaired.letters }));
        let report = json!({
            "ok": agree(left), "found": differences(&found), "repaired": repaired,
            "left": differences(left), "undigested": left.undigested,
            "can_be_mended": left.mends.len(),
        });
        say!("{report}");
    } else {
        show(&found, repaired.as_ref(), left);
    }
    Ok(if agree(left) { Exit::Ok } else { Exit::Broken })
}

/// Whether ledger and books agree, whatever else an audit may find.
fn agree(report: &Report) -> bool {
    report.checks.iter().all(|check| check.ok || !check.between)
}

fn differences(report: &Report) -> Value {
    let broken = report.checks.iter().filter(|check| check.between && !check.ok);
    let shown = broken.map(
        |check| json!({ "check": check.name, "count": check.broken, "first": check.offenders }),
    );
    shown.collect()
}

/// Tries the dead letters again, writes what is still missing, as far as that is safe, and then settles the
/// letters of which nothing is missing any more. Says what was done, and what an audit finds then.
fn mend(
    settings: &Settings,
    sale: Option<&SaleId>,
    found: &Report,
) -> Result<(Repaired, Report), Failure> {
    let failure = |error: StoreError| Failure::new(Exit::Failure, error.to_string());
    let runtime = small_runtime()?;
    let store = runtime.block_on(app::open_books(settings)).map_err(|error| {
        let foreign = matches!(error, BooksError::Foreign { .. });
        let exit = if foreign { Exit::Configuration } else { Exit::Failure };
        Failure::new(exit, error.to_string())
    })?;
    let mut repaired = Repaired::default();
    let mut refused = Vec::new();
    if sale.is_none() {
        let retried = runtime.block_on(retry_letters(store.as_ref(), &mut refused));
        repaired.letters = retried.map_err(failure)?;
    }
    // What is digested now is not missing any more.
    let again = if repaired.letters > 0 { Some(audit::examine(settings, sale)?) } else { None };
    let missing = again.as_ref().unwrap_or(found);
    // Each part is one transaction, and one entry of the audit log.
    for (mended, part) in (missing.mended..).zip(missing.mends.chunks(limits::MENDS_AT_ONCE)) {
        repaired.rows += runtime.block_on(store.mend(part.into(), mended)).map_err(failure)?;
    }
    let left = audit::examine(settings, sale)?;
    if refused.is_empty() || !left.only_letters_left() {
        return Ok((repaired, left));
    }
    for mark in refused {
        let dropped = runtime.block_on(store.drop_dead_letter(mark, ACTOR.into()));
        repaired.letters += u64::from(dropped.map_err(failure)?);
    }
    Ok((repaired, audit::examine(settings, sale)?))
}

/// Letters are tried in their order: one may be what the next one needs. Those that are refused, and of
/// which an audit can say whether the books have what they tell, come into `refused`.
async fn retry_letters(store: &dyn Store, refused: &mut Vec<DeadMark>) -> Result<u64, StoreError> {
    let (mut after, mut digested) = (None, 0);
    loop {
        let page = store.dead_letters(after, limits::DEAD_LETTERS_PAGE_MAX).await?;
        if page.is_empty() {
            return Ok(digested);
        }
        for (lane, letter) in page {
            let mark = DeadMark { lane, position: letter.record.last };
            after = Some(mark);
            match store.retry_dead_letter(mark, ACTOR.into()).await? {
                Some(Retried::Digested(_)) => digested += 1,
                Some(Retried::Refused(_)) if !tells_of_refunds(&letter) => refused.push(mark),
                Some(Retried::Refused(_)) | None => {}
            }
        }
    }
}

/// No audit sees a refund that is missing.
fn tells_of_refunds(letter: &DeadLetter) -> bool {
    let events = letter.record.decode().unwrap_or_default();
    events.iter().any(|event| matches!(event, Event::RefundNeeded { .. }))
}

fn show(found: &Report, repaired: Option<&Repaired>, left: &Report) {
    let list = |report: &Report| {
        for check in report.checks.iter().filter(|check| check.between && !check.ok) {
            say!("{} broken: {}", check.broken, check.name);
            for offender in &check.offenders {
                say!("    {offender}");
            }
        }
    };
    list(found);
    if let Some(Repaired { rows, letters }) = repaired {
        say!("mended: {rows} rows of the books, {letters} dead letters settled");
        if !agree(left) {
            say!("left:");
            list(left);
        }
    }
    if left.undigested > 0 {
        say!(
            "{} events are on their way into the books: that is lag, not a fault",
            left.undigested
        );
    }
    if agree(left) {
        say!("reconcile: ledger and books agree");
    } else if left.mends.is_empty() {
        say!(
            "reconcile: THEY DISAGREE, and nothing of it can be mended safely; see `floodgate audit`"
        );
    } else {
        say!("reconcile: THEY DISAGREE; --repair mends {} of the rows", left.mends.len());
    }
}
