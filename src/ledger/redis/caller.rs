//! A thread's way to a lane of Redis: a connection, the calls on it, and what becomes of a call whose
//! answer is lost.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, TryLockError};
use std::time::{Duration, Instant};

use metrics::Counter;
use redis::{RedisError, cmd};
use tracing::{error, warn};

use super::keys::Keys;
use super::lane::{Fit, Lane};
use super::recovery::{self, Closed, Looks};
use super::scripts::{self, CallId};
use super::server::{self, Connection, Greeting, Server};
use super::torn;
use super::wire::{self, Head, MadeBefore, Report, Verdict};
use super::{Around, Promise, Settings};
use crate::clock;
use crate::crash;
use crate::engine::Command;
use crate::ledger::{Durability, Fault, Health, Ticket};
use crate::limits;
use crate::pause;
use crate::planted;
use crate::sale::Outcome;

/// What the threads of all lanes have in common.
pub(super) struct Common {
    pub(super) server: Arc<Server>,
    pub(super) settings: Settings,
    pub(super) around: Around,
    pub(super) stop: Arc<AtomicBool>,
}

/// A thread's way to a lane.
pub(super) struct Caller {
    pub(super) lane: Arc<Lane>,
    pub(super) common: Arc<Common>,
    pub(super) keys: Keys,
    /// Where the lane keeps its last call.
    field: String,
    /// That of the last call, if it was answered.
    pub(super) connection: Option<Connection>,
    /// Who the connection is.
    greeting: Option<Greeting>,
    /// A connection that was given up, and on which something may still be under way.
    abandoned: Option<Greeting>,
    /// A server that did not let us in is left alone until then.
    not_before: Instant,
    /// How often in a row it did not.
    refusals: u32,
    asked_again: Counter,
    limited: Counter,
    unlimited: Counter,
}

/// What a call came to.
pub(super) struct Done {
    pub(super) head: Head,
    pub(super) outcomes: Vec<Result<Outcome, Fault>>,
    pub(super) reports: Vec<Report>,
}

/// Why a try of a call came to nothing.
enum Trouble {
    /// Redis has said so, or was not reached: nothing was done.
    NotDone(Fault),
    /// Nothing was done, for a cause that the next try does away with.
    Again(Fault),
    /// Sent, and no answer: it may have been done.
    Unknown,
}

impl Caller {
    pub(super) fn new(lane: Arc<Lane>, common: Arc<Common>) -> Self {
        let metrics = &common.around.metrics;
        let number = [("lane", lane.id.to_string())];
        let limited = |outcome: &str| {
            let labels = [("gate", "per_user_shared".to_owned()), ("outcome", outcome.to_owned())];
            metrics.counter("floodgate_admission_total", &labels)
        };
        Self {
            keys: Keys::of(lane.id),
            field: field(&lane.gateway.name, lane.count()),
            asked_again: metrics.counter("floodgate_ledger_asked_again_total", &number),
            limited: limited("refused"),
            unlimited: limited("overflowed"),
            connection: None,
            greeting: None,
            abandoned: None,
            not_before: clock::instant(),
            refusals: 0,
            lane,
            common,
        }
    }

    /// How long there is no use in calling: a server that did not let us in is left alone for a while.
    pub(super) fn shut_out(&self) -> Duration {
        match self.connection {
            Some(_) => Duration::ZERO,
            None => self.not_before.saturating_duration_since(clock::instant()),
        }
    }

    /// Gives the connection up: what is left unread on it belongs to nobody.
    pub(super) fn abandon(&mut self) {
        self.connection = None;
        self.abandoned = self.greeting.take();
    }

