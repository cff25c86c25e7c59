//! What a batch does to the books: the one set of rules, whatever the books are kept in.
//!
//! A store looks up what the batch names, has the events folded over it, and writes what came of it:
//! one row per order however often the batch moved it, one per item however often it was sold. All
//! within the transaction that moves the cursor. An event that contradicts the books is put aside here,
//! alone; the constraints of the database stand behind these rules as a second line.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::{Value, json};

use super::{DeadMark, Digestible};
use crate::carts::CartKey;
use crate::clock::Millis;
use crate::engine::{Event, Position, Return};
use crate::orders::OrderStatus;
use crate::outbox::Record;
use crate::planted;
use crate::sale::{
    ItemId, LaneId, Line, PaymentRef, Reservation, ReservationId, SaleDefinition, SaleId, UserId,
    Window,
};

/// An event, its number and its instant.
#[derive(Clone, Copy, Debug)]
pub struct Numbered<'b> {
    /// Where it stands in the lane.
    pub position: Position,
    /// When it happened.
    pub at: Millis,
    /// What happened.
    pub event: &'b Event,
}

/// What could not be digested, kept whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event as a record of its own; or the record, where it cannot be read.
    pub record: Record,
    /// What is wrong with it.
    pub reason: String,
}

impl DeadLetter {
    /// As operators see it.
    pub fn to_json(&self, lane: LaneId) -> Value {
        let Record { last, events, at, payload, .. } = &self.record;
        let decoded = self.record.decode();
        let decoded = decoded.ok().and_then(|events| serde_json::to_value(events).ok());
        json!({
            "id": DeadMark { lane, position: *last }.to_string(),
            "at": at.to_string(),
            "reason": self.reason,
            "event_count": events,
            "events": decoded,
            "payload": payload.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        })
    }
}

impl Numbered<'_> {
    /// The event as a dead letter.
    pub fn dead(&self, reason: String) -> DeadLetter {
        let Self { position, at, event } = *self;
        DeadLetter { record: Record::of(position, at, std::slice::from_ref(event)), reason }
    }
}

/// The events of a batch, and its records that cannot be read.
pub fn open(entries: &[Digestible]) -> (Vec<Numbered<'_>>, Vec<DeadLetter>) {
    let (mut events, mut dead) = (Vec::new(), Vec::new());
    for Digestible { record, events: decoded } in entries {
        match decoded {
            Ok(decoded) => events.extend(number(record, decoded)),
            Err(unreadable) => {
                dead.push(DeadLetter { record: record.clone(), reason: unreadable.to_string() });
            }
        }
    }
    (events, dead)
}

/// The events of a record, with their numbers.
pub fn number<'b>(record: &Record, events: &'b [Event]) -> impl Iterator<Item = Numbered<'b>> {
    let (epoch, at) = (record.last.epoch, record.at);
    let numbered = move |(seq, event)| Numbered { position: Position { epoch, seq }, at, event };
    (record.first_seq()..).zip(events).map(numbered)
}

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

/// A payment that came too late.
#[derive(Clone, Copy, Debug)]
pub struct Refund<'b> {
    /// For which order.
    pub id: ReservationId,
    /// Where.
    pub sale: &'b SaleId,
    /// Whose.
    pub user: &'b UserId,
    /// Which payment.
    pub payment: &'b PaymentRef,
    /// In minor units.
    pub amount: u64,
    /// ISO 4217.
    pub currency: &'b str,
    /// When it came.
    pub at: Millis,
}

/// An entry of the audit log.
#[derive(Clone, Debug)]
pub struct LogEntry<'b> {
    /// The event's number.
    pub seq: u64,
    /// When.
    pub at: Millis,
    /// Who.
    pub actor: &'b str,
    /// Did what.
    pub action: &'static str,
    /// To which sale.
    pub sale: &'b SaleId,
    /// To which item or reservation of it.
    pub subject: Option<String>,
    /// The values before.
    pub before: Value,
    /// The values after.
    pub after: Value,
    /// Why.
    pub reason: Option<&'b str>,
}

