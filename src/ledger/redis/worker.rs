//! A worker of a lane: takes what waits, makes one call of it, and tells.
//!
//! A lane has a few workers, each a thread with a connection of its own. While one waits for Redis the
//! next batch gathers for another; which of them calls first does not matter, for every call is one
//! atomic step. One more watches: it asks for what changed in the lane's sales, returns holds that ran
//! out, and follows what other gateways grant.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram};
use redis::{RedisError, cmd};
use tokio::sync::watch;
use tracing::{error, warn};

use super::follower::Follower;
use super::keys::Keys;
use super::recovery::{self, Closed, Gateway};
use super::scripts::LANE;
use super::server::{self, Connection, Greeting, Server};
use super::wire::{self, Head, Report, Verdict};
use super::{Around, Promise, Settings};
use crate::catalog::SaleCard;
use crate::clock::Millis;
use crate::engine::{Command, Position};
use crate::ledger::lane::Tray;
use crate::ledger::postman::Postman;
use crate::ledger::{Answer, Durability, Fault, Health, Knowledge, Ticket};
use crate::limits;
use crate::pause;
use crate::sale::{LaneId, Outcome, SaleDefinition, Status};

/// What the workers of a lane know together.
pub(super) struct Lane {
    pub(super) id: LaneId,
    gateway: Gateway,
    /// The furthest position that this gateway has seen.
    pub(super) head: watch::Sender<Position>,
    health: watch::Sender<Health>,
    /// The lane's clock, as last seen.
    now: AtomicU64,
    ticker: Mutex<Ticker>,
    /// The history of the server that was last found fit. Held by the worker that looks at the lane or
    /// brings it back.
    opening: Mutex<Option<String>>,
    /// The lane itself has said that it forgot.
    suspect: AtomicBool,
    /// Why it will not open by itself.
    foreign: Mutex<Option<String>>,
    /// Until when every id that was granted is written down here: a seq, 0 for nothing, and the clock then.
    known_seq: AtomicU64,
    known_now: AtomicU64,
}

/// When the lane's sales are to be asked for, and what changed since when.
struct Ticker {
    next: Instant,
    /// In which life of the lane.
    epoch: u64,
    since: u64,
}

impl Lane {
    pub(super) fn new(id: LaneId, gateway: Gateway) -> Self {
        Self {
            id,
            gateway,
            head: watch::Sender::default(),
            health: watch::Sender::new(Health::Down),
            now: AtomicU64::new(0),
            ticker: Mutex::new(Ticker { next: Instant::now(), epoch: 0, since: 0 }),
            opening: Mutex::default(),
            suspect: AtomicBool::new(false),
            foreign: Mutex::default(),
            known_seq: AtomicU64::new(0),
            known_now: AtomicU64::new(0),
        }
    }

    /// Until when every id that was granted is written down here.
    pub(super) fn known(&self) -> Knowledge {
        // The seq last: it was stored last.
        let seq = self.known_seq.load(Ordering::Acquire);
        Knowledge { seq, now: Millis(self.known_now.load(Ordering::Acquire)) }
    }

    fn knows(&self, known: Option<(Position, Millis)>) {
        match known {
            Some((position, now)) => {
                self.known_now.store(now.0, Ordering::Release);
                self.known_seq.store(position.seq, Ordering::Release);
            }
            None => self.known_seq.store(0, Ordering::Release),
        }
    }

    pub(super) fn health(&self) -> Health {
        *self.health.borrow()
    }

    /// Why the lane will not open by itself, if so.
    pub(super) fn foreign(&self) -> Option<String> {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_foreign(&self, reason: Option<String>) {
        *self.foreign.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    fn is(&self, health: Health) {
        self.health.send_if_modified(|was| std::mem::replace(was, health) != health);
    }

    fn reached(&self, head: Head) {
        self.now.fetch_max(head.now.0, Ordering::AcqRel);
        self.head.send_if_modified(|at| {
            let further = head.position > *at;
            *at = head.position.max(*at);
            further
        });
    }

    /// From here on another life of the lane counts, wherever it begins.
    fn adopt(&self, position: Position) {
        // A seq means something else from now on.
        self.knows(None);
        self.head.send_replace(position);
        let mut ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner);
        *ticker = Ticker { next: Instant::now(), epoch: position.epoch, since: 0 };
    }

    /// How long until the sales are to be asked for.
    fn idle(&self) -> Duration {
        let ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner);
        ticker.next.saturating_duration_since(Instant::now()).min(TICK)
    }

