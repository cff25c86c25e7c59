//! What the gate adds to a ledger's answers: whom it refuses without asking, and whom it must not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{oneshot, watch};

use super::*;
use crate::admission::AdmissionSettings;
use crate::clock::SystemClock;
use crate::engine::{Actor, State, apply};
use crate::ledger::{LaneGauge, Pending};
use crate::sale::{ItemId, Move, SaleDefinition, SaleId};

/// The engine of one lane, which answers at once or not at all; other gateways may be at it, too.
struct Desk {
    state: Mutex<State>,
    head: watch::Sender<Position>,
    knows_all: AtomicBool,
    is_silent: AtomicBool,
    /// Answers that nobody gives.
    kept: Mutex<Vec<oneshot::Sender<Result<Answer, Fault>>>>,
}

impl Desk {
    fn decide(&self, command: &Command) -> Answer {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = apply(&mut state, SystemClock.now(), command, &mut Vec::new());
        Answer { outcome, position: state.position() }
    }
}

impl Ledger for Desk {
    fn lanes(&self) -> u16 {
        1
    }

    fn submit(&self, _: LaneId, command: Command) -> Result<Pending, Fault> {
        let (answer, pending) = oneshot::channel();
        let decided = self.decide(&command);
        if self.is_silent.load(Ordering::SeqCst) {
            self.kept.lock().unwrap().push(answer);
        } else {
            drop(answer.send(Ok(decided)));
        }
        Ok(pending)
    }

    fn head(&self, _: LaneId) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    fn wait(&self, _: LaneId) -> Duration {
        Duration::ZERO
    }

    fn gauge(&self, _: LaneId) -> LaneGauge {
        LaneGauge::default()
    }

    fn health(&self, _: LaneId) -> Health {
        Health::Up
    }

    fn known(&self, _: LaneId) -> Knowledge {
        if self.knows_all.load(Ordering::SeqCst) {
            Knowledge::EVERYTHING
        } else {
            Knowledge::default()
        }
    }
}

/// A gate before a sale of one unit.
struct Rig {
    gate: Gate,
    desk: Arc<Desk>,
}

impl Rig {
    fn new() -> Self {
        Self::by(Arc::new(SystemClock))
    }

    /// Of a gateway with this clock; the ledger has the machine's.
    fn by(clock: Arc<dyn Clock>) -> Self {
        let metrics = Arc::new(Metrics::new());
        let desk = Arc::new(Desk {
            state: Mutex::new(State::new(1)),
            head: watch::Sender::default(),
            knows_all: AtomicBool::new(true),
            is_silent: AtomicBool::new(false),
            kept: Mutex::default(),
        });
        let definition = SaleDefinition::from_json(&serde_json::json!({
            "id": "sale", "title": "A sale", "hold_seconds": 60,
            "items": [{ "id": "item", "title": "An item", "price": 1, "currency": "EUR",
                        "stock": 1 }],
        }));
        let (definition, actor) = (Arc::new(definition.unwrap()), Actor::from("op"));
        desk.decide(&Command::CreateSale { definition, actor: actor.clone() });
        let sale = SaleId::parse("sale").unwrap();
        desk.decide(&Command::MoveSale { sale, step: Move::Open, actor });
        let gate = Gate::new(Parts {
            ledger: Arc::clone(&desk) as Arc<dyn Ledger>,
            catalog: Arc::default(),
            clock,
            progress: Progress::new(&[Position::default()]),
            buckets: Arc::new(Buckets::new(&AdmissionSettings::unlimited(), &metrics)),
            metrics,
            durability: Durability::Fsync,
        });
        let rig = Self { gate, desk };
        rig.publish();
        rig
    }

    /// The gate hears how the sale stands.
    fn publish(&self) {
        let state = self.desk.state.lock().unwrap();
        let (_, sale) = state.sales().next().unwrap();
        let (definition, window) = (sale.definition(), sale.window());
        self.gate.catalog().publish(state.position(), definition, window, sale.counters());
    }

    async fn reserve(&self, user: &str) -> Result<Granted, Denied> {
        self.gate.reserve("sale", purchase(user)).await
    }
}

fn purchase(user: &str) -> Purchase {
    Purchase {
        user: UserId::parse(user).unwrap(),
        client: None,
        key: Some(IdempotencyKey::parse("key").unwrap()),
        lines: Box::new([OrderedLine { item: ItemId::parse("item").unwrap(), quantity: 1 }]),
    }
}

fn is_sold_out(answer: &Result<Granted, Denied>) -> bool {
    matches!(answer, Err(Denied::Refused(Refusal::SoldOut { .. })))
}

/// Proves that a winner who asks again gets the same answer, sold out or not, and strangers are refused.
#[tokio::test]
async fn a_winner_is_not_told_sold_out() {
    let rig = Rig::new();
    let won = rig.reserve("ann").await.unwrap();
    rig.publish();
    assert!(is_sold_out(&rig.reserve("bob").await));
    let again = rig.reserve("ann").await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.reservation.id, won.reservation.id);
}

/// Proves that somebody whom another gateway may have granted a unit is not refused without asking.
#[tokio::test]
async fn others_winners_are_asked_for() {
    let rig = Rig::new();
    let Purchase { user, key, lines, .. } = purchase("ann");
    let sale = SaleId::parse("sale").unwrap();
    let id = ReservationId::derived(LaneId(0), &user, &sale, &key.unwrap());
    rig.desk.decide(&Command::Reserve(Reserve { id, sale, user, lines }));
    rig.publish();
    rig.desk.knows_all.store(false, Ordering::SeqCst);
    assert!(rig.reserve("ann").await.unwrap().replayed);
    assert!(is_sold_out(&rig.reserve("bob").await), "the ledger says so");
}

/// Proves that who has waited too long is told that nobody knows: it may have been done, and here it was.
#[tokio::test(start_paused = true)]
async fn silence_is_unknown() {
    let rig = Rig::new();
    rig.desk.is_silent.store(true, Ordering::SeqCst);
    assert!(matches!(rig.reserve("ann").await, Err(Denied::OutcomeUnknown)));
    rig.desk.is_silent.store(false, Ordering::SeqCst);
    assert!(rig.reserve("ann").await.unwrap().replayed);
}

/// Proves that who only asked what they have is not told that it may have changed something.
#[tokio::test(start_paused = true)]
async fn a_question_changes_nothing() {
    let rig = Rig::new();
    let won = rig.reserve("ann").await.unwrap().reservation;
    rig.desk.is_silent.store(true, Ordering::SeqCst);
    assert!(matches!(rig.gate.find(won.user, won.id).await, Err(Denied::LedgerUnavailable)));
}

/// A machine that is a day ahead.
struct Ahead;

impl Clock for Ahead {
    fn now(&self) -> Millis {
        Millis(SystemClock.now().0 + 86_400_000)
    }
}

/// Proves that a hold ends by the ledger's clock, whatever the gateway's says.
#[tokio::test]
async fn a_hold_ends_by_the_ledgers_clock() {
    let rig = Rig::by(Arc::new(Ahead));
    let won = rig.reserve("ann").await.unwrap().reservation;
    let found = rig.gate.find(won.user, won.id).await.unwrap();
    assert_eq!(found.status, Status::Held);
}
