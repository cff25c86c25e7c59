//! What this gateway knows of the sales: the page that buyers read, and the grounds for cheap refusals.
//!
//! The ledger publishes into it after every batch, so it is never ahead of what is durable; it may be
//! behind by the batch under way. It advises. Whoever wants a unit is decided by the ledger.
//!
//! What a lane publishes it releases, and readers acquire: whoever sees here that the last unit is gone
//! also sees everything that was written down ([`Seen`]) before the winner's command was handed over.

mod seen;
mod tally;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};

pub use seen::Seen;
pub use tally::Tally;

use crate::clock::Millis;
use crate::engine::Position;
use crate::ledger::Knowledge;
use crate::planted;
use crate::sale::{Counters, ItemId, SaleDefinition, SaleId, SaleState, Window};
use crate::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use crate::sync::{ArcSwap, Mutex};

/// All sales that this gateway knows.
#[derive(Debug, Default)]
pub struct Catalog {
    sales: ArcSwap<BTreeMap<SaleId, Arc<SaleCard>>>,
    /// Serialises those who add sales; readers never wait.
    adding: Mutex<()>,
    /// The latest instant of any lane: where the machine's clock has stepped back, sales have not.
    latest: AtomicU64,
}

impl Catalog {
    /// A sale by its id, which need not be well formed.
    pub fn sale(&self, id: &str) -> Option<Arc<SaleCard>> {
        self.sales.load().get(id).cloned()
    }

    /// All sales, in order of their ids.
    pub fn sales(&self) -> Arc<BTreeMap<SaleId, Arc<SaleCard>>> {
        self.sales.load_full()
    }

    /// The instant by which sales are judged here: `now`, unless a lane has seen a later one.
    pub fn instant(&self, now: Millis) -> Millis {
        now.max(Millis(self.latest.load(Relaxed)))
    }

    /// A lane's clock has got so far.
    pub fn reached(&self, now: Millis) {
        self.latest.fetch_max(now.0, Relaxed);
    }

    /// Whether any sale has such an item.
    pub fn has_item(&self, item: &ItemId) -> bool {
        self.sales.load().values().any(|card| card.item_index(item).is_some())
    }

    /// Takes over a sale as its lane has it now. For the lane's owner, after a batch is durable.
    pub fn publish(
        &self,
        at: Position,
        definition: &Arc<SaleDefinition>,
        window: &Window,
        counters: &[Counters],
    ) -> Arc<SaleCard> {
        let card = self.know(definition);
        card.update(at, window, counters);
        card
    }

    /// The card of a sale, made if there is none. What its lane says of it comes later.
    pub fn know(&self, definition: &Arc<SaleDefinition>) -> Arc<SaleCard> {
        self.sale(definition.id.as_str()).unwrap_or_else(|| self.add(definition))
    }

    fn add(&self, definition: &Arc<SaleDefinition>) -> Arc<SaleCard> {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(added_meanwhile) = self.sale(definition.id.as_str()) {
            return added_meanwhile;
        }
        let card = Arc::new(SaleCard::new(Arc::clone(definition)));
        let mut sales = self.sales.load().as_ref().clone();
        sales.insert(definition.id.clone(), Arc::clone(&card));
        self.sales.store(Arc::new(sales));
        card
    }
}

/// One sale, readable without a lock.
#[derive(Debug)]
pub struct SaleCard {
    definition: Arc<SaleDefinition>,
    index: HashMap<ItemId, usize>,
    /// Where its lane was when it said what stands here.
    at: Mutex<Position>,
    /// The number of the event up to which that is so; 0 where nothing has been said yet.
    seq: AtomicU64,
    window: WindowCell,
    items: Box<[ItemCard]>,
    /// Requests under a key that may have reached the ledger.
    pub seen: Seen,
    /// How reservations of this sale ended.
    pub tally: Tally,
}

/// How much of an item there is, as its lane last said.
#[derive(Debug, Default)]
pub struct ItemCard {
    stock: AtomicU64,
    available: AtomicU64,
    held: AtomicU64,
    confirmed: AtomicU64,
}

/// What buyers are told of an item's stock: never a number, which feeds bots more than people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// There is enough.
    Available,
    /// A tenth of the stock or less.
    Low,
    /// None, but some are held and may come back.
    Held,
    /// None.
    SoldOut,
}

