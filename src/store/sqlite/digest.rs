//! Digesting the outbox: what a batch does to the books, in one transaction with the cursor.

use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};

use super::{Archives, archive, dead, lease, log, retire};
use crate::clock::Millis;
use crate::crash;
use crate::orders::{OrderStatus, lines_json};
use crate::planted;
use crate::sale::{LaneId, PaymentRef, SaleDefinition};
use crate::sqlite::as_sql;
use crate::store::digest::{self, DeadLetter, Digest, Numbered, Standing};
use crate::store::{Batch, Care, Digested, StoreError};

pub(super) fn digest(
    connection: &mut Connection,
    batch: &Batch,
    archives: Archives,
) -> Result<Digested, StoreError> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    crash::point("writer: begun");
    lease::move_cursor(&transaction, batch)?;
    crash::point("writer: cursor moved");
    if planted::is("cursor-before-rows") {
        transaction.commit()?;
        crash::point("writer: begun");
        transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    }
    let (events, mut dead) = digest::open(&batch.entries);
    let mut done = Digested { cursor: batch.end(), ..Digested::default() };
    match batch.care {
        Care::Whole => dead.extend(take(&transaction, batch.lane, &events, &mut done)?),
        Care::EventByEvent => {
            for numbered in &events {
                transaction.execute_batch("SAVEPOINT event")?;
                let one = std::slice::from_ref(numbered);
                match take(&transaction, batch.lane, one, &mut done) {
                    Ok(contradictions) => dead.extend(contradictions),
                    Err(StoreError::Rejected(reason)) => {
                        transaction.execute_batch("ROLLBACK TO event")?;
                        dead.push(numbered.dead(reason));
                    }
                    Err(error) => return Err(error),
                }
                transaction.execute_batch("RELEASE event")?;
            }
        }
    }
    crash::point("writer: rows written");
    done.dead_letters = dead.iter().map(|letter| letter.record.last.seq).collect();
    dead::put_aside(&transaction, batch.lane, &dead)?;
    if archives == Archives::Yes {
        for entry in &batch.entries {
            archive::keep(&transaction, batch.lane, &entry.record)?;
        }
    }
    crash::point("writer: before the commit");
    transaction.commit()?;
    crash::point("writer: committed");
    if let Some(tip) = &done.logged {
        tip.tell(i64::from(batch.lane.0));
    }
    Ok(done)
}

