//! What a batch does to the books: the one set of rules, whatever the books are kept in.
//!
//! A store looks up what the batch names, has the events folded over it, and writes what came of it:
//! one row per order however often the batch moved it, one per item however often it was sold. All
//! within the transaction that moves the cursor. An event that contradicts the books is put aside here,
//! alone; the constraints of the database stand behind these rules as a second line.

mod entries;
mod fold;
mod rows;

use std::collections::BTreeMap;

pub use self::entries::{DeadLetter, Numbered, number, open};
pub use self::rows::{LogEntry, MovedOrder, NewOrder, Refund, Units};
use crate::clock::Millis;
use crate::engine::Event;
use crate::orders::OrderStatus;
use crate::sale::{
    ItemId, Line, PaymentRef, Reservation, ReservationId, SaleDefinition, SaleId, UserId,
};

/// Whose order, and which.
pub type OrderKey<'b> = (&'b UserId, ReservationId);
/// Which item of which sale.
pub type ItemKey<'b> = (&'b SaleId, &'b ItemId);

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The reservation's version.
    pub version: u32,
    /// Its status.
    pub status: OrderStatus,
}

impl Standing {
    /// Whether its units are allocated and its lines in the cart.
    fn stands(self) -> bool {
        matches!(self.status, OrderStatus::PendingPayment | OrderStatus::Paid)
    }
}

/// An order that the batch names.
#[derive(Debug, Default)]
struct OrderSlot<'b> {
    before: Option<Standing>,
    now: Option<Standing>,
    /// Since when it stands as it does.
    at: Millis,
    /// Set where the batch made it.
    held: Option<&'b Reservation>,
    lines: &'b [Line],
    payment: Option<&'b PaymentRef>,
}

/// An item that the batch names.
#[derive(Debug, Default)]
struct ItemSlot {
    known: bool,
    stock: i64,
    allocated: i64,
    stock_delta: i64,
    allocated_delta: i64,
}

/// A sale that the batch creates.
#[derive(Debug)]
struct SaleSlot<'b> {
    known: bool,
    created: Option<(&'b SaleDefinition, Millis)>,
}

/// What the batch names, and what becomes of it.
#[derive(Debug, Default)]
pub struct Digest<'b> {
    orders: BTreeMap<OrderKey<'b>, OrderSlot<'b>>,
    items: BTreeMap<ItemKey<'b>, ItemSlot>,
    sales: BTreeMap<&'b SaleId, SaleSlot<'b>>,
    /// Restocks by their numbers, and whether the books have them: unlike orders, items have no version.
    restocks: BTreeMap<u64, bool>,
    /// Payments that somebody has to give back.
    pub refunds: Vec<Refund<'b>>,
    /// What operators did.
    pub log: Vec<LogEntry<'b>>,
    /// What contradicts the books.
    pub dead: Vec<DeadLetter>,
}

impl<'b> Digest<'b> {
    /// What these events name; nothing is known of it yet.
    pub fn of(events: &[Numbered<'b>]) -> Self {
        let mut named = Self::default();
        for numbered in events {
            match numbered.event {
                Event::Held(held) => named.name(&held.sale, &held.user, held.id, &held.lines),
                Event::Confirmed { id, user, .. } => {
                    named.orders.entry((user, *id)).or_default();
                }
                Event::Cancelled { returned: of, .. }
                | Event::Expired(of)
                | Event::Rebooked { taken: of, .. } => {
                    named.name(&of.sale, &of.user, of.id, &of.lines);
                }
                Event::Restocked { sale, item, .. } => {
                    named.items.entry((sale, item)).or_default();
                    named.restocks.insert(numbered.position.seq, false);
                }
                Event::SaleCreated { definition, .. } => {
                    let unknown = SaleSlot { known: false, created: None };
                    named.sales.entry(&definition.id).or_insert(unknown);
                    for item in &definition.items {
                        named.items.entry((&definition.id, &item.id)).or_default();
                    }
                }
                Event::SaleMoved { .. } | Event::RefundNeeded { .. } => {}
            }
        }
        named
    }

    fn name(&mut self, sale: &'b SaleId, user: &'b UserId, id: ReservationId, lines: &'b [Line]) {
        self.orders.entry((user, id)).or_default();
        for line in lines {
            self.items.entry((sale, &line.item)).or_default();
        }
    }

    /// The orders to look up.
    pub fn orders(&self) -> impl Iterator<Item = OrderKey<'b>> + '_ {
        self.orders.keys().copied()
    }

    /// The items to look up.
    pub fn items(&self) -> impl Iterator<Item = ItemKey<'b>> + '_ {
        self.items.keys().copied()
    }

    /// The sales to look up.
    pub fn sales(&self) -> impl Iterator<Item = &'b SaleId> + '_ {
        self.sales.keys().copied()
    }

    /// The numbers of restocks to look up in the audit log.
    pub fn restocks(&self) -> impl Iterator<Item = u64> + '_ {
        self.restocks.keys().copied()
    }

    /// The books have this restock.
    pub fn knows_restock(&mut self, seq: u64) {
        self.restocks.insert(seq, true);
    }

    /// The books have this order.
    pub fn knows_order(&mut self, key: OrderKey<'b>, standing: Standing) {
        if let Some(slot) = self.orders.get_mut(&key) {
            slot.before = Some(standing);
            slot.now = Some(standing);
        }
    }

    /// The books have this item.
    pub fn knows_item(&mut self, key: ItemKey<'b>, stock: i64, allocated: i64) {
        let slot = ItemSlot { known: true, stock, allocated, ..ItemSlot::default() };
        self.items.insert(key, slot);
    }

    /// The books have this sale.
    pub fn knows_sale(&mut self, sale: &'b SaleId) {
        self.sales.insert(sale, SaleSlot { known: true, created: None });
    }

    /// Folds the events over what is known. An event that contradicts it has no effect but a dead letter.
    pub fn fold(&mut self, events: &[Numbered<'b>]) {
        for numbered in events {
            if let Err(reason) = self.take(numbered) {
                self.dead.push(numbered.dead(reason));
            }
        }
    }
}
