//! `floodgate reconcile`: what ledger and books disagree about, and mending it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::arguments::ConfigArguments;
use super::{Exit, Failure, audit, config, say, small_runtime};
use crate::app;
use crate::audit::Report;
use crate::config::Settings;
use crate::limits;
use crate::store::{DeadMark, Mend, Retried, Store, StoreError};

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
        let repaired = mend(&settings, &found, sale.is_none())?;
        (Some(repaired), audit::examine(&settings, sale.as_ref())?)
    } else {
        (None, audit::examine(&settings, sale.as_ref())?)
    };
    if as_json {
        let repaired = repaired
            .map(|repaired| json!({ "rows": repaired.rows, "dead_letters": repaired.letters }));
        let report = json!({
            "ok": agree(&left), "found": differences(&found), "repaired": repaired,
            "left": differences(&left), "undigested": left.undigested,
            "can_be_mended": left.mends.len(),
        });
        say!("{report}");
    } else {
        show(&found, repaired.as_ref(), &left);
    }
    Ok(if agree(&left) { Exit::Ok } else { Exit::Broken })
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

/// Writes what can be written safely, and tries the dead letters again.
fn mend(settings: &Settings, found: &Report, letters: bool) -> Result<Repaired, Failure> {
    let failure = |error: String| Failure::new(Exit::Failure, error);
    small_runtime()?.block_on(async {
        let store = app::open_books(settings).await.map_err(|error| failure(error.to_string()))?;
        let repaired = async {
            let mends: Arc<[Mend]> = found.mends.clone().into();
            let rows = store.mend(mends).await?;
            let letters = if letters { retry_letters(store.as_ref()).await? } else { 0 };
            Ok::<_, StoreError>(Repaired { rows, letters })
        };
        repaired.await.map_err(|error| failure(error.to_string()))
    })
}

/// Letters count in their order: one may be what the next one needs.
async fn retry_letters(store: &dyn Store) -> Result<u64, StoreError> {
    let (mut after, mut digested) = (None, 0);
    loop {
        let page = store.dead_letters(after, limits::DEAD_LETTERS_PAGE_MAX).await?;
        if page.is_empty() {
            return Ok(digested);
        }
        for (lane, letter) in page {
            let mark = DeadMark { lane, position: letter.record.last };
            after = Some(mark);
            if let Some(Retried::Digested(_)) = store.retry_dead_letter(mark, ACTOR.into()).await? {
                digested += 1;
            }
        }
    }
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
        say!("mended: {rows} rows of the books, {letters} dead letters digested after all");
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