impl Availability {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Availability::Available => "available",
            Availability::Low => "low",
            Availability::Held => "held",
            Availability::SoldOut => "sold_out",
        }
    }
}

impl SaleCard {
    fn new(definition: Arc<SaleDefinition>) -> Self {
        let items = &definition.items;
        let stock: u64 = items.iter().map(|item| item.stock).sum();
        Self {
            index: items.iter().enumerate().map(|(i, item)| (item.id.clone(), i)).collect(),
            at: Mutex::default(),
            seq: AtomicU64::new(0),
            window: WindowCell::default(),
            items: items.iter().map(|_| ItemCard::default()).collect(),
            seen: Seen::for_stock(stock),
            tally: Tally::default(),
            definition,
        }
    }

    /// Takes over what its lane said of it at a position. An older word does not count any more.
    pub fn update(&self, at: Position, window: &Window, counters: &[Counters]) {
        let mut known = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        if at < *known {
            return;
        }
        *known = at;
        // First: whoever reads what comes next also reads how new it is.
        self.seq.store(at.seq, Release);
        self.window.set(window);
        for (item, counters) in self.items.iter().zip(counters) {
            item.stock.store(counters.stock, Release);
            item.held.store(counters.held, Release);
            item.confirmed.store(counters.confirmed, Release);
            if planted::is("latch-never-reopens") && known.seq > 4 && item.available() == 0 {
                continue;
            }
            item.available.store(counters.available, Release);
        }
    }

    /// Whether every id that had been granted when the lane said what stands here is in [`Self::seen`]. To be
    /// asked after what stands here was read.
    pub fn is_known(&self, known: Knowledge) -> bool {
        self.seq.load(Acquire) <= known.seq
    }

    /// As it was created.
    pub fn definition(&self) -> &Arc<SaleDefinition> {
        &self.definition
    }

    /// As it is now.
    pub fn window(&self) -> Window {
        self.window.get()
    }

    /// The state at `now`, by this gateway's clock.
    pub fn state(&self, now: Millis) -> SaleState {
        self.window().state(now)
    }

    /// An item's place in the definition.
    pub fn item_index(&self, item: &ItemId) -> Option<usize> {
        self.index.get(item).copied()
    }

    /// An item by its place in the definition.
    pub fn item(&self, index: usize) -> Option<&ItemCard> {
        self.items.get(index)
    }

    /// All items in the order of the definition.
    pub fn items(&self) -> &[ItemCard] {
        &self.items
    }
}

impl ItemCard {
    /// Units for sale.
    pub fn available(&self) -> u64 {
        self.available.load(Acquire)
    }

    /// Units that wait for a payment.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Units that are paid.
    pub fn confirmed(&self) -> u64 {
        self.confirmed.load(Relaxed)
    }

    /// The word for buyers.
    pub fn availability(&self) -> Availability {
        const LOW_DIVISOR: u64 = 10;
        let available = self.available();
        if available == 0 {
            return if self.held() > 0 { Availability::Held } else { Availability::SoldOut };
        }
        let low = available <= self.stock.load(Relaxed) / LOW_DIVISOR;
        if low { Availability::Low } else { Availability::Available }
    }
}

/// A [`Window`] in atomics. The parts may be read from two updates; it only advises.
#[derive(Debug)]
struct WindowCell {
    opens_at: AtomicU64,
    closes_at: AtomicU64,
    paused: AtomicBool,
}

impl Default for WindowCell {
    fn default() -> Self {
        Self {
            opens_at: AtomicU64::new(NEVER),
            closes_at: AtomicU64::new(NEVER),
            paused: AtomicBool::new(false),
        }
    }
}

/// Stands for `None`.
const NEVER: u64 = u64::MAX;

impl WindowCell {
    fn set(&self, window: &Window) {
        self.opens_at.store(window.opens_at.map_or(NEVER, |at| at.0), Release);
        self.closes_at.store(window.closes_at.map_or(NEVER, |at| at.0), Release);
        self.paused.store(window.paused, Release);
    }

    fn get(&self) -> Window {
        let instant = |cell: &AtomicU64| Some(cell.load(Acquire)).filter(|at| *at != NEVER);
        Window {
            opens_at: instant(&self.opens_at).map(Millis),
            closes_at: instant(&self.closes_at).map(Millis),
            paused: self.paused.load(Acquire),
        }
    }
}
