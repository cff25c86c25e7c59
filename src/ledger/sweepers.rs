//! Payments and cancellations at the very instant at which holds run out, while many sweep: each unit goes one
//! way. How many holds: `FLOODGATE_SWEPT_HOLDS`, 2,000 unless said.

#![expect(clippy::wildcard_enum_match_arm, reason = "any other outcome fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::contract::{definition, reserve_at, sale, user};
use super::{Fault, Ledger};
use crate::clock::{Clock, SystemClock};
use crate::engine::{Authority, Command};
use crate::sale::{
    Counters, LaneId, Move, Outcome, PaymentRef, Refusal, Reservation, ReservationId, Status,
};

/// How long a hold lasts.
const HOLD_SECONDS: u64 = 2;
/// When holds are ended: so many milliseconds before their deadlines. A timer wakes up to a millisecond late, and
/// a lane decides about as much later again; a few come long before, as most people do.
const BEFORE_MS: [i64; 9] = [5, 4, 3, 2, 1, 0, -1, -2, 700];
/// How long after the one before each hold is taken: a lane that always has a queue decides everything late.
const APART: Duration = Duration::from_micros(250);

fn holds() -> u64 {
    let given = std::env::var("FLOODGATE_SWEPT_HOLDS");
    given.map_or(2_000, |holds| holds.parse().expect("a number"))
}

/// How the holds ended, as those who held them were told.
#[derive(Debug, Default)]
struct Told {
    paid_in_time: AtomicU64,
    paid_late: AtomicU64,
    cancelled: AtomicU64,
    ran_out: AtomicU64,
}

async fn ask(ledger: &Arc<dyn Ledger>, command: impl Fn() -> Command) -> Outcome {
    let lane = LaneId::of_sale("sale", ledger.lanes());
    loop {
        let answered = match ledger.submit(lane, command()) {
            Ok(pending) => pending.await.unwrap(),
            Err(fault) => Err(fault),
        };
        match answered {
            Ok(answer) => return answer.outcome,
            // There is more than the lane can take or answer in time, or nobody knows: asking again is safe.
            Err(Fault::Overloaded | Fault::Unavailable | Fault::Unknown) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(fault) => panic!("{fault}"),
        }
    }
}

/// Gateways on one ledger, each of which sweeps all the time.
pub(crate) async fn race(gateways: Vec<Arc<dyn Ledger>>) {
    let holds = holds();
    let (definition, actor) = (definition(holds, HOLD_SECONDS), "admin");
    let create =
        || Command::CreateSale { definition: Arc::clone(&definition), actor: actor.into() };
    ask(&gateways[0], create).await;
    let step = Move::Open;
    ask(&gateways[0], || Command::MoveSale { sale: sale(), step, actor: actor.into() }).await;

    let sweepers: JoinSet<()> = gateways.iter().cloned().map(sweep_for_ever).collect();
    let (told, began) = (Arc::new(Told::default()), Instant::now());
    let mut lives = JoinSet::new();
    for number in 0..holds {
        let gateway = Arc::clone(&gateways[number as usize % gateways.len()]);
        let told = Arc::clone(&told);
        lives.spawn(async move {
            sleep_until(began + APART * number as u32).await;
            live(gateway, number, told).await
        });
    }
    let reservations = lives.join_all().await;
    // All of them are over, or paid; the sweepers may be at the last ones that nobody ended.
    let counters = loop {
        let inspect = || Command::Inspect { sale: sale() };
        let Outcome::Sale { report, .. } = ask(&gateways[0], inspect).await else { panic!() };
        let counters = report.items[0].counters;
        if counters.held == 0 {
            break counters;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    drop(sweepers);
    let Told { paid_in_time, paid_late, cancelled, ran_out } = &*told;
    let count = |of: &AtomicU64| of.load(Ordering::SeqCst);
    let (in_time, late) = (count(paid_in_time), count(paid_late));
    let (cancelled, ran_out) = (count(cancelled), count(ran_out));
    println!(
        "{} sweepers, {holds} holds: {in_time} paid in time, {late} late, {cancelled} cancelled, \
         {ran_out} run out",
        gateways.len()
    );
    assert_eq!(in_time + late + cancelled + ran_out, holds, "each is told one end");
    let sold = in_time + late;
    let wanted = Counters {
        stock: holds,
        available: holds - sold,
        held: 0,
        confirmed: sold,
        cancelled_total: cancelled,
        // Those that were paid late had run out first.
        expired_total: ran_out + late,
    };
    assert_eq!(counters, wanted, "each unit went one way, once");
    assert!(late > 0 && in_time > 0 && cancelled > 0, "payments met the sweepers");
    for (id, status) in reservations {
        match ask(&gateways[0], || Command::Find { id, owner: None }).await {
            Outcome::Found(found) => assert_eq!(found.status, status, "what was told stands"),
            other => panic!("{other:?}"),
        }
    }
}

async fn sweep_for_ever(gateway: Arc<dyn Ledger>) {
    loop {
        ask(&gateway, || Command::Sweep).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Holds a unit, and ends it about at its deadline: by payment, by giving it back, or not at all.
async fn live(gateway: Arc<dyn Ledger>, number: u64, told: Arc<Told>) -> (ReservationId, Status) {
    let held = hold(&gateway, number).await;
    let (id, until) = (held.id, held.expires_at.since(SystemClock.now()));
    let before = BEFORE_MS[number as usize % BEFORE_MS.len()];
    let until = until.as_millis() as i64 - before;
    tokio::time::sleep(Duration::from_millis(until.try_into().unwrap_or(0))).await;
    let (ended, status) = match number / BEFORE_MS.len() as u64 % 3 {
        0 => {
            let payment = PaymentRef::parse(&format!("p-{number}")).unwrap();
            let paid = ask(&gateway, || Command::Confirm { id, payment: payment.clone() }).await;
            match paid {
                Outcome::Confirmed { rebooked: false, .. } => {
                    (&told.paid_in_time, Status::Confirmed)
                }
                Outcome::Confirmed { rebooked: true, .. } => (&told.paid_late, Status::Confirmed),
                other => panic!("{other:?}"),
            }
        }
        1 => {
            let by = Authority::Owner(user(number));
            match ask(&gateway, || Command::Cancel { id, by: by.clone() }).await {
                Outcome::Cancelled(_) => (&told.cancelled, Status::Cancelled),
                Outcome::Refused(Refusal::ReservationExpired) => (&told.ran_out, Status::Expired),
                other => panic!("{other:?}"),
            }
        }
        _ => (&told.ran_out, Status::Expired),
    };
    ended.fetch_add(1, Ordering::SeqCst);
    (id, status)
}

async fn hold(gateway: &Arc<dyn Ledger>, number: u64) -> Reservation {
    match ask(gateway, || reserve_at(gateway.as_ref(), number, 1).1).await {
        Outcome::Reserved { reservation, .. } => reservation,
        other => panic!("{other:?}"),
    }
}
