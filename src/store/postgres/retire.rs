//! Orders of sales that are over: out of the writer's way, and back again.

use deadpool_postgres::{Client, Transaction};
use serde_json::json;

use super::{dead, id, log, number};
use crate::engine::Actor;
use crate::sale::SaleId;
use crate::store::digest::OrderKey;
use crate::store::{Note, StoreError};

/// Moves orders out of the way; their carts' versions stay what they are.
pub(super) async fn archive(
    client: &mut Client,
    sale: &SaleId,
    max: usize,
    actor: &Actor,
) -> Result<u64, StoreError> {
    let transaction = client.transaction().await?;
    // No writer is at any lane meanwhile.
    dead::settle_alone(&transaction).await?;
    transaction.execute("SELECT FROM lanes ORDER BY lane FOR UPDATE", &[]).await?;
    let moved = transaction
        .execute(
            "WITH moved AS (
                 DELETE FROM orders WHERE (user_id, order_id) IN (
                     SELECT user_id, order_id FROM orders
                     WHERE sale_id = $1 AND status <> 'pending_payment' LIMIT $2)
                 RETURNING *
             ), counted AS (
                 INSERT INTO carts (user_id, changes)
                 SELECT user_id, sum(version) FROM moved GROUP BY user_id
                 ON CONFLICT (user_id) DO UPDATE SET changes = carts.changes + excluded.changes
             )
             INSERT INTO archived_orders SELECT * FROM moved",
            &[&sale.as_str(), &number(max as u64)],
        )
        .await?;
    let mut logged = None;
    if moved > 0 {
        let orders = json!({ "sale": sale.as_str(), "orders": moved });
        let note = Note::of_books(actor, "archive orders", sale.as_str(), orders);
        logged = Some(log::note(&transaction, &note).await?);
    }
    transaction.commit().await?;
    logged.into_iter().for_each(log::tell);
    Ok(moved)
}

/// Brings orders back that are to move.
pub(super) async fn bring_back(
    books: &Transaction<'_>,
    keys: &[OrderKey<'_>],
) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let (users, ids): (Vec<_>, Vec<_>) =
        keys.iter().map(|(user, order)| (user.as_str(), id(*order))).unzip();
    let back = books
        .prepare_cached(
            "WITH back AS (
                 DELETE FROM archived_orders AS a
                 USING unnest($1::text[], $2::uuid[]) AS n (user_id, order_id)
                 WHERE a.user_id = n.user_id AND a.order_id = n.order_id
                 RETURNING a.*
             )
             INSERT INTO orders SELECT * FROM back",
        )
        .await?;
    books.execute(&back, &[&users, &ids]).await?;
    Ok(())
}
