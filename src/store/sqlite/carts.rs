//! Reading and changing carts.

use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};

use super::orders::lines_of;
use crate::carts::{Cart, CartChange, CartLine, CartRefusal, GoneLine, LineWrite};
use crate::clock::{Clock, Millis, SystemClock};
use crate::limits;
use crate::sale::{ItemId, UserId};
use crate::sqlite::{as_sql, from_sql};

/// The cart as one instant of the books has it.
pub(super) fn read(connection: &mut Connection, user: &UserId) -> rusqlite::Result<Cart> {
    // Version and lines of the same instant: they are read in one transaction.
    let transaction = connection.transaction()?;
    read_in(&transaction, user)
}

fn read_in(connection: &Connection, user: &UserId) -> rusqlite::Result<Cart> {
    let mut version = connection.prepare_cached(
        "SELECT coalesce((SELECT changes FROM carts WHERE user_id = ?1), 0)
              + coalesce((SELECT sum(version) FROM orders WHERE user_id = ?1), 0)",
    )?;
    let version: i64 = version.query_row([user.as_str()], |row| row.get(0))?;
    let mut lines = connection.prepare_cached(
        "SELECT item_id, quantity, reservation_id FROM cart_lines WHERE user_id = ?1
         ORDER BY item_id, reservation_id",
    )?;
    let line = |row: &Row<'_>| {
        let reservation_id: String = row.get(2)?;
        Ok(CartLine {
            item: row.get(0)?,
            quantity: from_sql(row.get(1)?),
            reservation_id: Some(reservation_id).filter(|id| !id.is_empty()),
        })
    };
    let lines = lines.query_map([user.as_str()], line)?.collect::<Result<_, _>>()?;
    Ok(Cart { version: from_sql(version), lines, gone: gone(connection, user)? })
}

fn gone(connection: &Connection, user: &UserId) -> rusqlite::Result<Vec<GoneLine>> {
    let since = SystemClock.now().0.saturating_sub(limits::CART_GONE_MS);
    let mut query = connection.prepare_cached(
        "SELECT order_id, lines, updated_at FROM orders
         WHERE user_id = ?1 AND status = 'expired' AND updated_at > ?2
         ORDER BY updated_at DESC LIMIT ?3",
    )?;
    let parameters = params![user.as_str(), as_sql(since), as_sql(limits::CART_GONE_MAX as u64)];
    let mut rows = query.query(parameters)?;
    let mut gone = Vec::new();
    while let Some(row) = rows.next()? {
        let (reservation_id, at): (String, i64) = (row.get(0)?, row.get(2)?);
        gone.extend(lines_of(row, 1)?.into_iter().map(|line| GoneLine {
            item: line.item.to_string(),
            quantity: line.quantity.into(),
            reservation_id: reservation_id.clone(),
            at: Millis(from_sql(at)),
        }));
    }
    Ok(gone)
}

/// One decision: look at the version, change the lines, raise the version.
pub(super) fn change(
    connection: &mut Connection,
    user: &UserId,
    expected: Option<u64>,
    change: &CartChange,
) -> rusqlite::Result<Result<Cart, CartRefusal>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before = read_in(&transaction, user)?;
    let writes = match before.plan(expected, change) {
        Ok(writes) if writes.is_empty() => return Ok(Ok(before)),
        Ok(writes) => writes,
        Err(refusal) => return Ok(Err(refusal)),
    };
    write(&transaction, user, &writes)?;
    let after = read_in(&transaction, user)?;
    transaction.commit()?;
    Ok(Ok(after))
}

/// The same with what a guest has in theirs, which is emptied.
pub(super) fn merge(
    connection: &mut Connection,
    guest: &UserId,
    user: &UserId,
    expected: Option<u64>,
) -> rusqlite::Result<Result<Cart, CartRefusal>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let theirs = read_in(&transaction, guest)?;
    let before = read_in(&transaction, user)?;
    let writes = match before.plan_merge(expected, &theirs) {
        Ok(writes) => writes,
        Err(refusal) => return Ok(Err(refusal)),
    };
    // Clearing is never refused.
    let cleared = theirs.plan(None, &CartChange::Clear).unwrap_or_default();
    write(&transaction, user, &writes)?;
    write(&transaction, guest, &cleared)?;
    let after = read_in(&transaction, user)?;
    transaction.commit()?;
    Ok(Ok(after))
}

fn write(
    transaction: &Transaction<'_>,
    user: &UserId,
    writes: &[LineWrite],
) -> rusqlite::Result<()> {
    if writes.is_empty() {
        return Ok(());
    }
    let mut set = transaction.prepare_cached(
        "INSERT INTO cart_lines (user_id, item_id, reservation_id, quantity)
         VALUES (?1, ?2, '', ?3)
         ON CONFLICT DO UPDATE SET quantity = excluded.quantity",
    )?;
    let mut remove = transaction.prepare_cached(
        "DELETE FROM cart_lines WHERE user_id = ?1 AND item_id = ?2 AND reservation_id = ''",
    )?;
    for write in writes {
        match write {
            LineWrite::Set(item, units) => {
                set.execute(params![user.as_str(), item, as_sql(*units)])?
            }
            LineWrite::Remove(item) => remove.execute(params![user.as_str(), item])?,
        };
    }
    transaction
        .prepare_cached(
            "INSERT INTO carts (user_id, changes) VALUES (?1, 1)
             ON CONFLICT DO UPDATE SET changes = changes + 1",
        )?
        .execute([user.as_str()])?;
    Ok(())
}

/// Carts into which users themselves put some of these items.
pub(super) fn with_items(
    connection: &mut Connection,
    items: &[ItemId],
    max: usize,
) -> rusqlite::Result<Vec<(UserId, Cart)>> {
    let transaction = connection.transaction()?;
    let items = serde_json::Value::from_iter(items.iter().map(ItemId::as_str)).to_string();
    let mut query = transaction.prepare_cached(
        "SELECT DISTINCT user_id FROM cart_lines
         WHERE reservation_id = '' AND item_id IN (SELECT value FROM json_each(?1)) LIMIT ?2",
    )?;
    let users = query.query_map(params![items, as_sql(max as u64)], |row| row.get(0))?;
    let users: Vec<String> = users.collect::<Result<_, _>>()?;
    let known = users.iter().filter_map(|user| UserId::parse(user).ok());
    known.map(|user| Ok((user.clone(), read_in(&transaction, &user)?))).collect()
}
