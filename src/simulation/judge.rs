//! The judgement of a run: clients, ledger and books side by side, and the outbox by itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use floodgate_loadtest::history::{Level, Seen};
use floodgate_loadtest::ops::{ItemView, SaleView};
use floodgate_loadtest::oracle::{Books, Evidence, Run, Scope, judge_or_report};
use tokio::time::sleep;

use super::buyers::{self, Wish};
use super::gateway::LANE;
use super::world::{SALE, World};
use super::yarn::said;
use crate::clock::{Clock, SystemClock};
use crate::engine::proof::auditor::Auditor;
use crate::engine::{Position, State};
use crate::ledger::Ledger;
use crate::sale::{Move, SaleId, SaleReport};

/// After everything was mended.
pub async fn judge(world: &World) {
    let hold = Duration::from_secs(world.scenario.hold_seconds.into());
    // A lane whose clock was ahead of its server's stands still until that has caught up.
    let runs_out = hold + Duration::from_millis(1_200 + world.scenario.ahead_ms());
    let expires = hold < Duration::from_secs(5);
    if expires {
        sleep(runs_out).await;
    }
    if !everybody_sells(world).await {
        return;
    }
    if expires {
        sleep(runs_out).await;
    }
    let Some((report, cursor)) = drained(world).await else {
        return world.fault("liveness I17: the books do not come up to the ledger");
    };
    outbox(world, &report, cursor);
    let view = view(&report, cursor);
    for item in view.items.iter().filter(|item| expires && item.held > 0) {
        world.fault(format!("I12: {} units of {} are held for ever", item.held, item.id));
    }
    let history = world.history();
    let mut database = world.common.database.lock().unwrap();
    let books = Books::read_connection(&mut database.books.0, Path::new("memory"), SALE);
    let mut books = books.expect("readable books");
    // Time is made here, also for whoever reads.
    books.read_at_ms = i64::try_from(SystemClock.now().0).ok();
    let lost_below = world.scenario.survivor();
    let clock_off = Duration::from_millis(world.scenario.clock_off_ms());
    let level = Level::parse(world.scenario.durability.as_str());
    let scope =
        Scope { complete: true, lost_below, level, shared: true, clock_off, ..Scope::default() };
    let evidence = Evidence { history: &history, ledger: &view, books: &books, scope };
    let run = Run::new(world.scenario.seed, format_args!("{:?}", world.scenario));
    if let Err(report) = judge_or_report(run, &evidence) {
        world.fault(report);
    }
}

/// While there is a unit, every gateway sells it, within the time that the contract gives its latch.
async fn everybody_sells(world: &World) -> bool {
    for which in 0..world.scenario.gateways {
        for item in 0..world.scenario.stock.len() {
            let wish = Wish {
                user: format!("probe-{which}").into(),
                key: format!("probe-{item}").into(),
                item: format!("i{item}").into(),
                quantity: 1,
            };
            let Some(report) = inspect(world).await else {
                world.fault("liveness: the ledger cannot be looked at");
                return false;
            };
            if report.window.paused {
                // A call to pause it, of which nobody knew, came after the sale had been resumed through another
                // gateway: the operator sees it, and resumes it again.
                world.moves(Move::Resume).await;
            }
            let left = report.items[item].counters.available;
            let mut last = Seen::Invoke;
            for _ in 0..8 {
                last = buyers::reserve(world, &wish, which, 3_000).await.0;
                if is_right(&last, left) {
                    break;
                }
                sleep(Duration::from_millis(150)).await;
            }
            if !is_right(&last, left) {
                world.fault(format!(
                    "I3 I4: {left} units of i{item} are left, and gateway {which} says {last:?}"
                ));
            }
        }
    }
    true
}

/// Whether that may be told to somebody who wants one of so many that are left: nothing is wrong any more, so no
/// gateway may put them off.
fn is_right(seen: &Seen, left: u64) -> bool {
    match seen {
        Seen::Ok => true,
        Seen::No(code) => code == "limit-reached" || code == "sold-out" && left == 0,
        Seen::Invoke | Seen::Unknown(_) => false,
    }
}

async fn inspect(world: &World) -> Option<SaleReport> {
    for which in 0..10 {
        let sale = SaleId::parse(SALE).unwrap();
        let found = world.at(which, 3_000, async |gate| gate.inspect(sale).await).await;
        if let Ok(report) = found {
            return Some(report);
        }
        sleep(Duration::from_millis(100)).await;
    }
    None
}

/// The ledger at a moment at which the books have all of it.
async fn drained(world: &World) -> Option<(SaleReport, Position)> {
    for _ in 0..100 {
        let head = world.gateway(0).map(|gateway| *gateway.ledger.head(LANE).borrow());
        let report = inspect(world).await?;
        let cursor = world.common.database.lock().unwrap().books.cursor(LANE).ok()?;
        let after = world.gateway(0).map(|gateway| *gateway.ledger.head(LANE).borrow());
        if head == after && after.is_some_and(|head| head.seq == cursor.seq) {
            return Some((report, cursor));
        }
        sleep(Duration::from_millis(100)).await;
    }
    None
}

/// What the outbox told, by itself: nothing impossible, and all of it is what the ledger says.
fn outbox(world: &World, report: &SaleReport, cursor: Position) {
    let database = world.common.database.lock().unwrap();
    let records = database.books.archive(LANE, 0, usize::MAX >> 1).expect("an archive");
    drop(database);
    let heard = catch_unwind(AssertUnwindSafe(|| {
        let (mut auditor, mut state) = (Auditor::default(), State::new(cursor.epoch));
        for record in &records {
            let events = record.decode().expect("a record");
            auditor.hear(record.at, &events);
            record.fold(&mut state).expect("the next record");
        }
        for (item, counters) in report.items.iter().map(|item| (&item.item, item.counters)) {
            let sale = state.sale(&report.definition.id).expect("the sale");
            let index = sale.item_index(item).expect("the item");
            assert_eq!(sale.counters()[index], counters, "I1: the outbox and the ledger on {item}");
        }
    }));
    if let Err(payload) = heard {
        world.fault(format!("the outbox: {}", said(payload.as_ref())));
    }
}

fn view(report: &SaleReport, _cursor: Position) -> SaleView {
    let signed = |units: u64| i64::try_from(units).unwrap_or(i64::MAX);
    let limit = |limit: Option<u32>| limit.map(u64::from);
    let items = report.items.iter().zip(&report.definition.items).map(|(item, defined)| ItemView {
        id: item.item.to_string(),
        stock: signed(item.counters.stock),
        available: signed(item.counters.available),
        held: signed(item.counters.held),
        confirmed: signed(item.counters.confirmed),
        cancelled_total: signed(item.counters.cancelled_total),
        expired_total: signed(item.counters.expired_total),
        per_user_limit: limit(defined.per_user_limit),
    });
    SaleView {
        id: SALE.to_owned(),
        state: "open".to_owned(),
        per_user_limit: limit(report.definition.per_user_limit),
        items: items.collect(),
        outbox_length: 0,
        writer_lag_seconds: None,
    }
}
