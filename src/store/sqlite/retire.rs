//! Orders of sales that are over: out of the writer's way, and back again.

use rusqlite::{Connection, TransactionBehavior, params};
use serde_json::json;

use super::log;
use crate::engine::Actor;
use crate::sale::SaleId;
use crate::sqlite::as_sql;
use crate::store::digest::OrderKey;
use crate::store::{Note, StoreError};

/// Moves orders out of the way; their carts' versions stay what they are.
pub(super) fn archive(
    connection: &mut Connection,
    sale: &SaleId,
    max: usize,
    actor: &Actor,
) -> Result<u64, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let moved = transaction.execute(
        "INSERT INTO archived_orders SELECT * FROM orders
         WHERE sale_id = ?1 AND status <> 'pending_payment' LIMIT ?2",
        params![sale.as_str(), as_sql(max as u64)],
    )?;
    // What is in both has just been moved.
    transaction.execute(
        "INSERT INTO carts (user_id, changes)
         SELECT o.user_id, sum(o.version) FROM orders AS o
         JOIN archived_orders USING (user_id, order_id)
         WHERE o.sale_id = ?1 GROUP BY o.user_id
         ON CONFLICT DO UPDATE SET changes = changes + excluded.changes",
        [sale.as_str()],
    )?;
    transaction.execute(
        "DELETE FROM orders WHERE sale_id = ?1 AND EXISTS (
             SELECT 1 FROM archived_orders AS a
             WHERE a.user_id = orders.user_id AND a.order_id = orders.order_id)",
        [sale.as_str()],
    )?;
    let mut logged = None;
    if moved > 0 {
        let orders = json!({ "sale": sale.as_str(), "orders": moved });
        let note = Note::of_books(actor, "archive orders", sale.as_str(), orders);
        logged = Some(log::note(&transaction, &note)?);
    }
    transaction.commit()?;
    logged.into_iter().for_each(log::tell);
    Ok(moved as u64)
}

/// Brings an order back that is to move.
pub(super) fn bring_back(books: &Connection, (user, id): OrderKey<'_>) -> rusqlite::Result<()> {
    let key = [user.as_str(), &id.to_string()];
    let insert = "INSERT INTO orders SELECT * FROM archived_orders
                  WHERE user_id = ?1 AND order_id = ?2";
    books.prepare_cached(insert)?.execute(key)?;
    let delete = "DELETE FROM archived_orders WHERE user_id = ?1 AND order_id = ?2";
    books.prepare_cached(delete)?.execute(key)?;
    Ok(())
}