/// An order that is new in the books.
#[derive(Clone, Copy, Debug)]
pub struct NewOrder<'b> {
    /// As it was taken.
    pub held: &'b Reservation,
    /// Where it stands at the end of the batch.
    pub now: Standing,
    /// Since when.
    pub at: Millis,
    /// Its payment.
    pub payment: Option<&'b PaymentRef>,
}

/// An order of the books that has moved.
#[derive(Clone, Copy, Debug)]
pub struct MovedOrder<'b> {
    /// Which.
    pub key: OrderKey<'b>,
    /// Where it stands at the end of the batch.
    pub now: Standing,
    /// Since when.
    pub at: Millis,
    /// A payment that came in this batch.
    pub payment: Option<&'b PaymentRef>,
}

/// How an item's numbers change.
#[derive(Clone, Copy, Debug)]
pub struct Units<'b> {
    /// Which.
    pub key: ItemKey<'b>,
    /// Of its stock.
    pub stock: i64,
    /// Of what is allocated.
    pub allocated: i64,
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

    fn take(&mut self, numbered: &Numbered<'b>) -> Result<(), String> {
        let Numbered { position, at, event } = *numbered;
        let seq = position.seq;
        match event {
            Event::Held(held) => self.held(held),
            Event::Confirmed { id, user, version, payment } => {
                let to = Standing { version: *version, status: OrderStatus::Paid };
                let Some(slot) = self.moves((user, *id), to)? else { return Ok(()) };
                if !slot.now.is_some_and(Standing::stands) {
                    return Err(format!("order {id} has no units that could be paid"));
                }
                *slot = OrderSlot { now: Some(to), at, payment: Some(payment), ..*slot };
                Ok(())
            }
            Event::Cancelled { returned, restock, actor } => {
                self.ended(returned, OrderStatus::Cancelled, at, *restock)?;
                if let Some(actor) = actor {
                    self.log.push(LogEntry {
                        seq,
                        at,
                        actor,
                        action: "cancel",
                        sale: &returned.sale,
                        subject: Some(returned.id.to_string()),
                        before: Value::Null,
                        after: json!({ "restock": restock }),
                        reason: None,
                    });
                }
                Ok(())
            }
            Event::Expired(returned) => self.ended(returned, OrderStatus::Expired, at, true),
            Event::Rebooked { taken, payment } => self.rebooked(taken, payment, at),
            Event::RefundNeeded { id, sale, user, payment, amount, currency } => {
                let (id, amount) = (*id, *amount);
                self.refunds.push(Refund { id, sale, user, payment, amount, currency, at });
                Ok(())
            }
            Event::SaleCreated { definition, actor } => {
                self.created(definition, at);
                self.log.push(LogEntry {
                    seq,
                    at,
                    actor,
                    action: "create",
                    sale: &definition.id,
                    subject: None,
                    before: Value::Null,
                    after: definition.to_json(),
                    reason: None,
                });
                Ok(())
            }
            Event::SaleMoved { sale, step, before, after, actor } => {
                self.log.push(LogEntry {
                    seq,
                    at,
                    actor,
                    action: step.as_str(),
                    sale,
                    subject: None,
                    before: window(before),
                    after: window(after),
                    reason: None,
                });
                Ok(())
            }
            Event::Restocked { .. } if self.restocks.get(&seq) == Some(&true) => Ok(()),
            Event::Restocked { sale, item, delta, before, reason, actor, .. } => {
                self.check_units(sale, item, *delta, 0)?;
                self.add_units(sale, item, *delta, 0);
                let stock = |stock: i128| json!({ "stock": stock as i64 });
                let after = stock(i128::from(*before) + i128::from(*delta));
                self.log.push(LogEntry {
                    seq,
                    at,
                    actor,
                    action: "restock",
                    sale,
                    subject: Some(item.to_string()),
                    before: stock(i128::from(*before)),
                    after,
                    reason: Some(reason),
                });
                Ok(())
            }
        }
    }

    fn held(&mut self, held: &'b Reservation) -> Result<(), String> {
        let key = (&held.user, held.id);
        if self.orders.get(&key).is_some_and(|slot| slot.now.is_some()) {
            // It came again: whatever has become of it since is what counts.
            if planted::is("version-not-compared") {
                self.add_lines(&held.sale, &held.lines, 0, 1);
            }
            return Ok(());
        }
        self.check_lines(&held.sale, &held.lines, 0, 1)?;
        self.add_lines(&held.sale, &held.lines, 0, 1);
        let now = Standing { version: held.version, status: OrderStatus::PendingPayment };
        let slot = self.orders.entry(key).or_default();
        *slot = OrderSlot {
            before: None,
            now: Some(now),
            at: held.held_at,
            held: Some(held),
            lines: &held.lines,
            payment: None,
        };
        Ok(())
    }

    /// The units of an order go back, or leave the stock.
    fn ended(
        &mut self,
        returned: &'b Return,
        status: OrderStatus,
        at: Millis,
        restock: bool,
    ) -> Result<(), String> {
        let to = Standing { version: returned.version, status };
        let Some(slot) = self.moves((&returned.user, returned.id), to)? else { return Ok(()) };
        if !slot.now.is_some_and(Standing::stands) {
            return Err(format!("order {} has no units to give back", returned.id));
        }
        let withdrawn = if restock { 0 } else { -1 };
        self.check_lines(&returned.sale, &returned.lines, withdrawn, -1)?;
        if !planted::is("units-not-freed") {
            self.add_lines(&returned.sale, &returned.lines, withdrawn, -1);
        }
        if let Some(slot) = self.orders.get_mut(&(&returned.user, returned.id)) {
            *slot = OrderSlot { now: Some(to), at, lines: &returned.lines, ..*slot };
        }
        Ok(())
    }

    fn rebooked(
        &mut self,
        taken: &'b Return,
        payment: &'b PaymentRef,
        at: Millis,
    ) -> Result<(), String> {
        let to = Standing { version: taken.version, status: OrderStatus::Paid };
        let Some(slot) = self.moves((&taken.user, taken.id), to)? else { return Ok(()) };
        if slot.now.is_some_and(Standing::stands) {
            return Err(format!("order {} has its units already", taken.id));
        }
        self.check_lines(&taken.sale, &taken.lines, 0, 1)?;
        self.add_lines(&taken.sale, &taken.lines, 0, 1);
        if let Some(slot) = self.orders.get_mut(&(&taken.user, taken.id)) {
            let payment = Some(payment);
            *slot = OrderSlot { now: Some(to), at, lines: &taken.lines, payment, ..*slot };
        }
        Ok(())
    }

    /// The order, if this moves it; `None` where the books are as far already.
    fn moves(
        &mut self,
        key: OrderKey<'b>,
        to: Standing,
    ) -> Result<Option<&mut OrderSlot<'b>>, String> {
        let slot = self.orders.get_mut(&key);
        let (slot, now) = slot
            .and_then(|slot| slot.now.map(|now| (slot, now)))
            .ok_or_else(|| format!("order {} is not in the books", key.1))?;
        let moves = now.version < to.version || planted::is("version-not-compared");
        Ok(moves.then_some(slot))
    }

    fn created(&mut self, definition: &'b SaleDefinition, at: Millis) {
        match self.sales.entry(&definition.id) {
            Entry::Occupied(mut slot) if !slot.get().known => {
                *slot.get_mut() = SaleSlot { known: true, created: Some((definition, at)) };
            }
            Entry::Occupied(_) | Entry::Vacant(_) => return,
        }
        for item in &definition.items {
            let stock = i64::try_from(item.stock).unwrap_or(i64::MAX);
            let slot = ItemSlot { known: true, stock, ..ItemSlot::default() };
            self.items.insert((&definition.id, &item.id), slot);
        }
    }

    /// What the database checks as well: nothing below zero, and never more allocated than there is.
    fn check_units(
        &self,
        sale: &'b SaleId,
        item: &'b ItemId,
        stock: i64,
        allocated: i64,
    ) -> Result<(), String> {
        let slot = self
            .items
            .get(&(sale, item))
            .filter(|slot| slot.known)
            .ok_or_else(|| format!("item {sale}/{item} is not in the books"))?;
        let stock = slot.stock.checked_add(stock).ok_or("a stock without end")?;
        let allocated = slot.allocated.checked_add(allocated).ok_or("a sale without end")?;
        if 0 <= allocated && allocated <= stock {
            return Ok(());
        }
        Err(format!("{sale}/{item} would have {allocated} of {stock} units allocated"))
    }

    fn check_lines(
        &self,
        sale: &'b SaleId,
        lines: &'b [Line],
        stock: i64,
        allocated: i64,
    ) -> Result<(), String> {
        lines.iter().try_for_each(|line| {
            let units = i64::from(line.quantity);
            self.check_units(sale, &line.item, stock * units, allocated * units)
        })
    }

    fn add_lines(&mut self, sale: &'b SaleId, lines: &'b [Line], stock: i64, allocated: i64) {
        for line in lines {
            let units = i64::from(line.quantity);
            self.add_units(sale, &line.item, stock * units, allocated * units);
        }
    }

    fn add_units(&mut self, sale: &'b SaleId, item: &'b ItemId, stock: i64, allocated: i64) {
        if let Some(slot) = self.items.get_mut(&(sale, item)) {
            slot.stock += stock;
            slot.allocated += allocated;
            slot.stock_delta += stock;
            slot.allocated_delta += allocated;
        }
    }

    /// Sales to add, with their items as they were created.
    pub fn new_sales(&self) -> impl Iterator<Item = (&'b SaleDefinition, Millis)> + '_ {
        self.sales.values().filter_map(|slot| slot.created)
    }

    /// Items whose numbers change, after the new ones were added.
    pub fn units(&self) -> impl Iterator<Item = Units<'b>> + '_ {
        self.items.iter().filter_map(|(key, slot)| {
            let (stock, allocated) = (slot.stock_delta, slot.allocated_delta);
            (stock != 0 || allocated != 0).then_some(Units { key: *key, stock, allocated })
        })
    }

    /// Orders to add.
    pub fn new_orders(&self) -> impl Iterator<Item = NewOrder<'b>> + '_ {
        self.orders.values().filter_map(|slot| {
            let (held, now) = (slot.held?, slot.now?);
            let (at, payment) = (slot.at, slot.payment);
            slot.before.is_none().then_some(NewOrder { held, now, at, payment })
        })
    }

    /// Orders to move.
    pub fn moved_orders(&self) -> impl Iterator<Item = MovedOrder<'b>> + '_ {
        self.orders.iter().filter_map(|(key, slot)| {
            let (before, now) = (slot.before?, slot.now?);
            let (key, at, payment) = (*key, slot.at, slot.payment);
            (before != now).then_some(MovedOrder { key, now, at, payment })
        })
    }

    /// Lines that come into carts.
    pub fn lines_in(&self) -> impl Iterator<Item = (OrderKey<'b>, &'b Line)> + '_ {
        self.lines(false, true)
    }

    /// Lines that leave carts.
    pub fn lines_out(&self) -> impl Iterator<Item = (OrderKey<'b>, &'b Line)> + '_ {
        self.lines(true, false)
    }

    fn lines(
        &self,
        before: bool,
        now: bool,
    ) -> impl Iterator<Item = (OrderKey<'b>, &'b Line)> + '_ {
        let stands = |standing: Option<Standing>| standing.is_some_and(Standing::stands);
        let moved =
            move |slot: &&OrderSlot<'b>| stands(slot.before) == before && stands(slot.now) == now;
        self.orders.iter().filter(move |(_, slot)| moved(slot)).flat_map(|(key, slot)| {
            let key = *key;
            slot.lines.iter().map(move |line| (key, line))
        })
    }

    /// Whose carts show something else than before.
    pub fn carts(&self) -> Vec<CartKey> {
        let mut carts: Vec<_> = self
            .orders
            .iter()
            .filter(|(_, slot)| slot.before != slot.now)
            .map(|((user, _), _)| CartKey::of(user))
            .collect();
        carts.dedup();
        carts
    }
}

fn window(window: &Window) -> Value {
    json!({
        "opens_at": window.opens_at.map(|at| at.to_string()),
        "closes_at": window.closes_at.map(|at| at.to_string()),
        "paused": window.paused,
    })
}
