//! What one decision costs, without I/O: the ceiling of everything that stands on the engine.
//!
//! Each benchmark times `apply` alone: commands are made, and answers dropped, outside of the clock.
//! The states grow while they are measured (nothing is ever forgotten), so "at n" means "from n on".

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use floodgate::clock::Millis;
use floodgate::engine::{Actor, Command, Event, OrderedLine, Reserve, State, apply};
use floodgate::limits;
use floodgate::sale::{
    IdempotencyKey, ItemDefinition, ItemId, LaneId, Outcome, PaymentRef, ReservationId,
    SaleDefinition, SaleId, UserId,
};

/// Every command is asked at this time, but for those that come too late.
const NOW: Millis = Millis(1_000_000);
/// Reservations that a busy lane has.
const MANY: usize = 1_000_000;
/// Events of the rebuild.
const REBUILT_EVENTS: usize = 100_000;

/// A lane with one sale of one item, and its users' commands.
struct Lane {
    state: State,
    events: Vec<Event>,
    sale: SaleId,
    item: ItemId,
    asked: usize,
}

impl Lane {
    fn new(stock: u64) -> Self {
        let (sale, item) = (parsed("bf", SaleId::parse), parsed("sku-1", ItemId::parse));
        let definition = SaleDefinition {
            id: sale.clone(),
            title: "Black Friday".into(),
            opens_at: Some(NOW),
            closes_at: None,
            hold_seconds: 120,
            per_user_limit: Some(2),
            items: vec![ItemDefinition {
                id: item.clone(),
                title: "Console".into(),
                price: 49_900,
                currency: "EUR".into(),
                stock,
                per_user_limit: None,
            }],
        };
        let state = State::new(1);
        let mut lane = Self { state, events: Vec::new(), sale, item, asked: 0 };
        let actor = Actor::from("bench");
        lane.ask(&Command::CreateSale { definition: Arc::new(definition), actor });
        lane
    }

    /// With so many reservations, each by another user.
    fn with(stock: u64, reservations: usize) -> Self {
        let mut lane = Self::new(stock);
        for _ in 0..reservations {
            let command = Command::Reserve(lane.next());
            lane.ask(&command);
        }
        lane
    }

    fn ask(&mut self, command: &Command) -> Outcome {
        self.events.clear();
        apply(&mut self.state, NOW, command, &mut self.events)
    }

    /// What the `n`th user asks for.
    fn nth(&self, n: usize) -> Reserve {
        let user = parsed(&format!("user-{n}"), UserId::parse);
        let key = parsed(&format!("key-{n}"), IdempotencyKey::parse);
        let id = ReservationId::derived(LaneId(0), &user, &self.sale, &key);
        let lines = Box::new([OrderedLine { item: self.item.clone(), quantity: 1 }]);
        Reserve { id, sale: self.sale.clone(), user, lines }
    }

    fn next(&mut self) -> Reserve {
        self.asked += 1;
        self.nth(self.asked)
    }
}

fn parsed<T, E: std::fmt::Debug>(text: &str, parse: fn(&str) -> Result<T, E>) -> T {
    match parse(text) {
        Ok(id) => id,
        Err(invalid) => panic!("{text}: {invalid:?}"),
    }
}

/// Times one command after the other on `lane`.
fn one_by_one(
    criterion: &mut Criterion,
    name: &str,
    lane: Lane,
    mut next: impl FnMut(&mut Lane) -> Command,
) {
    // The setup makes the next command, the routine asks it: both need the lane, never at once.
    let lane = std::cell::RefCell::new(lane);
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(1));
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            || next(&mut lane.borrow_mut()),
            |command| {
                let outcome = lane.borrow_mut().ask(&command);
                (outcome, command)
            },
            BatchSize::NumIterations(1_024),
        );
    });
    group.finish();
}

fn reserve(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    group.bench_function("reserve, first of a fresh lane", |bencher| {
        let setup = || {
            let mut lane = Lane::new(limits::STOCK_MAX);
            let command = Command::Reserve(lane.next());
            (lane, command)
        };
        let routine = |(mut lane, command): (Lane, Command)| (lane.ask(&command), lane);
        bencher.iter_batched(setup, routine, BatchSize::SmallInput);
    });
    group.finish();
    for (name, there) in [("reserve, from 0 on", 0), ("reserve, from 1M on", MANY)] {
        let lane = Lane::with(limits::STOCK_MAX, there);
        one_by_one(criterion, name, lane, |lane| Command::Reserve(lane.next()));
    }
}

fn refuse(criterion: &mut Criterion) {
    let lane = Lane::with(1_000, 1_000);
    one_by_one(criterion, "reserve, sold out", lane, |lane| Command::Reserve(lane.next()));
}

fn replay(criterion: &mut Criterion) {
    let lane = Lane::with(limits::STOCK_MAX, MANY);
    let mut n = 0;
    one_by_one(criterion, "reserve, replayed among 1M", lane, move |lane| {
        // Strides that share no factor with the count: every reservation, in no order.
        n = (n + 611_953) % MANY;
        Command::Reserve(lane.nth(n + 1))
    });
}

fn confirm(criterion: &mut Criterion) {
    let lane = Lane::new(limits::STOCK_MAX);
    one_by_one(criterion, "confirm", lane, |lane| {
        let asked = lane.next();
        let id = asked.id;
        lane.ask(&Command::Reserve(asked));
        let payment = parsed(&format!("payment-{}", lane.asked), PaymentRef::parse);
        Command::Confirm { id, payment }
    });
}

/// A journal in which of ten reservations six were paid and the rest ran out.
fn journal() -> Vec<Event> {
    let mut lane = Lane::new(limits::STOCK_MAX);
    let mut journal = lane.events.clone();
    while journal.len() < REBUILT_EVENTS / 2 {
        let command = Command::Reserve(lane.next());
        lane.ask(&command);
        journal.append(&mut lane.events);
    }
    for n in (1..=lane.asked).filter(|n| n % 10 < 6) {
        let payment = parsed(&format!("payment-{n}"), PaymentRef::parse);
        lane.ask(&Command::Confirm { id: lane.nth(n).id, payment });
        journal.append(&mut lane.events);
    }
    let late = NOW.after(Duration::from_secs(120));
    while let Outcome::Swept { expired: 1.., .. } =
        apply(&mut lane.state, late, &Command::Sweep, &mut journal)
    {}
    journal
}

fn rebuild(criterion: &mut Criterion) {
    let journal = journal();
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(journal.len() as u64));
    group.bench_function("rebuild of 100k events", |bencher| {
        bencher.iter_with_large_drop(|| {
            let mut state = State::new(1);
            state.advance(NOW);
            for event in black_box(&journal) {
                assert!(state.evolve(event).is_ok(), "what happened can happen again");
            }
            state
        });
    });
    group.finish();
}

criterion_group! {
    name = engine;
    // Short, for the states grow by every reservation that is measured.
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = reserve, refuse, replay, confirm, rebuild
}
criterion_main!(engine);
