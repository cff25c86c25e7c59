//! The gate: the hot path without HTTP or SQL. Read this first.
//!
//! A request to reserve is refused cheaply where that is certain to be right; otherwise it becomes a
//! command in its lane's inbox, and the gate waits for the ledger's word and for as much durability as
//! the operator promises. Once it is taken from there the command does not depend on the waiting: a client
//! that goes away finds its reservation when it asks again under the same key.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is not the answer to the question goes to `unexpected`, which lists them all"
)]

mod before;
mod breakers;
mod operate;
#[cfg(test)]
mod tests;

pub use operate::LaneStatus;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use tokio::time::timeout;

use self::breakers::Breakers;
use crate::admission::{self, Admitted, Asking, Buckets, Condition, RateLimited, Standing};
use crate::catalog::{Catalog, SaleCard};
use crate::clock::{Clock, Millis};
use crate::crash;
use crate::engine::{Authority, Command, OrderedLine, Position, Reserve};
use crate::ledger::{Answer, Durability, Fault, Health, Knowledge, Ledger};
use crate::limits;
use crate::metrics::Metrics;
use crate::planted;
use crate::sale::{
    IdempotencyKey, LaneId, Outcome, Refusal, Reservation, ReservationId, Status, UserId,
};
use crate::writer::Progress;

/// One gateway's way to the ledger.
pub struct Gate {
    ledger: Arc<dyn Ledger>,
    breakers: Breakers,
    catalog: Arc<Catalog>,
    clock: Arc<dyn Clock>,
    progress: Progress,
    metrics: Arc<Metrics>,
    durability: Durability,
    buckets: Arc<Buckets>,
    passed: Counter,
    refused_by_sale: Counter,
    refused_by_backlog: Counter,
}

/// What a gate is made of.
pub struct Parts {
    /// Who decides.
    pub ledger: Arc<dyn Ledger>,
    /// What is known of the sales.
    pub catalog: Arc<Catalog>,
    /// This gateway's clock.
    pub clock: Arc<dyn Clock>,
    /// How far the books are.
    pub progress: Progress,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// What a 201 promises.
    pub durability: Durability,
    /// The token buckets.
    pub buckets: Arc<Buckets>,
}

/// A wish to buy, parsed and well formed.
#[derive(Debug)]
pub struct Purchase {
    /// Who.
    pub user: UserId,
    /// From where, as far as it is known.
    pub client: Option<IpAddr>,
    /// What makes a retry the same request.
    pub key: Option<IdempotencyKey>,
    /// At least one line, each item once.
    pub lines: Box<[OrderedLine]>,
}

/// Units that are the buyer's.
#[derive(Debug)]
pub struct Granted {
    /// The record as it stands now.
    pub reservation: Reservation,
    /// An earlier request took them.
    pub replayed: bool,
    /// Where the buyer stands with the limit on requests, if there is one.
    pub standing: Option<Standing>,
}

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// A definite no.
    Refused(Refusal),
    /// Too many requests of this kind. Nothing was done.
    RateLimited(RateLimited),
    /// Too much waits. Nothing was done.
    Overloaded,
    /// The ledger does not work. Nothing was done.
    LedgerUnavailable,
    /// The ledger may have forgotten and is being brought back to what is known. Nothing was done.
    LedgerFenced,
    /// Done or not: asking again under the same key tells.
    OutcomeUnknown,
}

impl Denied {
    /// The name on the wire and in metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Denied::Refused(refusal) => refusal.code(),
            Denied::RateLimited(_) => "rate-limited",
            Denied::Overloaded => "overloaded",
            Denied::LedgerUnavailable => "ledger-unavailable",
            Denied::LedgerFenced => "ledger-fenced",
            Denied::OutcomeUnknown => "outcome-unknown",
        }
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Denied::Refused(refusal)
    }
}

impl From<RateLimited> for Denied {
    fn from(limited: RateLimited) -> Self {
        Denied::RateLimited(limited)
    }
}