    /// The sales are asked for now: since when.
    fn tick(&self) -> u64 {
        let mut ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner);
        ticker.next = Instant::now() + TICK;
        ticker.since
    }

    /// There is more to be told, or more holds are due: not after the usual pause, but now.
    fn again(&self) {
        let mut ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner);
        ticker.next = Instant::now();
    }

    fn ticked(&self, epoch: u64, since: u64) {
        let mut ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner);
        if ticker.epoch == epoch {
            ticker.since = ticker.since.max(since);
        }
    }
}

const TICK: Duration = Duration::from_millis(limits::REDIS_TICK_MS);

/// What a worker is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Makes calls of what waits.
    Serves,
    /// Looks at the lane from time to time.
    Watches,
}

/// What the workers of all lanes have in common.
pub(super) struct Common {
    pub(super) server: Arc<Server>,
    pub(super) settings: Settings,
    pub(super) around: Around,
    pub(super) stop: Arc<AtomicBool>,
}

pub(super) struct Worker {
    lane: Arc<Lane>,
    tray: Tray,
    common: Arc<Common>,
    postman: Postman,
    keys: Keys,
    follower: Follower,
    connection: Option<Connection>,
    /// Who the connection is.
    greeting: Option<Greeting>,
    /// A connection that was given up, and on which something may still be under way.
    abandoned: Option<Greeting>,
    /// A server that did not let us in is left alone until then.
    not_before: Instant,
    /// How often in a row it did not.
    refusals: u32,
    call_seconds: Histogram,
    asked_again: Counter,
}

/// What a call came to.
struct Done {
    head: Head,
    outcomes: Vec<Outcome>,
    reports: Vec<Report>,
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

impl Worker {
    pub(super) fn new(lane: Arc<Lane>, tray: Tray, common: Arc<Common>, postman: Postman) -> Self {
        let metrics = &common.around.metrics;
        let op = [("op", "batch".to_owned())];
        let number = [("lane", lane.id.to_string())];
        Self {
            keys: Keys::of(lane.id),
            call_seconds: metrics.histogram("floodgate_ledger_call_seconds", &op),
            asked_again: metrics.counter("floodgate_ledger_asked_again_total", &number),
            follower: Follower::default(),
            connection: None,
            greeting: None,
            abandoned: None,
            not_before: Instant::now(),
            refusals: 0,
            lane,
            tray,
            common,
            postman,
        }
    }

    /// Works until it is to stop, and serves what waits until then.
    pub(super) fn run(self, role: Role) {
        match role {
            Role::Serves => self.serve(),
            Role::Watches => self.watch(),
        }
    }

    fn serve(mut self) {
        let mut batch = Vec::with_capacity(self.common.settings.batch_max);
        loop {
            if self.connection.is_none() {
                // Whoever cannot serve takes nothing from those who can.
                std::thread::sleep(self.not_before.saturating_duration_since(Instant::now()));
            }
            let max = self.common.settings.batch_max;
            if !self.tray.collect_some(&mut batch, max, TICK)
                || self.tray.is_over(&mut batch, max, &self.common.stop)
            {
                break;
            }
            if !batch.is_empty() {
                self.serve_batch(&mut batch);
            }
        }
    }

    fn serve_batch(&mut self, batch: &mut Vec<Ticket>) {
        let started = Instant::now();
        let called = self.call(batch, None, started);
        self.common.around.metrics.ledger_batch_size.record(batch.len() as f64);
        self.call_seconds.record(started.elapsed().as_secs_f64());
        self.tray.served(batch.len(), self.common.settings.batch_max, started);
        match called {
            Ok(Done { head, outcomes, .. }) => {
                let position = head.position;
                let told = batch.drain(..).zip(outcomes);
                let mail =
                    told.map(|(ticket, outcome)| (ticket.reply, Ok(Answer { outcome, position })));
                self.postman.take(mail.collect());
            }
            Err(fault) => {
                self.postman
                    .take(batch.drain(..).map(|ticket| (ticket.reply, Err(fault))).collect());
            }
        }
    }

    fn watch(mut self) {
        while !self.common.stop.load(Ordering::Acquire) {
            let since = self.lane.tick();
            // A call that fails is made again with the next tick, which says nothing new of the cause.
            let _ = self.call(&[], Some(since), Instant::now());
            let refused = self.not_before.saturating_duration_since(Instant::now());
            let refused = if self.connection.is_none() { refused } else { Duration::ZERO };
            std::thread::sleep(self.lane.idle().max(refused));
        }
    }

