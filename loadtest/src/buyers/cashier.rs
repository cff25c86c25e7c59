//! The desks at which winners pay: a few connections to the ops listener, each with a short queue.

use std::sync::Arc;

use fastrand::Rng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::answer::Next;
use super::crowd::{Crowd, Held};
use super::insist::insist_on_payment;
use crate::history::Seen;
use crate::limits::{CASHIER_QUEUE, CASHIERS};
use crate::ops::{OpsAccess, OpsClient};

/// A winner who pays; `repeats` says that the payment's message comes twice.
#[derive(Debug)]
pub(super) struct Payment {
    pub held: Held,
    pub repeats: bool,
}

/// All desks. They close when every sender is gone.
#[derive(Debug)]
pub(super) struct Cashiers {
    desks: Vec<mpsc::Sender<Payment>>,
    tasks: JoinSet<()>,
}

impl Cashiers {
    pub(super) fn open(crowd: &Arc<Crowd>, ops: &OpsAccess) -> Self {
        let mut tasks = JoinSet::new();
        let desks = (0..CASHIERS).map(|number| {
            let (desk, queue) = mpsc::channel(CASHIER_QUEUE);
            tasks.spawn(serve(crowd.clone(), OpsClient::new(ops), queue, number as u64));
            desk
        });
        Self { desks: desks.collect(), tasks }
    }

    /// The desk for a worker.
    pub(super) fn desk(&self, worker: usize) -> mpsc::Sender<Payment> {
        self.desks[worker % self.desks.len()].clone()
    }

    /// Lets everybody pay who still stands.
    pub(super) async fn settle(&self, standing: Vec<Held>) {
        for (number, held) in standing.into_iter().enumerate() {
            let payment = Payment { held, repeats: false };
            drop(self.desks[number % self.desks.len()].send(payment).await);
        }
    }

    /// Waits until all who queue have paid.
    pub(super) async fn close(mut self) -> Result<(), tokio::task::JoinError> {
        self.desks.clear();
        while let Some(joined) = self.tasks.join_next().await {
            joined?;
        }
        Ok(())
    }
}

async fn serve(
    crowd: Arc<Crowd>,
    mut ops: OpsClient,
    mut queue: mpsc::Receiver<Payment>,
    number: u64,
) {
    let mut rng = Rng::with_seed(crowd.plan.seed ^ number);
    while let Some(payment) = queue.recv().await {
        // A crowd that is stopped pays no more, but the queue is emptied: somebody may wait.
        if !crowd.stop.is_set() {
            pay(&crowd, &mut ops, &payment, &mut rng).await;
        }
    }
}

async fn pay(crowd: &Crowd, ops: &mut OpsClient, payment: &Payment, rng: &mut Rng) {
    let held = &payment.held;
    let reference: Arc<str> = format!("pay-{}", held.reservation).into();
    let answer = insist_on_payment(crowd, ops, held, &reference, false, rng).await;
    if answer.next() == Next::Refused && answer.seen != Seen::No("reservation-expired".into()) {
        let what = format!("payment for {} refused: {:?}", held.reservation, answer.seen);
        crowd.anomalies.report(what);
    }
    if answer.next() != Next::Granted || !payment.repeats {
        return;
    }
    let again = insist_on_payment(crowd, ops, held, &reference, true, rng).await;
    if again.next() == Next::Refused {
        let what = format!("payment for {} repeated: {:?}", held.reservation, again.seen);
        crowd.anomalies.report(what);
    }
    let second: Arc<str> = format!("pay-again-{}", held.reservation).into();
    let other = insist_on_payment(crowd, ops, held, &second, false, rng).await;
    if other.next() == Next::Granted {
        crowd.anomalies.report(format!("{} was paid twice", held.reservation));
    }
}
