//! Digesting the outbox: events become orders, cart lines and counters, in one transaction with the
//! cursor.
//!
//! A batch is first taken whole. If an event of it cannot be digested (it would oversell, or knows an
//! order that the books do not), the batch is rolled back and taken again event by event, each behind
//! a savepoint, and only the bad ones are put aside: one poison event delays its lane by one batch.

use std::collections::BTreeMap;

use rusqlite::{
    CachedStatement, Connection, ErrorCode, OptionalExtension, TransactionBehavior, params,
};
use serde_json::{Value, json};

use super::{Archives, archive};
use crate::clock::Millis;
use crate::engine::{Event, Position, Return};
use crate::orders::{OrderStatus, lines_json};
use crate::outbox::Record;
use crate::sale::{LaneId, Line, PaymentRef, Reservation, SaleDefinition, SaleId, Window};
use crate::sqlite::{as_sql, from_sql};
use crate::store::{Digested, Digestible, StoreError};

pub(super) fn cursor(connection: &Connection, lane: LaneId) -> rusqlite::Result<Position> {
    let mut query = connection.prepare_cached("SELECT epoch, cursor FROM lanes WHERE lane = ?1")?;
    let position = |row: &rusqlite::Row<'_>| {
        Ok(Position { epoch: from_sql(row.get(0)?), seq: from_sql(row.get(1)?) })
    };
    Ok(query.query_row([lane.0], position).optional()?.unwrap_or_default())
}

pub(super) fn digest(
    connection: &mut Connection,
    lane: LaneId,
    from: Position,
    batch: &[Digestible],
    archives: Archives,
) -> Result<Digested, StoreError> {
    let mut run = |bite| run(connection, lane, from, batch, archives, bite);
    match run(Bite::Whole) {
        Err(Failure::Poison(_)) => run(Bite::EventByEvent),
        other => other,
    }
    .map_err(StoreError::from)
}

/// How a batch is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bite {
    Whole,
    EventByEvent,
}

/// Why a transaction was rolled back.
enum Failure {
    /// An event contradicts the books; taking it again would fail again.
    Poison(String),
    /// The books themselves: taking it again may succeed.
    Store(StoreError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
                Failure::Poison(error.to_string())
            }
            _ => Failure::Store(error.into()),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Poison(reason) => StoreError::Failed(reason),
            Failure::Store(error) => error,
        }
    }
}

fn run(
    connection: &mut Connection,
    lane: LaneId,
    from: Position,
    batch: &[Digestible],
    archives: Archives,
    bite: Bite,
) -> Result<Digested, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let stands = cursor(&transaction, lane)?;
    if stands != from {
        return Err(Failure::Store(StoreError::Fenced(stands)));
    }
    let mut done = Digested { cursor: from, ..Digested::default() };
    let mut books = Books::open(&transaction, lane)?;
    for digestible in batch {
        let at = digestible.at();
        match &digestible.events {
            Ok(events) => {
                for (seq, event) in (digestible.record.first_seq()..).zip(events) {
                    match books.take(bite, seq, at, event) {
                        Ok(orders) => done.orders += orders,
                        Err(Failure::Poison(reason)) if bite == Bite::EventByEvent => {
                            let epoch = digestible.record.last.epoch;
                            let alone = Position { epoch, seq };
                            let record = Record::of(alone, at, std::slice::from_ref(event));
                            books.put_aside(alone, at, &reason, &record.payload)?;
                            done.dead_letters += 1;
                        }
                        Err(failure) => return Err(failure),
                    }
                }
            }
            Err(unreadable) => {
                let record = &digestible.record;
                books.put_aside(record.last, at, &unreadable.to_string(), &record.payload)?;
                done.dead_letters += 1;
            }
        }
        if archives == Archives::Yes {
            archive::keep(&transaction, lane, &digestible.record)?;
        }
        done.cursor = digestible.record.last;
    }
    books.allocate()?;
    drop(books);
    let now = batch.last().map_or(Millis(0), Digestible::at);
    transaction
        .prepare_cached(
            "INSERT INTO lanes (lane, epoch, cursor, updated_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET epoch = excluded.epoch, cursor = excluded.cursor,
                                       updated_at = excluded.updated_at",
        )?
        .execute(params![
            lane.0,
            as_sql(done.cursor.epoch),
            as_sql(done.cursor.seq),
            as_sql(now.0)
        ])?;
    transaction.commit()?;
    Ok(done)
}