    /// Calls until there is an answer or the time for it is up. A try whose answer was lost may have
    /// been done: it is repeated with the same ids, which finds what it did, or does it now.
    fn call(
        &mut self,
        batch: &[Ticket],
        since: Option<u64>,
        started: Instant,
    ) -> Result<Done, Fault> {
        let asked = wire::Arguments::of(batch.iter().map(|ticket| &ticket.command));
        let known_now = Millis(self.lane.now.load(Ordering::Acquire));
        let deadline = started + Duration::from_millis(limits::REDIS_ANSWER_MS);
        let mut sent = false;
        loop {
            let last = Instant::now() >= deadline;
            match self.try_call(batch, &asked, since) {
                Ok(mut done) => {
                    if sent {
                        unreplay(batch, &mut done.outcomes, known_now);
                    }
                    self.publish(&done, since);
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
                return Err(Fault::Unknown);
            }
            std::thread::sleep(Duration::from_millis(fastrand::u64(1..=10)));
        }
    }

    fn try_call(
        &mut self,
        batch: &[Ticket],
        asked: &wire::Arguments,
        since: Option<u64>,
    ) -> Result<Done, Trouble> {
        let mut connection = self.connected().map_err(Trouble::NotDone)?;
        let seen = *self.lane.head.borrow();
        let mut call = LANE.prepare_invoke();
        for key in self.keys.all() {
            call.key(key);
        }
        call.arg(seen.epoch).arg(seen.seq);
        call.arg(since.map_or(String::new(), |since| since.to_string()));
        call.arg(&asked.letters);
        for value in &asked.values {
            call.arg(value.as_slice());
        }
        let answer: Result<[Vec<u8>; 3], RedisError> = call.invoke(&mut connection);
        let [head, outcomes, reports] = match answer {
            Ok(parts) => parts,
            Err(failed) => return Err(self.failed(connection, &failed)),
        };
        let read = || -> Result<Done, wire::Unreadable> {
            let head = wire::head(&head)?;
            let commands = batch.iter().map(|ticket| &ticket.command);
            let outcomes = if head.verdict == Verdict::Done {
                wire::outcomes(&outcomes, commands)?
            } else {
                Vec::new()
            };
            Ok(Done { head, outcomes, reports: wire::reports(&reports)? })
        };
        let done = read().map_err(|unreadable| {
            error!(lane = %self.lane.id, %unreadable, "an answer of the ledger is lost");
            Trouble::Unknown
        })?;
        match done.head.verdict {
            Verdict::Done => {
                self.connection = Some(connection);
                self.refusals = 0;
                self.lane.reached(done.head);
                Ok(done)
            }
            // Another life of the lane, which is laid beside the books before it counts here.
            Verdict::Stale if done.head.position.epoch > seen.epoch => {
                Err(Trouble::Again(Fault::Fenced))
            }
            Verdict::Stale | Verdict::Behind | Verdict::Empty => {
                // The connection is given up: a new one is let in only after the lane was looked at.
                self.lane.suspect.store(true, Ordering::Release);
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
    fn connected(&mut self) -> Result<Connection, Fault> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        if Instant::now() < self.not_before {
            return Err(self.unfit());
        }
        let opened = self.open();
        self.not_before = Instant::now();
        opened.map_err(|closed| {
            if matches!(closed, Closed::Another) && *self.lane.health.borrow() == Health::Up {
                // A colleague looks at a lane that works: its turn is over in a moment.
                self.not_before += Duration::from_millis(5);
                return Fault::Unavailable;
            }
            self.not_before += pause::before_retry(limits::REDIS_BACKOFF_MS, self.refusals);
            self.refusals = self.refusals.saturating_add(1);
            let down = matches!(closed, Closed::Redis(_) | Closed::Unfit(_));
            self.lane.is(if down { Health::Down } else { Health::Fenced });
            warn!(lane = %self.lane.id, %closed, "the lane is not open");
            if let Closed::Foreign(reason) = closed {
                self.lane.is_foreign(Some(reason));
            }
            self.unfit()
        })
    }

    fn unfit(&self) -> Fault {
        match *self.lane.health.borrow() {
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
            Err(TryLockError::WouldBlock) => return Err(Closed::Another),
        };
        let mut connection = self.common.server.connect(lane.id)?;
        let greeting = server::greet(&mut connection)?;
        let history = greeting.history.clone();
        if let Some(abandoned) = self.abandoned.as_ref().filter(|known| known.history == history) {
            server::end(&mut connection, abandoned)?;
        }
        (self.greeting, self.abandoned) = (Some(greeting), None);
        if fit.as_ref() != Some(&history) {
            let Promise { durability, replicas } = self.common.settings.promise;
            server::check(&mut connection, durability, replicas)
                .map_err(|unfit| Closed::Unfit(unfit.to_string()))?;
            *fit = Some(history.clone());
        }
        let seen = *lane.head.borrow();
        let suspect = lane.suspect.load(Ordering::Acquire);
        let recall = self.common.around.recall.as_ref();
        let gateway = &lane.gateway;
        let opened =
            recovery::open(&mut connection, lane.id, gateway, &history, seen, suspect, recall)?;
        lane.suspect.store(false, Ordering::Release);
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
        // `WAIT` counts from the last write of its own connection, and what is answered may have been
        // written through another: so there is a write here, behind all of it.
        let waited: Result<(u64, usize), _> = redis::pipe()
            .add_command(cmd("HINCRBY").arg(&self.keys.meta).arg("barriers").arg(1).clone())
            .add_command(cmd("WAIT").arg(replicas).arg(limits::REDIS_WAIT_MS).clone())
            .query(&mut connection);
        match waited {
            Ok((_, have)) => {
                self.connection = Some(connection);
                if have >= replicas { Ok(done) } else { Err(Fault::Unknown) }
            }
            Err(_) => Err(Fault::Unknown),
        }
    }

    /// Tells the catalog what the lane says of its sales. A lane is up once the catalog knows them.
    fn publish(&mut self, done: &Done, since: Option<u64>) {
        let Head { position, now, more, full, .. } = done.head;
        self.common.around.catalog.reached(now);
        for outcome in &done.outcomes {
            // Whoever creates, moves or restocks a sale here finds it so at once.
            if let Outcome::Sale { report, .. } = outcome {
                let counters: Vec<_> = report.items.iter().map(|item| item.counters).collect();
                let (definition, window) = (&report.definition, &report.window);
                self.common.around.catalog.publish(position, definition, window, &counters);
            }
        }
        let Some(since) = since else { return };
        let mut last = since;
        let mut whole = !full;
        let mut cards = Vec::with_capacity(done.reports.len());
        for report in &done.reports {
            // It is told again with the next tick.
            let Some(card) = self.card_of(report) else {
                whole = false;
                break;
            };
            cards.push((card, report));
            last = report.touched;
        }
        // Before anybody reads that the last unit is gone: who has it.
        let known = whole && self.follow(position);
        self.lane.knows(known.then_some((position, now)));
        for (card, report) in cards {
            card.update(position, &report.window, &report.counters);
        }
        if !whole {
            // Whoever shares the last seq may not have been told yet.
            last = last.saturating_sub(1).max(since);
        }
        self.lane.ticked(position.epoch, last);
        if full || more {
            self.lane.again();
        }
        if whole {
            self.lane.is(Health::Up);
        }
    }

    fn follow(&mut self, position: Position) -> bool {
        let Some(connection) = self.connection.as_mut() else { return false };
        let catalog = &self.common.around.catalog;
        match self.follower.follow(connection, &self.keys, catalog, position) {
            Ok(known) => known,
            Err(error) => {
                // What is left unread on this connection belongs to nobody.
                warn!(lane = %self.lane.id, %error, "the outbox cannot be followed");
                self.connection = None;
                self.abandoned = self.greeting.take();
                false
            }
        }
    }

    /// What the catalog has of a sale; it is made known there where it is new.
    fn card_of(&mut self, report: &Report) -> Option<Arc<SaleCard>> {
        let known = self.common.around.catalog.sale(report.sale.as_str());
        if known.is_some() {
            return known;
        }
        let definition = self.definition_of(report)?;
        Some(self.common.around.catalog.know(&definition))
    }

    fn definition_of(&mut self, report: &Report) -> Option<Arc<SaleDefinition>> {
        let connection = self.connection.as_mut()?;
        let text: String = cmd("HGET")
            .arg(&self.keys.definitions)
            .arg(report.sale.as_str())
            .query(connection)
            .ok()?;
        wire::definition(&text).ok()
    }
}

/// A repeated try finds what an earlier one did, and the script takes it for the client's retry. What
/// was made after the lane's clock as this gateway knew it before the first try was made by that.
fn unreplay(batch: &[Ticket], outcomes: &mut [Outcome], known_now: Millis) {
    for (ticket, outcome) in batch.iter().zip(outcomes) {
        if let Outcome::Reserved { reservation, replayed } = outcome
            && reservation.status == Status::Held
            && reservation.held_at > known_now
        {
            *replayed = false;
        }
        if let (Command::CreateSale { .. }, Outcome::Sale { report, created }) =
            (&ticket.command, outcome)
            && report.created_at > known_now
        {
            *created = true;
        }
    }
}
