//! A big sale from its beginning to the audit: many times more attempts than units.

use std::time::{Duration, Instant};

use floodgate_loadtest::gateway::Durable;
use floodgate_loadtest::ops::{OpsAccess, OpsClient};
use floodgate_loadtest::rig::{self, ReserveRequest, Until};

use super::BenchOptions;
use super::contender::{Contender, ITEM, SALE};
use super::report::{Bound, Figure, Report};
use crate::cli::Failure;

/// Units for sale.
const UNITS: u64 = 100_000;
/// Requests for one of them.
const ATTEMPTS: u64 = 1_000_000;
/// How often ledger and outbox are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long all attempts may take.
const WITHIN: Duration = Duration::from_secs(300);

/// When what happened.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// The last unit was taken, as the ops API says it: at most a look late.
    sold_out: Instant,
    /// The last order was in the books.
    digested: Instant,
}

pub async fn measure(options: &BenchOptions) -> Result<Report, Failure> {
    let contender = Contender::Floodgate { redis: Some(Durable::Fsync), postgres: true };
    let (mut totals, mut behind, mut sold, mut rates) = (vec![], vec![], vec![], vec![]);
    let mut fault = None;
    for round in 0..options.rounds {
        let running = contender.start(options, UNITS).await?;
        let gateway = running.gateway().ok_or_else(|| Failure::Failed("no gateway".to_owned()))?;
        let watcher = tokio::spawn(watch(gateway.ops().clone()));
        let began = Instant::now();
        let requests = ReserveRequest::new(&running.addr().to_string(), SALE, ITEM, "u", true);
        let until = Until::Count(ATTEMPTS, WITHIN);
        let stats = rig::closed(running.addr(), options.connections, until, 0, requests).await;
        let stats = stats.map_err(Failure::failed)?;
        let times = watcher.await.map_err(Failure::failed)??;
        let (clean, said) = gateway.audit()?;
        totals.push(began.elapsed().as_secs_f64());
        sold.push((times.sold_out - began).as_secs_f64());
        behind.push((times.digested - times.sold_out).as_secs_f64());
        rates.push(stats.summary.requests_per_sec);
        let won = stats.status_code_distribution.get(&201).copied().unwrap_or(0);
        eprintln!(
            "round {}: {won} sold in {:.2} s, digested {:.2} s later, audited after {:.2} s",
            round + 1,
            sold[round],
            behind[round],
            totals[round]
        );
        if won != UNITS {
            fault = Some(format!("{won} of {UNITS} units: {:?}", stats.status_code_distribution));
        } else if !clean {
            fault = Some(said);
        }
    }
    Ok(Report {
        suite: "big-sale".to_owned(),
        how: format!(
            "{UNITS} units, {ATTEMPTS} attempts of as many users with keys, {} connections, Redis with AOF \
             always, PostgreSQL; {} rounds",
            options.connections, options.rounds
        ),
        figures: vec![
            Figure::new("from the first attempt to the last 201, s", sold.into_iter()),
            Figure::new("from the last 201 to the last order in PostgreSQL, s", behind.into_iter())
                .within(Bound::AtMost(5.0)),
            Figure::new("answers/s over all attempts", rates.into_iter()),
            Figure::new("from the first attempt to the end of the audit, s", totals.into_iter()),
        ],
        fault,
        ..Report::default()
    })
}

async fn watch(ops: OpsAccess) -> Result<Times, Failure> {
    let mut client = OpsClient::new(&ops);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut sold_out = None;
    let began = Instant::now();
    while began.elapsed() < WITHIN {
        looks.tick().await;
        let view = client.sale(SALE).await?;
        if view.items.iter().any(|item| item.available > 0) {
            continue;
        }
        let sold_out = *sold_out.get_or_insert_with(Instant::now);
        if view.outbox_length == 0 {
            return Ok(Times { sold_out, digested: Instant::now() });
        }
    }
    Err(Failure::Failed(format!("not sold out and digested after {WITHIN:?}")))
}