    /// Calls until there is an answer or the time for it is up. A try whose answer was lost may have
    /// been done: it is repeated with the same ids, which finds what it did, or does it now.
    pub(super) fn call(
        &mut self,
        batch: &[Ticket],
        since: Option<u64>,
        started: Instant,
    ) -> Result<Done, Fault> {
        let asked = wire::Arguments::of(batch.iter().map(|ticket| &ticket.command));
        // Who only looks what is due, or changed, grants nothing.
        let known_by = (!batch.is_empty())
            .then(|| format!("{}-{}", self.lane.gateway.name, self.lane.count()));
        let deadline = started + Duration::from_millis(limits::REDIS_ANSWER_MS);
        let mut sent = false;
        loop {
            let last = clock::instant() >= deadline;
            match self.try_call(batch, &asked, since, known_by.as_deref()) {
                Ok(mut done) => {
                    if let Some(first) = &done.head.made_before {
                        unreplay(batch, &mut done.outcomes, first);
                    }
                    self.count(&done);
                    self.publish(&done);
                    return self.secure(done);
                }
                Err(Trouble::NotDone(fault)) if !sent => return Err(fault),
                Err(Trouble::Again(fault)) if !sent && last => return Err(fault),
                Err(Trouble::NotDone(_) | Trouble::Again(_)) => {}
                Err(Trouble::Unknown) => {
                    sent = true;
                    self.asked_again.increment(batch.len() as u64);
                }
            }
            if last {
                if planted::is("lost-answer-told-as-no") {
                    return Err(Fault::Unavailable);
                }
                return Err(Fault::Unknown);
            }
            clock::sleep(Duration::from_millis(fastrand::u64(1..=10)));
        }
    }

    fn try_call(
        &mut self,
        batch: &[Ticket],
        asked: &wire::Arguments,
        since: Option<u64>,
        known_by: Option<&str>,
    ) -> Result<Done, Trouble> {
        let mut connection = self.connected()?;
        let id = known_by.map(|known_by| CallId { field: &self.field, known_by });
        let seen = *self.lane.head.borrow();
        let quota = *self.common.around.user_quota.borrow();
        let call = scripts::lane_call(&self.keys, seen, since, quota.as_ref(), id, asked);
        crash::point("redis: before the call");
        let answer = scripts::call_lane(&mut connection, &call);
        crash::point("redis: answered");
        let said = match answer {
            Ok(said) => said,
            Err(failed) => return Err(self.failed(connection, &failed)),
        };
        let read = || -> Result<Done, wire::Unreadable> {
            let head = wire::head(&said.head)?;
            let commands = batch.iter().map(|ticket| &ticket.command);
            let outcomes = if head.verdict == Verdict::Done {
                let limited =
                    |wait| quota.map_or(Fault::Unknown, |quota| Fault::RateLimited { quota, wait });
                let outcomes = wire::outcomes(&said.outcomes, &said.shapes, commands)?.into_iter();
                outcomes.map(|outcome| outcome.map_err(limited)).collect()
            } else {
                Vec::new()
            };
            Ok(Done { head, outcomes, reports: wire::reports(&said.reports)? })
        };
        let done = read().map_err(|unreadable| {
            error!(lane = %self.lane.id, %unreadable, "an answer of the ledger is lost");
            Trouble::Unknown
        })?;
        match done.head.verdict {
            Verdict::Done => {
                self.connection = Some(connection);
                self.refusals = 0;
                self.lane.reached(&done.head);
                Ok(done)
            }
            // Another life of the lane, which is laid beside the books before it counts here.
            Verdict::Stale if done.head.position.epoch > seen.epoch => {
                Err(Trouble::Again(Fault::Fenced))
            }
            Verdict::Stale | Verdict::Behind | Verdict::Empty => {
                // The connection is given up: a new one is let in only after the lane was looked at.
                self.lane.suspect(true);
                self.lane.is(Health::Fenced);
                warn!(lane = %self.lane.id, verdict = ?done.head.verdict, "the lane has forgotten");
                Err(Trouble::NotDone(Fault::Fenced))
            }
            Verdict::Fenced | Verdict::Format => {
                self.lane.is(Health::Fenced);
                Err(Trouble::NotDone(Fault::Fenced))
            }
        }
    }

    /// What an error says of whether the call was done.
    fn failed(&mut self, connection: Connection, failed: &RedisError) -> Trouble {
        match failed.code() {
            // The script had not begun. A server that is another's, or not ready, is left.
            Some("NOSCRIPT") => {
                self.connection = Some(connection);
                Trouble::Again(Fault::Unavailable)
            }
            Some("OOM" | "BUSY" | "MISCONF" | "NOREPLICAS") => {
                self.connection = Some(connection);
                self.lane.is(Health::Down);
                warn!(lane = %self.lane.id, error = %failed, "Redis refuses");
                Trouble::NotDone(Fault::Unavailable)
            }
            Some(
                "LOADING" | "READONLY" | "MASTERDOWN" | "MOVED" | "ASK" | "TRYAGAIN"
                | "CLUSTERDOWN" | "NOAUTH" | "NOPERM" | "WRONGPASS",
            ) => {
                warn!(lane = %self.lane.id, error = %failed, "Redis refuses");
                Trouble::NotDone(Fault::Unavailable)
            }
            // A script that ended in the middle, or something that nobody knows.
            Some(_) => {
                self.lane.is(Health::Down);
                error!(lane = %self.lane.id, error = %failed, "the script failed");
                Trouble::Unknown
            }
            None => {
                self.abandoned = self.greeting.take();
                warn!(lane = %self.lane.id, error = %failed, "the connection to Redis is lost");
                Trouble::Unknown
            }
        }
    }