/// The books inside one transaction.
struct Books<'c> {
    connection: &'c Connection,
    lane: LaneId,
    /// The two statements that every new order needs, looked up once per batch.
    insert_order: CachedStatement<'c>,
    insert_line: CachedStatement<'c>,
    /// Units by item that the events so far allocate or free; written once per batch.
    allocations: BTreeMap<(String, String), i64>,
}

impl<'c> Books<'c> {
    fn open(connection: &'c Connection, lane: LaneId) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            lane,
            insert_order: connection.prepare_cached(
                "INSERT INTO orders (user_id, order_id, sale_id, status, version, lines, total,
                                     currency, created_at, expires_at, updated_at)
                 VALUES (?1, ?2, ?3, 'pending_payment', ?4, ?5, ?6, ?7, ?8, ?9, ?8)
                 ON CONFLICT DO NOTHING",
            )?,
            insert_line: connection.prepare_cached(
                "INSERT INTO cart_lines (user_id, item_id, reservation_id, quantity)
                 VALUES (?1, ?2, ?3, ?4)",
            )?,
            allocations: BTreeMap::new(),
        })
    }

    /// Digests one event; says how many orders are new.
    fn take(&mut self, bite: Bite, seq: u64, at: Millis, event: &Event) -> Result<u64, Failure> {
        if bite == Bite::Whole {
            return self.digest(seq, at, event);
        }
        self.connection.execute_batch("SAVEPOINT event")?;
        let taken = self.digest(seq, at, event).and_then(|orders| {
            self.allocate()?;
            Ok(orders)
        });
        if taken.is_err() {
            self.allocations.clear();
            self.connection.execute_batch("ROLLBACK TO event")?;
        }
        self.connection.execute_batch("RELEASE event")?;
        taken
    }

    fn digest(&mut self, seq: u64, at: Millis, event: &Event) -> Result<u64, Failure> {
        match event {
            Event::Held(reservation) => return self.held(reservation),
            Event::Confirmed { id, user, version, payment } => {
                self.paid(user.as_str(), &id.to_string(), *version, payment, at)?;
            }
            Event::Cancelled { returned, restock, actor } => {
                self.ended(returned, OrderStatus::Cancelled, at)?;
                if !restock {
                    self.withdraw(returned)?;
                }
                if let Some(actor) = actor {
                    let units = json!({ "restock": restock });
                    let subject = returned.id.to_string();
                    let entry = Entry { actor, action: "cancel", sale: &returned.sale };
                    self.log(seq, at, entry, Some(&subject), &Value::Null, &units, None)?;
                }
            }
            Event::Expired(returned) => self.ended(returned, OrderStatus::Expired, at)?,
            Event::Rebooked { taken, payment } => self.rebooked(taken, payment, at)?,
            Event::RefundNeeded { id, sale, user, payment, amount, currency } => {
                self.connection
                    .prepare_cached(
                        "INSERT INTO refunds_needed
                         (order_id, payment_ref, sale_id, user_id, amount, currency, at)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                    )?
                    .execute(params![
                        id.to_string(),
                        payment.as_str(),
                        sale.as_str(),
                        user.as_str(),
                        as_sql(*amount),
                        currency,
                        as_sql(at.0)
                    ])?;
            }
            Event::SaleCreated { definition, actor } => {
                self.sale_created(definition, at)?;
                let entry = Entry { actor, action: "create", sale: &definition.id };
                self.log(seq, at, entry, None, &Value::Null, &definition.to_json(), None)?;
            }
            Event::SaleMoved { sale, step, before, after, actor } => {
                let entry = Entry { actor, action: step.as_str(), sale };
                self.log(seq, at, entry, None, &window(before), &window(after), None)?;
            }
            Event::Restocked { sale, item, delta, before, reason, actor, .. } => {
                self.restock(sale.as_str(), item.as_str(), *delta)?;
                let stock = |stock: i128| json!({ "stock": stock as i64 });
                let after = stock(i128::from(*before) + i128::from(*delta));
                let before = stock(i128::from(*before));
                let entry = Entry { actor, action: "restock", sale };
                self.log(seq, at, entry, Some(item.as_str()), &before, &after, Some(reason))?;
            }
        }
        Ok(0)
    }

    fn held(&mut self, reservation: &Reservation) -> Result<u64, Failure> {
        let id = reservation.id.to_string();
        let lines = lines_json(&reservation.lines, &reservation.currency);
        let inserted = self.insert_order.execute(params![
            reservation.user.as_str(),
            id,
            reservation.sale.as_str(),
            reservation.version,
            lines,
            as_sql(reservation.total()),
            reservation.currency,
            as_sql(reservation.held_at.0),
            as_sql(reservation.expires_at.0),
        ])?;
        if inserted > 0 {
            self.fill_cart(reservation.user.as_str(), &id, &reservation.lines)?;
            self.count(&reservation.sale, &reservation.lines, 1);
        }
        Ok(inserted as u64)
    }

    fn paid(
        &self,
        user: &str,
        id: &str,
        version: u32,
        payment: &PaymentRef,
        at: Millis,
    ) -> Result<bool, Failure> {
        let mut update = self.connection.prepare_cached(
            "UPDATE orders SET status = 'paid', version = ?3, updated_at = ?4, payment_ref = ?5
             WHERE user_id = ?1 AND order_id = ?2 AND version < ?3",
        )?;
        let changed = update.execute(params![user, id, version, as_sql(at.0), payment.as_str()])?;
        if changed == 0 {
            self.must_know(user, id)?;
        }
        Ok(changed > 0)
    }

    fn rebooked(
        &mut self,
        taken: &Return,
        payment: &PaymentRef,
        at: Millis,
    ) -> Result<(), Failure> {
        let (user, id) = (taken.user.as_str(), taken.id.to_string());
        if self.paid(user, &id, taken.version, payment, at)? {
            self.fill_cart(user, &id, &taken.lines)?;
            self.count(&taken.sale, &taken.lines, 1);
        }
        Ok(())
    }

    /// The units of an order go back, and its lines leave the cart.
    fn ended(&mut self, returned: &Return, status: OrderStatus, at: Millis) -> Result<(), Failure> {
        let (user, id) = (returned.user.as_str(), returned.id.to_string());
        let mut update = self.connection.prepare_cached(
            "UPDATE orders SET status = ?3, version = ?4, updated_at = ?5
             WHERE user_id = ?1 AND order_id = ?2 AND version < ?4",
        )?;
        let parameters = params![user, id, status.as_str(), returned.version, as_sql(at.0)];
        if update.execute(parameters)? == 0 {
            return self.must_know(user, &id);
        }
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM cart_lines WHERE user_id = ?1 AND item_id = ?2 AND reservation_id = ?3",
        )?;
        for line in &returned.lines {
            delete.execute(params![user, line.item.as_str(), id])?;
        }
        self.count(&returned.sale, &returned.lines, -1);
        Ok(())
    }

    /// An update that changed nothing came again, which is harmless, or names an order that the books
    /// never had, which is not.
    fn must_know(&self, user: &str, id: &str) -> Result<(), Failure> {
        let mut query = self
            .connection
            .prepare_cached("SELECT 1 FROM orders WHERE user_id = ?1 AND order_id = ?2")?;
        match query.query_row([user, id], |_| Ok(())).optional()? {
            Some(()) => Ok(()),
            None => Err(Failure::Poison(format!("order {id} is not in the books"))),
        }
    }

    fn fill_cart(&mut self, user: &str, id: &str, lines: &[Line]) -> Result<(), Failure> {
        for line in lines {
            self.insert_line.execute(params![user, line.item.as_str(), id, line.quantity])?;
        }
        Ok(())
    }

    fn count(&mut self, sale: &SaleId, lines: &[Line], sign: i64) {
        for line in lines {
            let item = (sale.to_string(), line.item.to_string());
            *self.allocations.entry(item).or_default() += sign * i64::from(line.quantity);
        }
    }

    /// Writes what was counted. Here the database itself refuses an oversell.
    fn allocate(&mut self) -> Result<(), Failure> {
        let mut update = self.connection.prepare_cached(
            "UPDATE items SET allocated = allocated + ?3 WHERE sale_id = ?1 AND item_id = ?2",
        )?;
        for ((sale, item), units) in std::mem::take(&mut self.allocations) {
            if units != 0 && update.execute(params![sale, item, units])? == 0 {
                return Err(Failure::Poison(format!("item {item} is not in the books")));
            }
        }
        Ok(())
    }

    fn restock(&mut self, sale: &str, item: &str, delta: i64) -> Result<(), Failure> {
        // In the order of events: what was freed before may be what is taken out now.
        self.allocate()?;
        let mut update = self.connection.prepare_cached(
            "UPDATE items SET stock = stock + ?3 WHERE sale_id = ?1 AND item_id = ?2",
        )?;
        if update.execute(params![sale, item, delta])? == 0 {
            return Err(Failure::Poison(format!("item {item} is not in the books")));
        }
        Ok(())
    }

    /// Units of a refund that are not for sale again leave the stock.
    fn withdraw(&mut self, returned: &Return) -> Result<(), Failure> {
        for line in &returned.lines {
            let units = i64::from(line.quantity);
            self.restock(returned.sale.as_str(), line.item.as_str(), -units)?;
        }
        Ok(())
    }

    fn sale_created(&self, definition: &SaleDefinition, at: Millis) -> Result<(), Failure> {
        let sale = definition.id.as_str();
        let inserted = self
            .connection
            .prepare_cached(
                "INSERT INTO sales (sale_id, title, definition, created_at)
                 VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                sale,
                definition.title,
                definition.to_json().to_string(),
                as_sql(at.0)
            ])?;
        if inserted == 0 {
            return Ok(());
        }
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO items (sale_id, item_id, title, price, currency, stock)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for item in &definition.items {
            insert.execute(params![
                sale,
                item.id.as_str(),
                item.title,
                as_sql(item.price),
                item.currency,
                as_sql(item.stock)
            ])?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one per column, named where it is called")]
    fn log(
        &self,
        seq: u64,
        at: Millis,
        entry: Entry<'_>,
        subject: Option<&str>,
        before: &Value,
        after: &Value,
        reason: Option<&str>,
    ) -> Result<(), Failure> {
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO audit_log (lane, seq, at, actor, action, sale_id, subject, before, after,
                                    reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
        )?;
        insert.execute(params![
            self.lane.0,
            as_sql(seq),
            as_sql(at.0),
            entry.actor,
            entry.action,
            entry.sale.as_str(),
            subject,
            before.to_string(),
            after.to_string(),
            reason
        ])?;
        Ok(())
    }

    fn put_aside(
        &self,
        position: Position,
        at: Millis,
        reason: &str,
        payload: &[u8],
    ) -> Result<(), Failure> {
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO dead_letters (lane, seq, epoch, reason, payload, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        )?;
        insert.execute(params![
            self.lane.0,
            as_sql(position.seq),
            as_sql(position.epoch),
            reason,
            payload,
            as_sql(at.0)
        ])?;
        Ok(())
    }
}

/// Who did what to which sale.
struct Entry<'a> {
    actor: &'a str,
    action: &'a str,
    sale: &'a SaleId,
}

fn window(window: &Window) -> Value {
    json!({
        "opens_at": window.opens_at.map(|at| at.to_string()),
        "closes_at": window.closes_at.map(|at| at.to_string()),
        "paused": window.paused,
    })
}
