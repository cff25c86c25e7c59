//! How much of what was told at `memory` is lost when Redis is killed: measured, for nobody promises it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::time::sleep;

use super::counter::{ITEMS, open, sale};
use super::fleet::REVIVES_WITHIN;
use super::gateway::Gateway;
use super::{ChaosError, Promises};
use crate::buyers::{self, Control, CrowdPlan, Habits};
use crate::history::{Entry, Level, Op, Seen};
use crate::oracle::{Books, BooksAt, gather};
use crate::postgres_server::PostgresServer;
use crate::redis_server::{Keeps, RedisServer};

/// Buyers of one kill.
const USERS: u64 = 1_000_000;
const SALE: &str = "losses";

/// What is measured.
#[derive(Clone, Debug)]
pub struct Measure {
    /// The program.
    pub floodgate: PathBuf,
    /// What Redis keeps over its death.
    pub keeps: Keeps,
    /// How often it dies.
    pub kills: u64,
    /// What the times of the kills follow from.
    pub seed: u64,
    /// Where the gateway's files and log are left.
    pub dir: PathBuf,
}

/// What one kill took along.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// For how long buyers had come.
    pub load: Duration,
    /// What they were told in that time, and what of it is in no books afterwards.
    pub promises: Promises,
}

/// Kills a Redis under load, again and again, with one gateway and books in PostgreSQL. `told` hears of each kill.
///
/// # Errors
/// [`ChaosError`]; it does not judge, which is for [`run`](super::run).
pub async fn measure(
    measure: &Measure,
    mut told: impl FnMut(&Loss),
) -> Result<Vec<Loss>, ChaosError> {
    let mut rng = Rng::with_seed(measure.seed);
    let mut redis = RedisServer::start(measure.keeps)?;
    let postgres = PostgresServer::start()?;
    let dir = measure.dir.join("gateway");
    let mut gateway = Gateway::new(&measure.floodgate, dir, redis.address(), postgres.url())?;
    gateway.level = Level::Memory;
    gateway.start()?;
    open(&gateway.access(), &sale(SALE, 100_000_000, 3_600)).await?;
    let mut losses = Vec::new();
    for kill in 0..measure.kills {
        let load = Duration::from_millis(rng.u64(500..2_000));
        let plan = CrowdPlan {
            ops: Some(gateway.access()),
            first_user: kill * USERS,
            seed: kill,
            connections: 48,
            habits: Habits { cancel_ratio: 0.15, confirm_ratio: 0.4, ..Habits::default() },
            settle: false,
            // Nobody is told anything behind the kill.
            stop_on_disconnect: true,
            ..CrowdPlan::new(gateway.public, SALE, &ITEMS, USERS)
        };
        let control = Control::default();
        let stop = control.stop.clone();
        let buyers = tokio::spawn(async move { buyers::run(&plan, control).await });
        sleep(load).await;
        redis.kill();
        stop.set();
        let report = buyers
            .await
            .map_err(|panic| ChaosError::Liveness(format!("the crowd fell over: {panic}")))??;
        redis.run()?;
        let books = whole(&gateway, &BooksAt::Postgres(postgres.url())).await?;
        let promises = lost(report.history.entries(), &books);
        let loss = Loss { load, promises };
        told(&loss);
        losses.push(loss);
    }
    Ok(losses)
}

/// The books, once the ledger is open again and they are up to it.
async fn whole(gateway: &Gateway, at: &BooksAt) -> Result<Books, ChaosError> {
    let began = Instant::now();
    loop {
        match gather(&gateway.access(), at, SALE, REVIVES_WITHIN).await {
            Ok((_, books, _)) => return Ok(books),
            Err(error) if began.elapsed() > REVIVES_WITHIN => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Different reservations that were told of, and those of them that are in no books.
fn lost(entries: &[Entry], books: &Books) -> Promises {
    let told = entries.iter().filter(|entry| entry.op == Op::Reserve && entry.seen == Seen::Ok);
    let told: BTreeSet<_> = told.filter_map(|entry| entry.reservation.as_deref()).collect();
    let there: BTreeSet<_> = books.orders.iter().map(|order| &*order.order_id).collect();
    Promises { told: told.len() as u64, lost: told.difference(&there).count() as u64 }
}
