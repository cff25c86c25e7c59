//! The owner of a lane: the one thread that decides.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use metrics::Histogram;
use tokio::sync::watch;
use tracing::{error, warn};

use super::Surroundings;
use super::disk::DiskWatch;
use crate::crash;
use crate::engine::{self, Command, Event, Position, State};
use crate::ledger::journal::{AppendError, Journal};
use crate::ledger::lane::{Reply, Tray};
use crate::ledger::postman::Postman;
use crate::ledger::{Answer, Fault, Ticket};
use crate::limits;
use crate::outbox::Record;
use crate::planted;
use crate::sale::{LaneId, Outcome, SaleId};

/// A lane's state, journal and everything it tells others.
pub(super) struct Owner {
    lane: LaneId,
    journal: Journal,
    state: State,
    head: watch::Sender<Position>,
    around: Surroundings,
    call_seconds: Histogram,
    disk: DiskWatch,
    postman: Postman,
    /// Raised if the thread ends for any other reason than the end of its inboxes.
    alarm: Alarm,
    /// Reused from batch to batch.
    events: Vec<Event>,
    decided: Vec<(Reply, Outcome)>,
}

struct Alarm {
    failed: watch::Sender<bool>,
    armed: bool,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.armed {
            self.failed.send_replace(true);
        }
    }
}

/// Whether the lane goes on.
enum Next {
    GoOn,
    Stop,
}

impl Owner {
    pub(super) fn new(
        lane: LaneId,
        disk: DiskWatch,
        journal: Journal,
        state: State,
        head: watch::Sender<Position>,
        postman: Postman,
        around: Surroundings,
    ) -> Self {
        let labels = [("op", "batch".to_owned())];
        Self {
            lane,
            journal,
            state,
            head,
            call_seconds: around.metrics.histogram("floodgate_ledger_call_seconds", &labels),
            disk,
            postman,
            alarm: Alarm { failed: around.failed.clone(), armed: true },
            around,
            events: Vec::new(),
            decided: Vec::new(),
        }
    }

    /// Serves until it is to stop and nothing waits, or until the journal fails.
    pub(super) fn run(mut self, tray: &Tray, stop: &AtomicBool) {
        let mut batch = Vec::with_capacity(limits::LANE_BATCH_MAX);
        let mut before = 0;
        while tray.collect(&mut batch, self.idle()) {
            if before >= limits::LANE_CROWD {
                // In a crowd more come while this thread looks away; a sync for each few of them
                // would only take the CPU from those who bring them.
                std::thread::sleep(Duration::from_micros(limits::LANE_GATHER_US));
                tray.take(&mut batch, limits::LANE_BATCH_MAX);
            }
            before = batch.len();
            if tray.is_over(&mut batch, limits::LANE_BATCH_MAX, stop) {
                break;
            }
            let started = Instant::now();
            let next = self.serve(&mut batch);
            tray.served(before, limits::LANE_BATCH_MAX, started);
            match next {
                Next::GoOn => {}
                Next::Stop => {
                    // Whoever still waits learns that nothing was done for them.
                    let mut rest = Vec::new();
                    while tray.collect(&mut rest, Duration::ZERO) && !rest.is_empty() {
                        refuse(&mut rest);
                    }
                    return;
                }
            }
        }
        self.alarm.armed = false;
    }

    /// How long to wait for a command: no longer than until the next hold runs out.
    fn idle(&self) -> Duration {
        let idle = Duration::from_millis(limits::LANE_IDLE_MS);
        let now = self.around.clock.now();
        self.state.next_deadline().map_or(idle, |deadline| deadline.since(now).min(idle))
    }

    fn serve(&mut self, batch: &mut Vec<Ticket>) -> Next {
        let started = Instant::now();
        self.disk.look(started);
        if self.disk.is_full(started) {
            self.read_only(batch);
            // Without this an idle lane with due holds would spin.
            std::thread::park_timeout(Duration::from_millis(5));
            return Next::GoOn;
        }
        let commands = batch.len();
        self.decide(batch);
        if commands > 0 {
            self.around.metrics.ledger_batch_size.record(commands as f64);
        }
        let next = self.make_durable();
        if commands > 0 {
            self.call_seconds.record(started.elapsed().as_secs_f64());
        }
        next
    }

    /// With a disk that took no more just now: answers what needs no writing, refuses the rest.
    fn read_only(&mut self, batch: &mut Vec<Ticket>) {
        let now = self.around.clock.now();
        let mut rest = Vec::new();
        for ticket in batch.drain(..) {
            if !writes_nothing(&self.state, &ticket.command) {
                rest.push(ticket);
                continue;
            }
            let Ticket { command, reply } = ticket;
            let outcome = engine::apply(&mut self.state, now, &command, &mut self.events);
            let position = self.state.position();
            reply.send(Ok(Answer { outcome, position }));
        }
        refuse(&mut rest);
    }

