//! What every ledger has to do, as tests that are run over each of them.
//!
//! What is decided is the engine's business, and proven there. Here it is what a ledger adds: that
//! commands of many callers are decided once each, that answers are durable, that time passes.

#![expect(clippy::wildcard_enum_match_arm, reason = "any other outcome fails the test")]

use std::sync::Arc;

use super::{Answer, Ledger};
use crate::engine::{Authority, Command, OrderedLine, Reserve};
use crate::sale::{
    Counters, IdempotencyKey, ItemId, LaneId, Move, Outcome, PaymentRef, Refusal, ReservationId,
    SaleDefinition, SaleId, Status, UserId,
};

/// A ledger whose time the test makes pass, and which can be closed and opened again.
pub(crate) trait Rig {
    /// The ledger.
    fn ledger(&self) -> Arc<dyn Ledger>;
    /// Lets time pass.
    fn pass(&self, ms: u64);
    /// Closes the ledger and opens it again on what is durable.
    fn reopen(self) -> Self;
}

const HOLD_MS: u64 = 60_000;
/// How long to wait for what has to happen.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

pub(super) fn sale() -> SaleId {
    SaleId::parse("sale").unwrap()
}

async fn ask(rig: &impl Rig, command: Command) -> Outcome {
    let lane = LaneId::of_sale("sale", rig.ledger().lanes());
    rig.ledger().submit(lane, command).unwrap().await.unwrap().unwrap().outcome
}

/// A sale of one item, of which each user may have one.
pub(super) fn definition(stock: u64, hold_seconds: u64) -> Arc<SaleDefinition> {
    let definition = SaleDefinition::from_json(&serde_json::json!({
        "id": "sale", "title": "A sale", "hold_seconds": hold_seconds, "per_user_limit": 1,
        "items": [{ "id": "item", "title": "An item", "price": 1, "currency": "EUR",
                    "stock": stock }],
    }));
    Arc::new(definition.unwrap())
}

async fn open_sale(rig: &impl Rig, stock: u64) {
    let definition = definition(stock, HOLD_MS / 1_000);
    ask(rig, Command::CreateSale { definition, actor: "admin".into() }).await;
    let command = Command::MoveSale { sale: sale(), step: Move::Open, actor: "admin".into() };
    ask(rig, command).await;
}

pub(super) fn user(number: u64) -> UserId {
    UserId::parse(&format!("user-{number}")).unwrap()
}

fn reserve(rig: &impl Rig, user: u32, key: u32) -> (ReservationId, Command) {
    reserve_at(rig.ledger().as_ref(), user.into(), key)
}

/// A unit for a user, under a key.
pub(super) fn reserve_at(ledger: &dyn Ledger, number: u64, key: u32) -> (ReservationId, Command) {
    let user = user(number);
    let key = IdempotencyKey::parse(&format!("key-{key}")).unwrap();
    let lane = LaneId::of_sale("sale", ledger.lanes());
    let id = ReservationId::derived(lane, &user, &sale(), &key);
    let item = ItemId::parse("item").unwrap();
    let lines = [OrderedLine { item, quantity: 1 }].into();
    (id, Command::Reserve(Reserve { id, sale: sale(), user, lines }))
}

async fn counters(rig: &impl Rig) -> Counters {
    match ask(rig, Command::Inspect { sale: sale() }).await {
        Outcome::Sale { report, .. } => report.items[0].counters,
        other => panic!("{other:?}"),
    }
}

