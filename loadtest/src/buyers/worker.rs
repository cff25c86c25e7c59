//! A worker: one connection over which buyers come one after the other. Who has to wait steps
//! aside, and lets the next one ahead.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;
use tokio::sync::mpsc;

use super::backoff;
use super::cashier::Payment;
use super::crowd::{Crowd, Held};
use super::wave::Wave;
use crate::client::Client;

/// Its own connection, a second one for those who send twice at once, and what became of the
/// buyers that it served.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) crowd: Arc<Crowd>,
    pub(super) client: Client,
    pub(super) second: Client,
    pub(super) rng: Rng,
    pub(super) desk: Option<mpsc::Sender<Payment>>,
    /// Winners that neither cancelled nor paid.
    pub standing: Vec<Held>,
    /// Units that winners hold or paid.
    pub units: u64,
    /// Winners.
    pub won: u64,
    /// Winners that cancelled, or tried to.
    pub cancelled: u64,
    /// Buyers that may try again with a new key.
    pub refused: Vec<u64>,
    waiting: BinaryHeap<Reverse<Errand>>,
}

/// A buyer on the way; ordered by the time at which they are due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Errand {
    due: Instant,
    pub n: u64,
    /// How often the request was sent.
    pub tries: u32,
    /// An earlier try may have had an effect.
    pub unknown: bool,
}

/// What a buyer does after a visit.
#[derive(Debug)]
pub(super) enum Visited {
    Home,
    /// Comes again; `unknown` as in [`Errand`].
    Later {
        retry_after: Option<u64>,
        unknown: bool,
    },
}

impl Worker {
    pub(super) fn new(crowd: Arc<Crowd>, number: u64, desk: Option<mpsc::Sender<Payment>>) -> Self {
        Self {
            client: crowd.client(),
            second: crowd.client(),
            rng: Rng::with_seed(crowd.plan.seed.wrapping_add(number)),
            crowd,
            desk,
            standing: Vec::new(),
            units: 0,
            won: 0,
            cancelled: 0,
            refused: Vec::new(),
            waiting: BinaryHeap::new(),
        }
    }

    /// Serves buyers of the wave until all have gone home or the crowd is stopped.
    pub(super) async fn serve(mut self, wave: Arc<Wave>) -> Self {
        while !self.crowd.stop.is_set() {
            let Some(errand) = self.next(&wave) else {
                let Some(Reverse(earliest)) = self.waiting.peek() else {
                    break;
                };
                let wait = earliest.due.saturating_duration_since(Instant::now());
                backoff::sleep(&self.crowd.stop, wait).await;
                continue;
            };
            let (n, tries) = (errand.n, errand.tries + 1);
            match self.visit(&wave, &errand).await {
                Visited::Home => self.crowd.report_home(&wave),
                Visited::Later { retry_after, unknown } => {
                    let patience = &self.crowd.plan.patience;
                    let wait = backoff::wait(patience, errand.tries, retry_after, &mut self.rng);
                    let due = Instant::now() + wait;
                    self.waiting.push(Reverse(Errand { due, n, tries, unknown }));
                }
            }
        }
        self.waiting.clear();
        self
    }

    /// Who is due comes before who is new.
    fn next(&mut self, wave: &Wave) -> Option<Errand> {
        let now = Instant::now();
        if self.waiting.peek().is_some_and(|Reverse(earliest)| earliest.due <= now) {
            return self.waiting.pop().map(|Reverse(errand)| errand);
        }
        let n = wave.next()?;
        Some(Errand { due: now, n, tries: 0, unknown: false })
    }
}