    /// A connection to a server that was compared with the books since it was started.
    fn connected(&mut self) -> Result<Connection, Trouble> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        if clock::instant() < self.not_before {
            return Err(Trouble::NotDone(self.unfit()));
        }
        self.open().map_err(|closed| {
            let colleague = matches!(closed, Closed::Colleague);
            if colleague && self.lane.health() == Health::Up {
                // A lane that works: its turn is over in a moment.
                return Trouble::Again(Fault::Unavailable);
            }
            let pause = pause::before_retry(limits::REDIS_BACKOFF_MS, self.refusals);
            self.not_before = clock::instant() + pause;
            self.refusals = self.refusals.saturating_add(1);
            let down = matches!(closed, Closed::Redis(_) | Closed::Unfit(_) | Closed::Rewriting);
            // What is the matter, the colleague finds out.
            if !colleague {
                self.lane.is(if down { Health::Down } else { Health::Fenced });
            }
            warn!(lane = %self.lane.id, %closed, "the lane is not open");
            if let Closed::Foreign(reason) = closed {
                self.lane.is_foreign(Some(reason));
            }
            Trouble::NotDone(self.unfit())
        })
    }

    fn unfit(&self) -> Fault {
        match self.lane.health() {
            Health::Fenced => Fault::Fenced,
            Health::Up | Health::Down => Fault::Unavailable,
        }
    }

    fn open(&mut self) -> Result<Connection, Closed> {
        let lane = Arc::clone(&self.lane);
        let mut fit = match lane.opening.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A colleague is at it.
            Err(TryLockError::WouldBlock) => return Err(Closed::Colleague),
        };
        let mut connection = self.common.server.connect(lane.id)?;
        let greeting = server::greet(&mut connection)?;
        let history = greeting.history.clone();
        if let Some(abandoned) = self.abandoned.as_ref().filter(|known| known.history == history)
            && !planted::is("abandoned-call-lives")
        {
            server::end(&mut connection, abandoned)?;
        }
        (self.greeting, self.abandoned) = (Some(greeting), None);
        if fit.as_ref().is_none_or(|fit| fit.history != history) {
            let Promise { durability, replicas } = self.common.settings.promise;
            server::check(&mut connection, durability, replicas)
                .map_err(|unfit| Closed::Unfit(unfit.to_string()))?;
            torn::heal(&mut connection)?;
            *fit = Some(Fit { history: history.clone(), compared: None });
        }
        let seen = *lane.head.borrow();
        let looks = Looks {
            history: &history,
            seen,
            suspect: lane.is_suspect(),
            compared: fit.as_ref().and_then(|fit| fit.compared),
        };
        let recall = self.common.around.recall.as_ref();
        let opened = recovery::open(&mut connection, lane.id, &lane.gateway, looks, recall)?;
        *fit = Some(Fit { history, compared: Some(opened.position.epoch) });
        lane.suspect(false);
        lane.is_foreign(None);
        if opened.lost > 0 {
            let labels = [("lane", lane.id.to_string())];
            let lost =
                self.common.around.metrics.counter("floodgate_ledger_lost_events_total", &labels);
            lost.increment(opened.lost);
        }
        if opened.position.epoch != seen.epoch {
            lane.adopt(opened.position);
        }
        Ok(connection)
    }

    /// What was decided is as durable as promised; or nobody knows whether it is.
    fn secure(&mut self, done: Done) -> Result<Done, Fault> {
        if self.common.settings.promise.durability != Durability::Replicated
            || done.outcomes.is_empty()
        {
            return Ok(done);
        }
        let replicas = self.common.settings.promise.replicas;
        let Some(mut connection) = self.connection.take() else { return Err(Fault::Unknown) };
        crash::point("redis: before the barrier");
        // `WAIT` counts from the last write of its own connection, and what is answered may have been
        // written through another: so there is a write here, behind all of it.
        let waited: Result<(u64, usize), _> = redis::pipe()
            .add_command(cmd("HINCRBY").arg(&self.keys.meta).arg("barriers").arg(1).clone())
            .add_command(cmd("WAIT").arg(replicas).arg(limits::REDIS_WAIT_MS).clone())
            .query(&mut connection);
        match waited {
            Ok((_, have)) => {
                self.connection = Some(connection);
                if have >= replicas || planted::is("wait-result-ignored") {
                    Ok(done)
                } else {
                    Err(Fault::Unknown)
                }
            }
            Err(_) => Err(Fault::Unknown),
        }
    }

    fn count(&self, done: &Done) {
        let limited = done.outcomes.iter().filter(|outcome| outcome.is_err()).count();
        self.limited.increment(limited as u64);
        self.unlimited.increment(done.head.unlimited);
    }

    /// Tells the catalog of the sales that were created, moved or restocked here: whoever did so finds it so at
    /// once.
    fn publish(&self, done: &Done) {
        let catalog = &self.common.around.catalog;
        catalog.reached(done.head.now);
        for outcome in &done.outcomes {
            if let Ok(Outcome::Sale { report, .. }) = outcome {
                let counters: Vec<_> = report.items.iter().map(|item| item.counters).collect();
                catalog.publish(done.head.position, &report.definition, &report.window, &counters);
            }
        }
    }
}

