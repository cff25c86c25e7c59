//! What comes of a batch, as a store writes it: a row for each order, item, payment and act.

use serde_json::Value;

use super::{Digest, ItemKey, OrderKey, OrderSlot, Standing};
use crate::carts::CartKey;
use crate::clock::Millis;
use crate::sale::{Line, PaymentRef, Reservation, ReservationId, SaleDefinition, SaleId, UserId};

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
