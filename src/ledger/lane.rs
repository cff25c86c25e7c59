//! The inbox of a lane: where requests from all connections wait to become a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::pace::Pace;
use super::{Answer, Fault, Pending};
use crate::engine::Command;
use crate::limits;
use crate::runtimes;
use crate::sync::atomic::{AtomicBool, Ordering::Acquire};
use crate::sync::channel::{self, Receiver, Sender, TrySendError};

/// A command, and where its answer goes.
#[derive(Debug)]
pub struct Ticket {
    /// What is asked.
    pub command: Command,
    /// Who waits; may have gone.
    pub reply: Reply,
}

/// Where an answer goes: a task, and the runtime that it is on.
#[derive(Debug)]
pub struct Reply {
    waits: oneshot::Sender<Result<Answer, Fault>>,
    runtime: usize,
}

impl Reply {
    /// To whoever has the other end, on the runtime of this thread.
    fn here() -> (Self, Pending) {
        let (waits, pending) = oneshot::channel();
        (Self { waits, runtime: runtimes::here() }, pending)
    }

    /// Which runtime the task is on.
    pub fn runtime(&self) -> usize {
        self.runtime
    }

    /// Whether nobody waits any more.
    pub fn is_closed(&self) -> bool {
        self.waits.is_closed()
    }

    /// Answers. Whoever has gone will ask again, and find it.
    pub fn send(self, answer: Result<Answer, Fault>) {
        let _ = self.waits.send(answer);
    }
}

/// The gateway's end of a lane. New reservations wait in one queue, everything else (payments,
/// cancellations, look-ups, operators) in another that is served first: who is already inside is
/// never stuck behind those who are not.
#[derive(Clone, Debug)]
pub struct Inbox {
    first: Sender<Ticket>,
    reservations: Sender<Ticket>,
    common: Arc<Common>,
}

/// The owner's end of a lane. Clones share what waits: each command is taken by one of them.
#[derive(Clone, Debug)]
pub struct Tray {
    first: Receiver<Ticket>,
    reservations: Receiver<Ticket>,
    common: Arc<Common>,
}

/// What both ends of a lane know.
#[derive(Debug, Default)]
struct Common {
    pace: Pace,
    /// Reservations that were thrown away because nobody waited for them any more.
    abandoned: AtomicU64,
}

/// How busy a lane is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneGauge {
    /// Commands that wait.
    pub waiting: usize,
    /// How long whoever comes now would wait; zero where there is no crowd.
    pub wait: Duration,
    /// Reservations, so far, whose client had gone before they were taken: they were not made.
    pub abandoned: u64,
}

/// The two ends of a lane whose queues hold `capacity` commands each.
pub fn inbox(capacity: usize) -> (Inbox, Tray) {
    let (first_in, first) = channel::bounded(capacity);
    let (reservations_in, reservations) = channel::bounded(capacity);
    let common = Arc::<Common>::default();
    let inbox =
        Inbox { first: first_in, reservations: reservations_in, common: Arc::clone(&common) };
    (inbox, Tray { first, reservations, common })
}

impl Inbox {
    /// Puts a command in. Never blocks.
    ///
    /// # Errors
    /// [`Fault::Overloaded`] where the queue is full, [`Fault::Unavailable`] where its owner is gone.
    pub fn submit(&self, command: Command) -> Result<Pending, Fault> {
        let queue = match command {
            Command::Reserve(_) => &self.reservations,
            Command::Confirm { .. }
            | Command::Cancel { .. }
            | Command::Find { .. }
            | Command::CreateSale { .. }
            | Command::MoveSale { .. }
            | Command::Restock { .. }
            | Command::Inspect { .. }
            | Command::Sweep => &self.first,
        };
        let (reply, pending) = Reply::here();
        match queue.try_send(Ticket { command, reply }) {
            Ok(()) => Ok(pending),
            Err(TrySendError::Full(_)) => Err(Fault::Overloaded),
            Err(TrySendError::Disconnected(_)) => Err(Fault::Unavailable),
        }
    }

    /// How long whoever comes now would wait; zero where there is no crowd. Cheap.
    pub fn wait(&self) -> Duration {
        self.common.pace.wait(|| self.waiting())
    }

    /// How busy the lane is.
    pub fn gauge(&self) -> LaneGauge {
        let abandoned = self.common.abandoned.load(Ordering::Relaxed);
        LaneGauge { waiting: self.waiting(), wait: self.wait(), abandoned }
    }

    fn waiting(&self) -> usize {
        self.first.len() + self.reservations.len()
    }
}

impl Tray {
    /// Waits at most `idle` for something to do, then takes whatever waits, at most a batch of it.
    /// `false` once every inbox is gone and nothing waits any more.
    pub fn collect(&self, batch: &mut Vec<Ticket>, idle: Duration) -> bool {
        self.collect_some(batch, limits::LANE_BATCH_MAX, idle)
    }