/// Digests events; says which of them contradict the books.
pub(super) fn take(
    books: &Connection,
    lane: LaneId,
    events: &[Numbered<'_>],
    done: &mut Digested,
) -> Result<Vec<DeadLetter>, StoreError> {
    let mut digest = Digest::of(events);
    look_up(books, lane, &mut digest)?;
    digest.fold(events);
    write(books, &digest)?;
    done.logged = log::write(books, lane, &digest.log)?.or(done.logged);
    done.orders += digest.new_orders().count() as u64;
    done.carts.extend(digest.carts());
    Ok(digest.dead)
}

fn look_up(books: &Connection, lane: LaneId, digest: &mut Digest<'_>) -> rusqlite::Result<()> {
    let mut order = books.prepare_cached(
        "SELECT version, status, 0 FROM orders WHERE user_id = ?1 AND order_id = ?2
         UNION ALL
         SELECT version, status, 1 FROM archived_orders WHERE user_id = ?1 AND order_id = ?2",
    )?;
    for key in digest.orders().collect::<Vec<_>>() {
        let (user, id) = key;
        let mut rows = order.query(params![user.as_str(), id.to_string()])?;
        if let Some(row) = rows.next()? {
            let status = OrderStatus::parse(row.get_ref(1)?.as_str()?);
            let status = status.ok_or(rusqlite::Error::InvalidQuery)?;
            digest.knows_order(key, Standing { version: row.get(0)?, status });
            if row.get(2)? {
                retire::bring_back(books, key)?;
            }
        }
    }
    let mut item = books
        .prepare_cached("SELECT stock, allocated FROM items WHERE sale_id = ?1 AND item_id = ?2")?;
    for key in digest.items().collect::<Vec<_>>() {
        let mut rows = item.query([key.0.as_str(), key.1.as_str()])?;
        if let Some(row) = rows.next()? {
            digest.knows_item(key, row.get(0)?, row.get(1)?);
        }
    }
    let mut known = books.prepare_cached("SELECT 1 FROM sales WHERE sale_id = ?1")?;
    for sale in digest.sales().collect::<Vec<_>>() {
        if known.exists([sale.as_str()])? {
            digest.knows_sale(sale);
        }
    }
    let mut logged =
        books.prepare_cached("SELECT 1 FROM audit_log WHERE lane = ?1 AND seq = ?2")?;
    for seq in digest.restocks().collect::<Vec<_>>() {
        if logged.exists(params![lane.0, as_sql(seq)])? {
            digest.knows_restock(seq);
        }
    }
    Ok(())
}

fn write(books: &Connection, digest: &Digest<'_>) -> rusqlite::Result<()> {
    write_sales(books, digest)?;
    write_orders(books, digest)?;
    write_lines(books, digest)?;
    for refund in &digest.refunds {
        let mut insert = books.prepare_cached(
            "INSERT INTO refunds_needed
             (order_id, payment_ref, sale_id, user_id, amount, currency, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
        )?;
        insert.execute(params![
            refund.id.to_string(),
            refund.payment.as_str(),
            refund.sale.as_str(),
            refund.user.as_str(),
            as_sql(refund.amount),
            refund.currency,
            as_sql(refund.at.0)
        ])?;
    }
    Ok(())
}

fn write_sales(books: &Connection, digest: &Digest<'_>) -> rusqlite::Result<()> {
    for (definition, at) in digest.new_sales() {
        insert_sale(books, definition, at)?;
    }
    // Here the database itself refuses an oversell.
    let mut update = books.prepare_cached(
        "UPDATE items SET stock = stock + ?3, allocated = allocated + ?4
         WHERE sale_id = ?1 AND item_id = ?2",
    )?;
    for units in digest.units() {
        let (sale, item) = units.key;
        update.execute(params![sale.as_str(), item.as_str(), units.stock, units.allocated])?;
    }
    Ok(())
}

/// Adds a sale and its items, as far as they are not there; says how many rows that were.
pub(super) fn insert_sale(
    books: &Connection,
    definition: &SaleDefinition,
    at: Millis,
) -> rusqlite::Result<usize> {
    let (sale, json) = (definition.id.as_str(), definition.to_json().to_string());
    let mut insert = books.prepare_cached(
        "INSERT INTO sales (sale_id, title, definition, created_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
    )?;
    let mut rows = insert.execute(params![sale, definition.title, json, as_sql(at.0)])?;
    let mut insert = books.prepare_cached(
        "INSERT INTO items (sale_id, item_id, title, price, currency, stock)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
    )?;
    for item in &definition.items {
        let (price, stock) = (as_sql(item.price), as_sql(item.stock));
        rows += insert.execute(params![
            sale,
            item.id.as_str(),
            item.title,
            price,
            item.currency,
            stock
        ])?;
    }
    Ok(rows)
}

fn write_orders(books: &Connection, digest: &Digest<'_>) -> rusqlite::Result<()> {
    let mut insert = books.prepare_cached(
        "INSERT INTO orders (user_id, order_id, sale_id, status, version, lines, total, currency,
                             created_at, expires_at, updated_at, payment_ref)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    for order in digest.new_orders() {
        let held = order.held;
        insert.execute(params![
            held.user.as_str(),
            held.id.to_string(),
            held.sale.as_str(),
            order.now.status.as_str(),
            order.now.version,
            lines_json(&held.lines, &held.currency),
            as_sql(held.total()),
            held.currency,
            as_sql(held.held_at.0),
            as_sql(held.expires_at.0),
            as_sql(order.at.0),
            order.payment.map(PaymentRef::as_str),
        ])?;
    }
    let mut update = books.prepare_cached(
        "UPDATE orders SET status = ?3, version = ?4, updated_at = ?5,
                           payment_ref = coalesce(?6, payment_ref)
         WHERE user_id = ?1 AND order_id = ?2",
    )?;
    for order in digest.moved_orders() {
        update.execute(params![
            order.key.0.as_str(),
            order.key.1.to_string(),
            order.now.status.as_str(),
            order.now.version,
            as_sql(order.at.0),
            order.payment.map(PaymentRef::as_str),
        ])?;
    }
    Ok(())
}

fn write_lines(books: &Connection, digest: &Digest<'_>) -> rusqlite::Result<()> {
    let mut insert = books.prepare_cached(
        "INSERT INTO cart_lines (user_id, item_id, reservation_id, quantity)
         VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET quantity = excluded.quantity",
    )?;
    for ((user, id), line) in digest.lines_in() {
        let id = id.to_string();
        insert.execute(params![user.as_str(), line.item.as_str(), id, line.quantity])?;
    }
    let mut delete = books.prepare_cached(
        "DELETE FROM cart_lines WHERE user_id = ?1 AND item_id = ?2 AND reservation_id = ?3",
    )?;
    for ((user, id), line) in digest.lines_out() {
        delete.execute(params![user.as_str(), line.item.as_str(), id.to_string()])?;
    }
    Ok(())
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
                StoreError::Rejected(error.to_string())
            }
            _ => StoreError::Failed(error.to_string()),
        }
    }
}
