//! What it costs to write and read what is kept: records of the outbox by their size, a reservation's id,
//! a sale's definition.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use floodgate::clock::Millis;
use floodgate::engine::{Actor, Command, Event, OrderedLine, Reserve, State, apply};
use floodgate::outbox::Record;
use floodgate::sale::{
    IdempotencyKey, ItemId, LaneId, ReservationId, SaleDefinition, SaleId, UserId,
};

const NOW: Millis = Millis(1_795_225_445_067);

fn definition() -> serde_json::Value {
    serde_json::json!({
        "id": "bf", "title": "Black Friday", "opens_at": "2026-11-01T00:00:00Z",
        "hold_seconds": 600, "per_user_limit": 1,
        "items": [{
            "id": "sku-1", "title": "Console", "price": 49_900, "currency": "EUR",
            "stock": 1_000_000,
        }],
    })
}

fn id(n: usize) -> (ReservationId, UserId) {
    let user = UserId::parse(&format!("user-{n}")).unwrap();
    let key = IdempotencyKey::parse(&format!("key-{n}")).unwrap();
    (ReservationId::derived(LaneId(0), &user, &SaleId::parse("bf").unwrap(), &key), user)
}

/// The events of so many reservations, as a lane writes them.
fn events(count: usize) -> (State, Vec<Event>) {
    let mut state = State::new(1);
    let definition = Arc::new(SaleDefinition::from_json(&definition()).unwrap());
    let create = Command::CreateSale { definition, actor: Actor::from("bench") };
    apply(&mut state, NOW, &create, &mut Vec::new());
    let mut events = Vec::new();
    for n in 0..count {
        let (id, user) = id(n);
        let lines = Box::new([OrderedLine { item: ItemId::parse("sku-1").unwrap(), quantity: 1 }]);
        let reserve = Reserve { id, sale: SaleId::parse("bf").unwrap(), user, lines };
        apply(&mut state, NOW, &Command::Reserve(reserve), &mut events);
    }
    assert_eq!(events.len(), count);
    (state, events)
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codecs");
    for count in [1, 16, 128] {
        let (state, events) = events(count);
        let record = Record::of(state.position(), NOW, &events);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("record of {count}, write"), |bencher| {
            bencher.iter(|| Record::of(state.position(), NOW, black_box(&events)));
        });
        group.bench_function(format!("record of {count}, check and read"), |bencher| {
            bencher.iter(|| black_box(&record).decode().unwrap());
        });
    }
    group.throughput(Throughput::Elements(1));
    group
        .bench_function("reservation id from its key", |bencher| bencher.iter(|| id(black_box(7))));
    let definition = definition();
    group.bench_function("sale from JSON", |bencher| {
        bencher.iter(|| SaleDefinition::from_json(black_box(&definition)).unwrap());
    });
    group.finish();
}

criterion_group!(benches, records);
criterion_main!(benches);