/// Where a lane keeps the last call of a gateway's caller of this number. Two callers that have one field may
/// take what they granted themselves for a replay.
fn field(gateway: &str, number: u64) -> String {
    let mut hasher = DefaultHasher::new();
    gateway.hash(&mut hasher);
    let field = hasher.finish().wrapping_add(number) % limits::REDIS_CALL_FIELDS;
    format!("call:{field}")
}

/// A repeated call finds what it did the first time, and the script takes it for the client's retry. What was
/// made at the very instant of that first time, and was no replay then, was made by it.
fn unreplay(batch: &[Ticket], outcomes: &mut [Result<Outcome, Fault>], first: &MadeBefore) {
    for (place, (ticket, outcome)) in batch.iter().zip(outcomes).enumerate() {
        if let Ok(Outcome::Reserved { reservation, replayed }) = outcome
            && reservation.held_at == first.at
            && !first.replays.contains(&place)
        {
            *replayed = false;
        }
        if let (Command::CreateSale { .. }, Ok(Outcome::Sale { report, created })) =
            (&ticket.command, outcome)
            && report.created_at == first.at
        {
            *created = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Millis;
    use crate::engine::Reserve;
    use crate::ledger::lane::inbox;
    use crate::sale::{LaneId, Reservation, ReservationId, SaleId, Status, UserId};

    /// Proves that a repeated call counts as its own what was held at the instant of its first time, whatever has
    /// become of it, and nothing else.
    #[test]
    fn whose_replay_it_is() {
        for (held_at, status, replays, replayed) in [
            (99, Status::Held, vec![], true),
            (100, Status::Held, vec![], false),
            (100, Status::Held, vec![1], false),
            (100, Status::Held, vec![0, 1], true),
            (101, Status::Held, vec![], true),
            (100, Status::Expired, vec![], false),
        ] {
            let (inbox, tray) = inbox(1);
            let id = ReservationId::random(LaneId(0));
            let (sale, user) = (SaleId::parse("s").unwrap(), UserId::parse("u").unwrap());
            let reserve =
                Reserve { id, sale: sale.clone(), user: user.clone(), lines: Box::default() };
            let _waits = inbox.submit(Command::Reserve(reserve)).unwrap();
            let mut batch = Vec::new();
            tray.take(&mut batch, 1);
            let reservation = Reservation {
                id,
                sale,
                user,
                lines: Box::default(),
                currency: "EUR".into(),
                status,
                version: 1,
                held_at: Millis(held_at),
                expires_at: Millis(held_at + 1),
                payment: None,
                late_payments: Vec::new(),
            };
            let mut outcomes = [Ok(Outcome::Reserved { reservation, replayed: true })];
            let first = MadeBefore { at: Millis(100), replays };
            unreplay(&batch, &mut outcomes, &first);
            let [Ok(Outcome::Reserved { replayed: told, .. })] = &outcomes else { panic!() };
            assert_eq!(*told, replayed, "{status:?} at {held_at}");
        }
    }
}
