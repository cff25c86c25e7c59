//! An outbox that is in memory, whole, before anybody reads it.

use std::sync::Arc;

use floodgate::carts::CartCache;
use floodgate::clock::{Millis, SystemClock};
use floodgate::engine::{Event, Position};
use floodgate::metrics::Metrics;
use floodgate::outbox::{Outbox, Reading, Record};
use floodgate::sale::{
    ItemId, LaneId, Line, Reservation, ReservationId, SaleDefinition, SaleId, Status, UserId,
};
use floodgate::store::{Holder, Store};
use floodgate::writer::{Progress, Underway, Writer};
use tokio::sync::watch;

/// Events in a record: what a busy lane appends at once.
const RECORD: usize = 128;

/// The outbox of one lane.
pub struct Prepared {
    pub records: Vec<Record>,
    head: watch::Receiver<Position>,
    _sender: watch::Sender<Position>,
}

impl Prepared {
    /// A sale of so many units of `item`, and what happened then.
    pub fn of(stock: usize, events: Vec<Event>) -> Self {
        let definition = SaleDefinition::from_json(&serde_json::json!({
            "id": "sale", "title": "A sale", "hold_seconds": 600,
            "items": [{ "id": "item", "title": "An item", "price": 100, "currency": "EUR",
                        "stock": stock }],
        }));
        let created = Event::SaleCreated { definition: definition.unwrap(), actor: "a".into() };
        let mut seq = 1;
        let record = |seq, events: &[Event]| {
            Record::of(Position { epoch: 1, seq }, Millis(1_790_000_000_000), events)
        };
        let mut records = vec![record(seq, &[created])];
        for chunk in events.chunks(RECORD) {
            seq += chunk.len() as u64;
            records.push(record(seq, chunk));
        }
        let (sender, head) = watch::channel(Position { epoch: 1, seq });
        Self { records, head, _sender: sender }
    }
}

impl Outbox for Prepared {
    fn lanes(&self) -> u16 {
        1
    }

    fn head(&self, _lane: LaneId) -> watch::Receiver<Position> {
        self.head.clone()
    }

    fn read(
        &self,
        _lane: LaneId,
        after: Position,
        records_max: usize,
        events_max: usize,
    ) -> Reading<'_, Vec<Record>> {
        let first = self.records.partition_point(|record| record.last.seq <= after.seq);
        let mut events = 0;
        let page = self.records[first..].iter().take(records_max).take_while(|record| {
            let room = events < events_max;
            events += record.events as usize;
            room
        });
        let page: Vec<_> = page.cloned().collect();
        Box::pin(async { Ok(page) })
    }
}

/// One unit for the `n`th user; users come in no order.
pub fn reservation(n: usize) -> Reservation {
    let user = format!("user-{:08x}", (n as u32).wrapping_mul(2_654_435_761));
    Reservation {
        id: ReservationId::random(LaneId(0)),
        sale: SaleId::parse("sale").unwrap(),
        user: UserId::parse(&user).unwrap(),
        lines: Box::new([Line {
            item: ItemId::parse("item").unwrap(),
            quantity: 1,
            unit_price: 100,
        }]),
        currency: "EUR".into(),
        status: Status::Held,
        version: 1,
        held_at: Millis(1_790_000_000_000 + n as u64),
        expires_at: Millis(1_790_000_600_000 + n as u64),
        payment: None,
        late_payments: Vec::new(),
    }
}

/// A writer of its own name that drains such an outbox, and how far it is.
pub fn writer(store: Arc<dyn Store>, outbox: Arc<Prepared>) -> (Writer, Progress) {
    let metrics = Arc::new(Metrics::new());
    let progress = Progress::new(&[Position::default()]);
    let writer = Writer {
        outbox,
        store,
        clock: Arc::new(SystemClock),
        carts: Arc::new(CartCache::new(&metrics)),
        metrics,
        progress: progress.clone(),
        gathers: true,
        holder: Holder::random(),
        underway: Underway::new(1),
    };
    (writer, progress)
}
