//! The burst and the second chances after it.

use std::sync::Arc;

use fastrand::Rng;
use tokio::task::{JoinError, JoinSet};

use super::backoff;
use super::cashier::Cashiers;
use super::crowd::{Crowd, Held};
use super::stock::{Left, Stock};
use super::wave::Wave;
use super::worker::Worker;
use crate::limits::{IDLE_WAVES_MAX, LOOK_EVERY};

/// Sends everybody, again and again while something is left. Returns the number of waves after the
/// burst, and the winners that neither cancelled nor paid.
pub(super) async fn send(
    crowd: &Arc<Crowd>,
    cashiers: Option<&Cashiers>,
) -> Result<(u32, Vec<Held>), JoinError> {
    let plan = &crowd.plan;
    let mut rng = Rng::with_seed(plan.seed);
    let mut buyers: Vec<u64> = (plan.first_user..plan.first_user + plan.users).collect();
    rng.shuffle(&mut buyers);
    let desk = |number| cashiers.map(|cashiers| cashiers.desk(number));
    let worker = |number| Worker::new(crowd.clone(), number as u64, desk(number));
    let workers: Vec<Worker> = (0..plan.connections).map(worker).collect();

    let all_items = (0..plan.items.len()).collect();
    let mut tally = Tally { workers, refused: Vec::new() };
    tally.send(Wave::new(0, buyers, all_items)).await?;

    let mut stock = Stock::new(crowd);
    let (mut number, mut idle, mut won) = (0, 0, tally.won());
    let mut cancelled = 0;
    while number < plan.patience.waves_max && idle < IDLE_WAVES_MAX && !crowd.stop.is_set() {
        let came_back = tally.cancelled() > cancelled || idle > 0;
        cancelled = tally.cancelled();
        let Some(left) = stock.left(crowd, tally.units(), came_back).await else {
            break;
        };
        let chosen = tally.choose(wave_size(crowd, &left), &mut rng);
        if chosen.is_empty() {
            break;
        }
        number += 1;
        tally.send(Wave::new(number, chosen, left.items)).await?;
        if tally.won() > won {
            (idle, won) = (0, tally.won());
        } else {
            idle += 1;
            // What is left may be on its way from the ledger to the door.
            backoff::sleep(&crowd.stop, LOOK_EVERY.mul_f64(1.0 + rng.f64() * 2.0)).await;
        }
    }
    Ok((number, tally.workers.into_iter().flat_map(|worker| worker.standing).collect()))
}

/// Enough to take what is left and a few more, so that there is still a crowd.
fn wave_size(crowd: &Crowd, left: &Left) -> usize {
    let spare = crowd.plan.connections.saturating_mul(4);
    let needed = left.units.unwrap_or(0).saturating_mul(2);
    usize::try_from(needed).unwrap_or(usize::MAX).max(spare)
}

/// The workers, and the buyers that may come back.
struct Tally {
    workers: Vec<Worker>,
    refused: Vec<u64>,
}

impl Tally {
    async fn send(&mut self, wave: Wave) -> Result<(), JoinError> {
        let wave = Arc::new(wave);
        let mut tasks = JoinSet::new();
        for worker in self.workers.drain(..) {
            tasks.spawn(worker.serve(wave.clone()));
        }
        while let Some(joined) = tasks.join_next().await {
            let mut worker = joined?;
            self.refused.append(&mut worker.refused);
            self.workers.push(worker);
        }
        Ok(())
    }

    /// Up to `count` of those who were refused, by chance.
    fn choose(&mut self, count: usize, rng: &mut Rng) -> Vec<u64> {
        rng.shuffle(&mut self.refused);
        let from = self.refused.len().saturating_sub(count);
        self.refused.split_off(from)
    }

    fn won(&self) -> u64 {
        self.workers.iter().map(|worker| worker.won).sum()
    }

    fn cancelled(&self) -> u64 {
        self.workers.iter().map(|worker| worker.cancelled).sum()
    }

    fn units(&self) -> u64 {
        self.workers.iter().map(|worker| worker.units).sum()
    }
}
