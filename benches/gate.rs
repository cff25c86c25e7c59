//! What the gate costs a request, without HTTP and without a ledger's I/O: the ledger here is the engine
//! behind a lock, which answers before it is waited for. What `engine` measures is within "granted".

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use floodgate::admission::{AdmissionSettings, Buckets, RateSetting};
use floodgate::catalog::Catalog;
use floodgate::clock::{Clock, Millis, SystemClock};
use floodgate::engine::{Actor, Command, OrderedLine, Position, State, apply};
use floodgate::gate::{Gate, Parts, Purchase};
use floodgate::ledger::{Answer, Durability, Fault, Health, Knowledge, LaneGauge, Ledger, Pending};
use floodgate::metrics::Metrics;
use floodgate::sale::{
    IdempotencyKey, ItemDefinition, ItemId, LaneId, SaleDefinition, SaleId, UserId,
};
use floodgate::writer::Progress;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

/// The engine of one lane, at once.
struct AtOnce {
    state: Mutex<State>,
    head: watch::Sender<Position>,
}

impl AtOnce {
    fn ask(&self, command: &Command) -> Answer {
        let mut state = self.state.lock().unwrap();
        let outcome = apply(&mut state, SystemClock.now(), command, &mut Vec::new());
        Answer { outcome, position: state.position() }
    }
}

impl Ledger for AtOnce {
    fn lanes(&self) -> u16 {
        1
    }

    fn submit(&self, _: LaneId, command: Command) -> Result<Pending, Fault> {
        let (answer, pending) = oneshot::channel();
        // The other end is in this very function.
        let _ = answer.send(Ok(self.ask(&command)));
        Ok(pending)
    }

    fn head(&self, _: LaneId) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    fn wait(&self, _: LaneId) -> Duration {
        Duration::ZERO
    }

    fn gauge(&self, _: LaneId) -> LaneGauge {
        LaneGauge { waiting: 0, wait: Duration::ZERO, abandoned: 0 }
    }

    fn health(&self, _: LaneId) -> Health {
        Health::Up
    }

    fn known(&self, _: LaneId) -> Knowledge {
        Knowledge::EVERYTHING
    }
}

/// A gate before a sale of so many units, which the catalog knows as it is now.
fn gate(stock: u64, admission: &AdmissionSettings) -> Gate {
    let metrics = Arc::new(Metrics::new());
    let (catalog, clock) = (Arc::new(Catalog::default()), Arc::new(SystemClock));
    let definition = Arc::new(SaleDefinition {
        id: SaleId::parse("bf").unwrap(),
        title: "Black Friday".into(),
        opens_at: Some(Millis(1)),
        closes_at: None,
        hold_seconds: 600,
        per_user_limit: Some(1),
        items: vec![ItemDefinition {
            id: ItemId::parse("sku-1").unwrap(),
            title: "Console".into(),
            price: 49_900,
            currency: "EUR".into(),
            stock: stock.max(1),
            per_user_limit: None,
        }],
    });
    let ledger = AtOnce { state: Mutex::new(State::new(1)), head: watch::Sender::default() };
    let actor = Actor::from("bench");
    ledger.ask(&Command::CreateSale { definition: definition.clone(), actor });
    let ledger = Arc::new(ledger);
    let gate = Gate::new(Parts {
        ledger: ledger.clone(),
        catalog: catalog.clone(),
        clock,
        progress: Progress::new(&[Position::default()]),
        buckets: Arc::new(Buckets::new(admission, &metrics)),
        metrics,
        durability: Durability::Fsync,
    });
    let publish = || {
        let state = ledger.state.lock().unwrap();
        let (_, sale) = state.sales().next().unwrap();
        catalog.publish(state.position(), sale.definition(), sale.window(), sale.counters());
    };
    publish();
    if stock == 0 {
        let runtime = runtime();
        assert!(runtime.block_on(gate.reserve("bf", purchase(0, true))).is_ok());
        publish();
    }
    gate
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn purchase(n: u64, keyed: bool) -> Purchase {
    let key = keyed.then(|| IdempotencyKey::parse(&format!("key-{n}")).unwrap());
    Purchase {
        user: UserId::parse(&format!("user-{n}")).unwrap(),
        client: None,
        key,
        lines: Box::new([OrderedLine { item: ItemId::parse("sku-1").unwrap(), quantity: 1 }]),
    }
}

fn reserve(criterion: &mut Criterion) {
    let ample = RateSetting { rate: 1_000_000.0, burst: 1_000_000 };
    let open = AdmissionSettings { per_user: ample, ..AdmissionSettings::unlimited() };
    let shut = AdmissionSettings {
        global: RateSetting { rate: 0.000_1, burst: 1 },
        ..AdmissionSettings::unlimited()
    };
    let runtime = runtime();
    let mut group = criterion.benchmark_group("gate");
    group.throughput(Throughput::Elements(1));
    let cases = [
        ("granted", gate(1_000_000_000, &open), true, false),
        ("granted, without a key", gate(1_000_000_000, &open), true, true),
        ("sold out", gate(0, &open), false, true),
        ("rate-limited", gate(1_000_000_000, &shut), false, true),
    ];
    for (name, gate, granted, unkeyed) in cases {
        let mut n = 1;
        // The one token that the empty bucket has.
        drop(runtime.block_on(gate.reserve("bf", purchase(0, true))));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    n += 1;
                    purchase(n, !unkeyed)
                },
                |purchase| {
                    let answer = runtime.block_on(gate.reserve("bf", purchase));
                    assert_eq!(answer.is_ok(), granted);
                    black_box(answer)
                },
                criterion::BatchSize::NumIterations(1_024),
            );
        });
    }
    group.finish();
}

criterion_group!(benches, reserve);
criterion_main!(benches);
