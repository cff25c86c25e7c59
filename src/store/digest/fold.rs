//! The rules: what an event does to what is known, or why it cannot be.

use std::collections::btree_map::Entry;

use serde_json::{Value, json};

use super::{
    Digest, ItemSlot, LogEntry, Numbered, OrderKey, OrderSlot, Refund, SaleSlot, Standing,
};
use crate::clock::Millis;
use crate::engine::{Event, Return};
use crate::orders::OrderStatus;
use crate::planted;
use crate::sale::{ItemId, Line, PaymentRef, Reservation, SaleDefinition, SaleId, Window};

impl<'b> Digest<'b> {
    /// Has an event happen; says what contradicts it.
    pub(super) fn take(&mut self, numbered: &Numbered<'b>) -> Result<(), String> {
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
}

fn window(window: &Window) -> Value {
    json!({
        "opens_at": window.opens_at.map(|at| at.to_string()),
        "closes_at": window.closes_at.map(|at| at.to_string()),
        "paused": window.paused,
    })
}