    /// The same with a batch of at most `max`.
    pub fn collect_some(&self, batch: &mut Vec<Ticket>, max: usize, idle: Duration) -> bool {
        self.take(batch, max);
        if !batch.is_empty() {
            return true;
        }
        let (first, reservations) = (&self.first, &self.reservations);
        let woken = channel::select! {
            recv(first) -> ticket => ticket,
            recv(reservations) -> ticket => ticket,
            default(idle) => return true,
        };
        let woken = woken.map(|ticket| batch.extend(self.wanted(ticket)));
        // Both queues lose their senders together, so what was sent before is in one of them now.
        self.take(batch, max);
        woken.is_ok() || !batch.is_empty()
    }

    /// Whether whoever serves here is to end: told to stop, with nothing in the batch and nothing that
    /// waits. The look before the stop does not count: what was handed over since is in the batch then.
    pub fn is_over(&self, batch: &mut Vec<Ticket>, max: usize, stop: &AtomicBool) -> bool {
        if !batch.is_empty() || !stop.load(Acquire) {
            return false;
        }
        self.take(batch, max);
        batch.is_empty()
    }

    /// Takes whatever waits, until the batch has `max`.
    pub fn take(&self, batch: &mut Vec<Ticket>, max: usize) {
        for queue in [&self.first, &self.reservations] {
            let room = max.saturating_sub(batch.len());
            batch.extend(queue.try_iter().filter_map(|ticket| self.wanted(ticket)).take(room));
        }
    }

    /// A reservation that nobody waits for any more would hold a unit for nobody. Its client was told
    /// nothing, or that the outcome is unknown: when it asks again, it is made. What is not a reservation
    /// is done in any case.
    fn wanted(&self, ticket: Ticket) -> Option<Ticket> {
        if ticket.reply.is_closed() && matches!(ticket.command, Command::Reserve(_)) {
            self.common.abandoned.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(ticket)
    }

    /// A batch of `commands`, of at most `max`, was served since `started`.
    pub fn served(&self, commands: usize, max: usize, started: Instant) {
        self.common.pace.served(commands, commands >= max, started, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Reserve;
    use crate::sale::{ReservationId, SaleId, UserId};

    fn reserve() -> Command {
        Command::Reserve(Reserve {
            id: ReservationId::random(crate::sale::LaneId(0)),
            sale: SaleId::parse("s").unwrap(),
            user: UserId::parse("u").unwrap(),
            lines: Box::default(),
        })
    }

    /// A full queue refuses, and refusing reservations leaves room for everything else.
    #[test]
    fn full_is_refused() {
        let (inbox, tray) = inbox(1);
        let _waiting = inbox.submit(reserve()).unwrap();
        assert_eq!(inbox.submit(reserve()).unwrap_err(), Fault::Overloaded);
        let _swept = inbox.submit(Command::Sweep).unwrap();
        let mut batch = Vec::new();
        assert!(tray.collect(&mut batch, Duration::ZERO));
        assert!(matches!(batch[0].command, Command::Sweep), "who is inside is served first");
        assert_eq!(batch.len(), 2);
    }

    /// What was accepted is still handed over after the last inbox is gone; then it ends.
    #[test]
    fn abandoned_lane_is_emptied_first() {
        let (inbox, tray) = inbox(4);
        let _waiting = inbox.submit(reserve()).unwrap();
        drop(inbox);
        let mut batch = Vec::new();
        assert!(tray.collect(&mut batch, Duration::from_secs(1)));
        assert_eq!(batch.len(), 1);
        batch.clear();
        assert!(!tray.collect(&mut batch, Duration::from_secs(1)));
    }

    /// A reservation whose client has gone is not made; anything else is done for whoever asked.
    #[test]
    fn who_has_gone_takes_no_unit() {
        let (inbox, tray) = inbox(4);
        drop(inbox.submit(reserve()).unwrap());
        drop(inbox.submit(Command::Sweep).unwrap());
        let _waits = inbox.submit(reserve()).unwrap();
        let mut batch = Vec::new();
        assert!(tray.collect(&mut batch, Duration::ZERO));
        assert_eq!(batch.len(), 2);
        assert!(batch.iter().any(|ticket| matches!(ticket.command, Command::Sweep)));
        assert_eq!(inbox.gauge().abandoned, 1);
    }

    /// Without an owner nothing is accepted.
    #[test]
    fn no_owner() {
        let (inbox, tray) = inbox(4);
        drop(tray);
        assert_eq!(inbox.submit(reserve()).unwrap_err(), Fault::Unavailable);
    }
}
