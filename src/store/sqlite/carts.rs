//! Reading and changing carts.

use rusqlite::{Connection, Row, TransactionBehavior, params};

use crate::carts::{Cart, CartChange, CartLine, CartRefusal};
use crate::limits;
use crate::sale::UserId;
use crate::sqlite::from_sql;

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
    Ok(Cart { version: from_sql(version), lines })
}

/// One decision: look at the version, change the line, raise the version.
pub(super) fn change(
    connection: &mut Connection,
    user: &UserId,
    expected: Option<u64>,
    change: &CartChange,
) -> rusqlite::Result<Result<Cart, CartRefusal>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before = read_in(&transaction, user)?;
    if expected.is_some_and(|expected| expected != before.version) {
        return Ok(Err(CartRefusal::VersionMismatch { current: before.version }));
    }
    let own = |line: &&CartLine| line.reservation_id.is_none();
    let changed = match change {
        CartChange::Put { item, quantity } => {
            let known = before.lines.iter().filter(own).find(|line| line.item == item.as_str());
            let lines = before.lines.iter().filter(own).count();
            if known.is_none() && lines >= limits::CART_LINES_MAX {
                return Ok(Err(CartRefusal::TooManyLines));
            }
            let same = known.is_some_and(|line| line.quantity == u64::from(*quantity));
            if !same {
                transaction
                    .prepare_cached(
                        "INSERT INTO cart_lines (user_id, item_id, reservation_id, quantity)
                         VALUES (?1, ?2, '', ?3)
                         ON CONFLICT DO UPDATE SET quantity = excluded.quantity",
                    )?
                    .execute(params![user.as_str(), item.as_str(), quantity])?;
            }
            !same
        }
        CartChange::Remove { item } => {
            let mut delete = transaction.prepare_cached(
                "DELETE FROM cart_lines
                 WHERE user_id = ?1 AND item_id = ?2 AND reservation_id = ''",
            )?;
            delete.execute(params![user.as_str(), item.as_str()])? > 0
        }
    };
    if !changed {
        return Ok(Ok(before));
    }
    transaction
        .prepare_cached(
            "INSERT INTO carts (user_id, changes) VALUES (?1, 1)
             ON CONFLICT DO UPDATE SET changes = changes + 1",
        )?
        .execute([user.as_str()])?;
    let after = read_in(&transaction, user)?;
    transaction.commit()?;
    Ok(Ok(after))
}
