//! Making the books what the ledger's events say. Rare, so row by row.

use deadpool_postgres::Client;
use tokio_postgres::types::ToSql;

use super::digest::insert_sale;
use super::{dead, id, instant, log, news, number, retire};
use crate::carts::CartKey;
use crate::clock::{Clock, SystemClock};
use crate::orders::lines_json;
use crate::sale::PaymentRef;
use crate::store::{Mend, Note, StoreError};

pub(super) async fn mend(
    client: &mut Client,
    mends: &[Mend],
    mended: u64,
    shared: bool,
) -> Result<u64, StoreError> {
    let transaction = client.transaction().await?;
    dead::settle_alone(&transaction).await?;
    // In the order in which everybody takes locks: lanes first, and of those the lowest.
    transaction.execute("SELECT FROM lanes ORDER BY lane FOR UPDATE", &[]).await?;
    if log::noted(&transaction).await? != mended {
        return Err(StoreError::Mended);
    }
    let now = instant(SystemClock.now());
    let mut changed = 0;
    let mut carts = Vec::new();
    for mend in mends {
        if let Mend::Order { held, .. } = mend {
            retire::bring_back(&transaction, &[(&held.user, held.id)]).await?;
        }
        changed += match mend {
            Mend::Sale(definition) => {
                insert_sale(&transaction, definition, SystemClock.now()).await?
            }
            Mend::Item { sale, item, stock, allocated } => {
                let update = "UPDATE items SET stock = stock + $3, allocated = allocated + $4
                              WHERE sale_id = $1 AND item_id = $2";
                let (sale, item) = (sale.as_str(), item.as_str());
                transaction
                    .execute(
                        &transaction.prepare_cached(update).await?,
                        &[&sale, &item, stock, allocated],
                    )
                    .await?
            }
            Mend::Order { held, now: standing, payment, seen } => {
                carts.push(CartKey::of(&held.user));
                let upsert =
                    "INSERT INTO orders (user_id, order_id, sale_id, status, version, lines,
                                                  total, currency, created_at, expires_at,
                                                  updated_at, payment_ref)
                     VALUES ($1, $2, $3, $4, $5, $6::text::json, $7, $8, $9, $10, $11, $12)
                     ON CONFLICT (user_id, order_id) DO UPDATE SET
                         sale_id = excluded.sale_id, status = excluded.status,
                         version = excluded.version, lines = excluded.lines,
                         total = excluded.total, currency = excluded.currency,
                         created_at = excluded.created_at, expires_at = excluded.expires_at,
                         updated_at = excluded.updated_at, payment_ref = excluded.payment_ref
                     WHERE orders.version = $13";
                let small = |version: u32| i32::try_from(version).unwrap_or(i32::MAX);
                let row: [&(dyn ToSql + Sync); 13] = [
                    &held.user.as_str(),
                    &id(held.id),
                    &held.sale.as_str(),
                    &standing.status.as_str(),
                    &small(standing.version),
                    &lines_json(&held.lines, &held.currency),
                    &number(held.total()),
                    &&*held.currency,
                    &instant(held.held_at),
                    &instant(held.expires_at),
                    &now,
                    &payment.as_ref().map(PaymentRef::as_str),
                    &seen.map(small),
                ];
                transaction.execute(&transaction.prepare_cached(upsert).await?, &row).await?
            }
            Mend::Line { user, id: reservation, item, quantity, version } => {
                carts.push(CartKey::of(user));
                let (reservation, item, user) = (id(*reservation), item.as_str(), user.as_str());
                let version = i32::try_from(*version).unwrap_or(i32::MAX);
                let units = i64::from(*quantity);
                if units == 0 {
                    let delete = "DELETE FROM cart_lines
                        WHERE user_id = $1 AND item_id = $2 AND reservation_id = $3
                          AND EXISTS (SELECT 1 FROM orders WHERE user_id = $1 AND order_id = $3
                                                             AND version = $4)";
                    transaction
                        .execute(
                            &transaction.prepare_cached(delete).await?,
                            &[&user, &item, &reservation, &version],
                        )
                        .await?
                } else {
                    let upsert =
                        "INSERT INTO cart_lines (user_id, item_id, reservation_id, quantity)
                        SELECT $1::text, $2::text, $3::uuid, $4::int8
                        WHERE EXISTS (SELECT 1 FROM orders WHERE user_id = $1 AND order_id = $3
                                                             AND version = $5)
                        ON CONFLICT (user_id, item_id, reservation_id)
                        DO UPDATE SET quantity = excluded.quantity";
                    let row: [&(dyn ToSql + Sync); 5] =
                        [&user, &item, &reservation, &units, &version];
                    transaction.execute(&transaction.prepare_cached(upsert).await?, &row).await?
                }
            }
        };
    }
    let rows = serde_json::json!({ "mends": mends.len(), "rows": changed });
    let note = Note::of_books("reconcile", "repair", "books", rows);
    let tip = log::note(&transaction, &note).await?;
    if shared {
        news::tell(&transaction, None, &carts).await?;
    }
    transaction.commit().await?;
    log::tell(tip);
    Ok(changed)
}