impl Gate {
    /// A gate of these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { ledger, catalog, clock, progress, metrics, durability, buckets } = parts;
        let counter = |gate: &str, outcome: &str| {
            let labels = [("gate", gate.to_owned()), ("outcome", outcome.to_owned())];
            metrics.counter("floodgate_admission_total", &labels)
        };
        Self {
            breakers: Breakers::new(ledger.lanes(), &clock, &metrics),
            passed: counter("all", "passed"),
            refused_by_sale: counter("sale", "refused"),
            refused_by_backlog: counter("backlog", "refused"),
            ledger,
            catalog,
            clock,
            progress,
            metrics,
            durability,
            buckets,
        }
    }

    /// The instant by which sales are judged here.
    pub fn now(&self) -> Millis {
        self.catalog.instant(self.clock.now())
    }

    /// What is known of the sales.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What a 201 promises.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Takes units for a buyer, or says why not.
    ///
    /// Not cancel-safe in the sense that matters: once the command is with the ledger it is decided,
    /// whether or not this future lives.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn reserve(&self, sale: &str, purchase: Purchase) -> Result<Granted, Denied> {
        let card = self.catalog.sale(sale).ok_or(Refusal::UnknownSale)?;
        let granted = self.reserve_in(&card, purchase).await;
        let outcome = match &granted {
            Ok(granted) if granted.replayed => "replayed",
            Ok(_) => "reserved",
            Err(denied) => denied.code(),
        };
        card.tally.count(&self.metrics, sale, outcome);
        granted
    }

    async fn reserve_in(&self, card: &SaleCard, purchase: Purchase) -> Result<Granted, Denied> {
        let Purchase { user, client, key, lines } = purchase;
        let sale = &card.definition().id;
        let lane = LaneId::of_sale(sale.as_str(), self.ledger.lanes());
        let id = match &key {
            Some(key) if !planted::is("key-not-in-id") => {
                ReservationId::derived(lane, &user, sale, key)
            }
            Some(_) | None => ReservationId::random(lane),
        };
        let keyed = key.is_some().then_some(&id);
        let mut may_be_retry = self.look_at_sale(lane, card, keyed, &lines)?;
        let asking = Asking { user: Some(user.as_str()), client, sale: Some(sale.as_str()) };
        let Admitted { standing, waited } = self.buckets.admit_write(asking).await?;
        if waited {
            // Meanwhile the sale may have sold out or closed, and the first try may have gone through.
            may_be_retry = self.look_at_sale(lane, card, keyed, &lines)?;
        }
        if !may_be_retry && self.is_backlogged(lane) {
            self.refused_by_backlog.increment(1);
            return Err(Denied::Overloaded);
        }
        if key.is_some() && !may_be_retry && !planted::is("seen-not-noted") {
            card.seen.insert(&id);
        }
        self.passed.increment(1);
        crash::point("reserve: admitted");
        let reserve = Reserve { id, sale: sale.clone(), user, lines };
        let answer =
            self.ask(lane, Command::Reserve(reserve)).await.map_err(|denied| match denied {
                // Nothing was done now, but perhaps by the first try: this is no definite no.
                Denied::Overloaded | Denied::LedgerUnavailable | Denied::LedgerFenced
                    if may_be_retry =>
                {
                    Denied::OutcomeUnknown
                }
                denied => denied,
            })?;
        match answer.outcome {
            Outcome::Reserved { reservation, replayed } => {
                crash::point("reserve: decided");
                self.barrier(lane, answer.position).await?;
                crash::point("reserve: durable");
                Ok(Granted { reservation, replayed, standing })
            }
            outcome => Err(unexpected(outcome)),
        }
    }

    /// Refuses what the sale's card says is not to be had. Otherwise whether the request may be the retry
    /// of one that reached the ledger. `keyed` is the request's id, where it came with a key.
    fn look_at_sale(
        &self,
        lane: LaneId,
        card: &SaleCard,
        keyed: Option<&ReservationId>,
        lines: &[OrderedLine],
    ) -> Result<bool, Denied> {
        let by_sale = admission::check_sale(card, self.now(), lines)
            .filter(|refusal| self.counts(lane, refusal));
        // A retry of a request that may have been granted is for the ledger to answer, whatever the
        // sale has come to since. To be asked after the sale was looked at, not before: between the
        // two the first try may have gone through the ledger and taken the last unit. And after what is
        // known of other gateways' winners: one that is written down between the two would be taken for
        // known, and was not found.
        let known = self.ledger.known(lane);
        let may_be_retry = keyed.is_some_and(|id| card.seen.contains(id));
        if let Some(refusal) = by_sale
            && !may_be_retry
            && (keyed.is_none() || knows_winners(known, card, &refusal))
        {
            self.refused_by_sale.increment(1);
            return Err(refusal.into());
        }
        Ok(may_be_retry)
    }

    /// Where the circuit breaker of the worst lane is.
    pub fn breaker(&self) -> Condition {
        self.breakers.condition()
    }

    /// Whether the lane of a reservation is not asked at the moment.
    pub fn is_refusing(&self, id: ReservationId) -> bool {
        self.breakers.is_refusing(id.lane())
    }

    /// Whether what is known here of a sale's stock may be told: a lane that does not work, or may have
    /// forgotten, has said nothing that still holds.
    fn counts(&self, lane: LaneId, refusal: &Refusal) -> bool {
        !matches!(refusal, Refusal::SoldOut { .. }) || self.ledger.health(lane) == Health::Up
    }

    /// Whether the lane is too far behind the requests, or the books behind the lane, for more to be added.
    fn is_backlogged(&self, lane: LaneId) -> bool {
        self.ledger.wait(lane) > self.buckets.backlog()
            || admission::is_backlogged(*self.ledger.head(lane).borrow(), self.progress.of(lane))
    }

    /// A buyer's own reservation.
    ///
    /// # Errors
    /// [`Denied`]; somebody else's is unknown.
    pub async fn find(&self, user: UserId, id: ReservationId) -> Result<Reservation, Denied> {
        let command = Command::Find { id, owner: Some(user) };
        let answer = self.ask(id.lane(), command).await.map_err(|denied| match denied {
            // Who only looks has changed nothing, whatever became of it.
            Denied::OutcomeUnknown => Denied::LedgerUnavailable,
            denied => denied,
        })?;
        match answer.outcome {
            Outcome::Found(reservation)
                if planted::is("gateway-clock-expires")
                    && reservation.status == Status::Held
                    && reservation.expires_at <= self.clock.now() =>
            {
                Ok(Reservation { status: Status::Expired, ..reservation })
            }
            Outcome::Found(reservation) => Ok(reservation),
            outcome => Err(unexpected(outcome)),
        }
    }

    /// Gives a buyer's own units back.
    ///
    /// # Errors
    /// [`Denied`]; somebody else's reservation is unknown.
    pub async fn cancel(&self, user: UserId, id: ReservationId) -> Result<Reservation, Denied> {
        let command = Command::Cancel { id, by: Authority::Owner(user) };
        let answer = self.ask(id.lane(), command).await?;
        match answer.outcome {
            Outcome::Cancelled(reservation) => {
                self.barrier(id.lane(), answer.position).await?;
                Ok(reservation)
            }
            outcome => Err(unexpected(outcome)),
        }
    }

    /// Hands a command over and waits for its answer, within bounds; not at all where the lane has not
    /// answered for a while.
    async fn ask(&self, lane: LaneId, command: Command) -> Result<Answer, Denied> {
        let call = self.breakers.admit(lane)?;
        let answer = self.wait(lane, command).await;
        call.settle(breakers::verdict(&answer, self.ledger.health(lane)));
        answer
    }

    async fn wait(&self, lane: LaneId, command: Command) -> Result<Answer, Denied> {
        let pending = self.ledger.submit(lane, command).map_err(|fault| self.denied(fault))?;
        crash::point("reserve: submitted");
        match timeout(Duration::from_millis(limits::LEDGER_REPLY_MS), pending).await {
            Ok(Ok(answer)) => answer.map_err(|fault| self.denied(fault)),
            Err(_) if planted::is("timeout-told-as-no") => Err(Denied::Overloaded),
            // The lane ended with the command in its hands, or is slower than anyone waits.
            Ok(Err(_)) | Err(_) => Err(Denied::OutcomeUnknown),
        }
    }

    fn denied(&self, fault: Fault) -> Denied {
        match fault {
            Fault::Overloaded => Denied::Overloaded,
            Fault::Unavailable => Denied::LedgerUnavailable,
            Fault::Fenced => Denied::LedgerFenced,
            Fault::RateLimited { quota, wait } => self.buckets.limited_by_all(&quota, wait).into(),
            Fault::Unknown => Denied::OutcomeUnknown,
        }
    }

    /// Waits until what was decided is as durable as promised beyond what the ledger itself promises.
    async fn barrier(&self, lane: LaneId, position: Position) -> Result<(), Denied> {
        match self.durability {
            Durability::Memory | Durability::Fsync | Durability::Replicated => Ok(()),
            Durability::Stored if planted::is("stored-not-awaited") => Ok(()),
            Durability::Stored => self.stored(lane, position).await,
        }
    }

    async fn stored(&self, lane: LaneId, position: Position) -> Result<(), Denied> {
        let reached = self.progress.reached(lane, position);
        let limit = Duration::from_millis(limits::STORE_REPLY_MS);
        let there = timeout(limit, reached).await.map_err(|_| Denied::OutcomeUnknown)?;
        // The cursor passes what the books could not digest: that is not stored.
        if !there || self.progress.may_be_dead(lane, position) {
            return Err(Denied::OutcomeUnknown);
        }
        Ok(())
    }
}

/// Whether everybody was written down here who got a unit before there was this reason to refuse; by
/// whichever gateway.
fn knows_winners(known: Knowledge, card: &SaleCard, refusal: &Refusal) -> bool {
    let closed = match refusal {
        // By the clock alone, of which the lane makes no event.
        Refusal::SaleClosed => card.window().closes_at,
        _ => None,
    };
    planted::is("others-winners-ignored")
        || card.is_known(known) && closed.is_none_or(|at| at <= known.now)
}

/// The answer to another question than was asked is no answer. A refusal is one to any.
fn unexpected(outcome: Outcome) -> Denied {
    match outcome {
        Outcome::Refused(refusal) => Denied::Refused(refusal),
        Outcome::Reserved { .. }
        | Outcome::Confirmed { .. }
        | Outcome::Cancelled(_)
        | Outcome::Found(_)
        | Outcome::Sale { .. }
        | Outcome::Swept { .. } => {
            debug_assert!(false, "the ledger answered another question: {outcome:?}");
            Denied::OutcomeUnknown
        }
    }
}