/// Many callers at once get as many units as there are, each at most one, and the sum is right.
pub(crate) async fn a_crowd_gets_what_there_is(rig: impl Rig) {
    const STOCK: u64 = 50;
    open_sale(&rig, STOCK).await;
    let lane = LaneId::of_sale("sale", rig.ledger().lanes());
    // Everybody twice under one key, and once under another.
    let asked = (0..200).flat_map(|user| [(user, 1), (user, 1), (user, 2)]);
    let pending: Vec<_> = asked
        .map(|(user, key)| (key, rig.ledger().submit(lane, reserve(&rig, user, key).1).unwrap()))
        .collect();
    let (mut taken, mut taken_twice_asked, mut replayed) = (0, 0, 0);
    for (key, pending) in pending {
        match pending.await.unwrap().unwrap().outcome {
            Outcome::Reserved { replayed: false, .. } => {
                taken += 1;
                taken_twice_asked += u64::from(key == 1);
            }
            Outcome::Reserved { replayed: true, .. } => replayed += 1,
            Outcome::Refused(Refusal::SoldOut { .. } | Refusal::LimitReached { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((taken, replayed), (STOCK, taken_twice_asked));
    let Counters { available, held, .. } = counters(&rig).await;
    assert_eq!((available, held), (0, STOCK));
}

/// What was answered is still so after the ledger was closed and opened; and so is what was refused.
pub(crate) async fn answers_are_durable(rig: impl Rig) {
    open_sale(&rig, 3).await;
    for user in 0..3 {
        let (_, command) = reserve(&rig, user, 1);
        let outcome = ask(&rig, command).await;
        assert!(matches!(outcome, Outcome::Reserved { replayed: false, .. }));
    }
    let payment = PaymentRef::parse("paid").unwrap();
    let confirmed = reserve(&rig, 0, 1).0;
    ask(&rig, Command::Confirm { id: confirmed, payment }).await;
    let cancelled = reserve(&rig, 1, 1).0;
    let owner = Authority::Owner(UserId::parse("user-1").unwrap());
    ask(&rig, Command::Cancel { id: cancelled, by: owner }).await;
    let before = counters(&rig).await;
    let head = *rig.ledger().head(LaneId::of_sale("sale", rig.ledger().lanes())).borrow();

    let rig = rig.reopen();
    assert_eq!(counters(&rig).await, before);
    // Over Redis in another life: the server is another.
    let at = *rig.ledger().head(LaneId::of_sale("sale", rig.ledger().lanes())).borrow();
    assert!(at.seq == head.seq && at >= head, "{at:?} after {head:?}");
    let again = ask(&rig, reserve(&rig, 0, 1).1).await;
    assert!(matches!(again, Outcome::Reserved { replayed: true, .. }), "{again:?}");
    let limit = ask(&rig, reserve(&rig, 2, 2).1).await;
    assert!(matches!(limit, Outcome::Refused(Refusal::LimitReached { .. })), "{limit:?}");
}

/// A command that was handed over is decided, though nobody waits for its answer.
pub(crate) async fn nobody_has_to_wait(rig: impl Rig) {
    open_sale(&rig, 1).await;
    let lane = LaneId::of_sale("sale", rig.ledger().lanes());
    let (id, command) = reserve(&rig, 0, 1);
    rig.ledger().submit(lane, command).unwrap().await.unwrap().unwrap();
    let payment = PaymentRef::parse("paid").unwrap();
    drop(rig.ledger().submit(lane, Command::Confirm { id, payment }).unwrap());
    let decided = async {
        loop {
            match ask(&rig, Command::Find { id, owner: None }).await {
                Outcome::Found(found) if found.status == Status::Confirmed => break,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, decided).await.expect("it is decided");
}

/// A hold that runs out is returned by itself, once, and its unit sells again.
pub(crate) async fn holds_run_out(rig: impl Rig) {
    open_sale(&rig, 1).await;
    ask(&rig, reserve(&rig, 0, 1).1).await;
    rig.pass(HOLD_MS - 1);
    let early = ask(&rig, reserve(&rig, 1, 1).1).await;
    assert!(matches!(early, Outcome::Refused(Refusal::SoldOut { held: true })), "{early:?}");
    rig.pass(1);
    let late = ask(&rig, reserve(&rig, 1, 1).1).await;
    assert!(matches!(late, Outcome::Reserved { replayed: false, .. }), "{late:?}");
    let Counters { available, held, expired_total, .. } = counters(&rig).await;
    assert_eq!((available, held, expired_total), (0, 1, 1));
    // What ran out while the ledger was closed is returned when it is open again.
    rig.pass(HOLD_MS);
    let rig = rig.reopen();
    assert_eq!(counters(&rig).await.available, 1);
}

/// An answer's position is that of the outbox record that carries it: whoever waits for the books to
/// reach it does not wait in vain.
pub(crate) async fn positions_are_of_the_outbox(rig: impl Rig) {
    open_sale(&rig, 10).await;
    let lane = LaneId::of_sale("sale", rig.ledger().lanes());
    let mut last = *rig.ledger().head(lane).borrow();
    for user in 0..10 {
        let (_, command) = reserve(&rig, user, 1);
        let pending = rig.ledger().submit(lane, command).unwrap();
        let Answer { position, .. } = pending.await.unwrap().unwrap();
        assert_eq!((position.epoch, position.seq), (last.epoch, last.seq + 1));
        assert!(*rig.ledger().head(lane).borrow() >= position, "told before it is in the outbox");
        last = position;
    }
}

/// Runs every test of the suite over ledgers that `open` makes.
macro_rules! ledger_contract {
    ($open:path) => {
        $crate::ledger::contract::ledger_contract!(
            $open: a_crowd_gets_what_there_is, answers_are_durable, nobody_has_to_wait,
            holds_run_out, positions_are_of_the_outbox
        );
    };
    ($open:path: $($test:ident),*) => {
        $(#[tokio::test]
        async fn $test() {
            $crate::ledger::contract::$test($open()).await;
        })*
    };
}
pub(crate) use ledger_contract;