    /// Decides holds that ran out first, so that their units are there for whoever asks.
    fn decide(&mut self, batch: &mut Vec<Ticket>) {
        let now = self.around.clock.now();
        let (state, events) = (&mut self.state, &mut self.events);
        engine::apply(state, now, &Command::Sweep, events);
        if !events.is_empty() {
            crash::point("lane: swept");
        }
        for Ticket { command, reply } in batch.drain(..) {
            let takes = matches!(command, Command::Reserve(_)) && !writes_nothing(state, &command);
            if takes && !self.disk.has_room() {
                reply.send(Err(Fault::Unavailable));
                continue;
            }
            let outcome = engine::apply(state, now, &command, events);
            self.decided.push((reply, outcome));
        }
    }

    /// Appends what happened, then tells: the catalog, the writer, and everybody who waits.
    fn make_durable(&mut self) -> Next {
        if planted::is("ack-before-sync") {
            self.answer();
        }
        if !self.events.is_empty() {
            crash::point("lane: decided");
            let record = Record::of(self.state.position(), self.state.now(), &self.events);
            if let Err(error) = self.journal.append(&record) {
                return self.append_failed(error);
            }
            crash::point("lane: appended");
            self.publish();
            crash::point("lane: published");
            self.head.send_replace(self.state.position());
            self.events.clear();
        }
        self.answer();
        Next::GoOn
    }

    /// Tells everybody who waits for what was decided.
    fn answer(&mut self) {
        if self.decided.is_empty() {
            return;
        }
        let position = self.state.position();
        let answer = |(reply, outcome)| (reply, Ok(Answer { outcome, position }));
        self.postman.take(self.decided.drain(..).map(answer).collect());
        crash::point("lane: told");
    }

    fn publish(&self) {
        let touched: BTreeSet<&SaleId> = self
            .events
            .iter()
            .filter_map(|event| match event {
                Event::SaleCreated { definition, .. } => Some(&definition.id),
                Event::SaleMoved { sale, .. } | Event::Restocked { sale, .. } => Some(sale),
                Event::Held(reservation) => Some(&reservation.sale),
                // A confirmation names its reservation only; the record knows where it is.
                Event::Confirmed { id, .. } => self.state.reservation(id).map(|known| &known.sale),
                Event::Cancelled { returned: moved, .. }
                | Event::Expired(moved)
                | Event::Rebooked { taken: moved, .. } => Some(&moved.sale),
                Event::RefundNeeded { .. } => None,
            })
            .collect();
        self.around.catalog.reached(self.state.now());
        for record in touched.into_iter().filter_map(|sale| self.state.sale(sale)) {
            let position = self.state.position();
            let (definition, window) = (record.definition(), record.window());
            self.around.catalog.publish(position, definition, window, record.counters());
        }
    }

    fn append_failed(&mut self, error: AppendError) -> Next {
        self.events.clear();
        match error {
            AppendError::Full(cause) => {
                warn!(lane = %self.lane, %cause, "no room for the journal; refusing until there is");
                for (reply, _) in self.decided.drain(..) {
                    reply.send(Err(Fault::Unavailable));
                }
                self.disk.refused();
                // The state in memory is ahead of the journal: go back to what is durable.
                match self.journal.rebuild() {
                    Ok(state) => {
                        self.state = state;
                        Next::GoOn
                    }
                    Err(cause) => {
                        error!(lane = %self.lane, %cause, "cannot return to the durable state");
                        Next::Stop
                    }
                }
            }
            AppendError::Broken(cause) => {
                error!(lane = %self.lane, %cause, "the journal failed; stopping to recover");
                for (reply, _) in self.decided.drain(..) {
                    reply.send(Err(Fault::Unknown));
                }
                Next::Stop
            }
        }
    }
}

/// Whether deciding this only looks: a question, or the retry of what was granted before.
fn writes_nothing(state: &State, command: &Command) -> bool {
    match command {
        Command::Find { .. } | Command::Inspect { .. } => true,
        Command::Reserve(reserve) => state.reservation(&reserve.id).is_some(),
        Command::Confirm { .. }
        | Command::Cancel { .. }
        | Command::CreateSale { .. }
        | Command::MoveSale { .. }
        | Command::Restock { .. }
        | Command::Sweep => false,
    }
}

/// Nothing was done for any of these.
fn refuse(batch: &mut Vec<Ticket>) {
    for ticket in batch.drain(..) {
        ticket.reply.send(Err(Fault::Unavailable));
    }
}
