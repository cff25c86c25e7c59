//! Making the books what the ledger's events say.

use rusqlite::{Connection, TransactionBehavior, params};

use super::digest::insert_sale;
use super::{log, retire};
use crate::clock::{Clock, SystemClock};
use crate::orders::lines_json;
use crate::sale::PaymentRef;
use crate::sqlite::as_sql;
use crate::store::{Mend, Note, StoreError};

pub(super) fn mend(
    connection: &mut Connection,
    mends: &[Mend],
    mended: u64,
) -> Result<u64, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if log::noted(&transaction)? != mended {
        return Err(StoreError::Mended);
    }
    let now = as_sql(SystemClock.now().0);
    let mut changed = 0;
    for mend in mends {
        if let Mend::Order { held, .. } = mend {
            retire::bring_back(&transaction, (&held.user, held.id))?;
        }
        changed += match mend {
            Mend::Sale(definition) => insert_sale(&transaction, definition, SystemClock.now())?,
            Mend::Item { sale, item, stock, allocated } => transaction
                .prepare_cached(
                    "UPDATE items SET stock = stock + ?3, allocated = allocated + ?4
                     WHERE sale_id = ?1 AND item_id = ?2",
                )?
                .execute(params![sale.as_str(), item.as_str(), stock, allocated])?,
            Mend::Order { held, now: standing, payment, seen } => transaction
                .prepare_cached(
                    "INSERT INTO orders (user_id, order_id, sale_id, status, version, lines, total,
                                         currency, created_at, expires_at, updated_at, payment_ref)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
                     ON CONFLICT DO UPDATE SET
                         sale_id = excluded.sale_id, status = excluded.status,
                         version = excluded.version, lines = excluded.lines,
                         total = excluded.total, currency = excluded.currency,
                         created_at = excluded.created_at, expires_at = excluded.expires_at,
                         updated_at = excluded.updated_at, payment_ref = excluded.payment_ref
                     WHERE orders.version = ?13",
                )?
                .execute(params![
                    held.user.as_str(),
                    held.id.to_string(),
                    held.sale.as_str(),
                    standing.status.as_str(),
                    standing.version,
                    lines_json(&held.lines, &held.currency),
                    as_sql(held.total()),
                    held.currency,
                    as_sql(held.held_at.0),
                    as_sql(held.expires_at.0),
                    now,
                    payment.as_ref().map(PaymentRef::as_str),
                    seen,
                ])?,
            Mend::Line { user, id, item, quantity: 0, version } => transaction
                .prepare_cached(
                    "DELETE FROM cart_lines
                     WHERE user_id = ?1 AND item_id = ?2 AND reservation_id = ?3
                       AND EXISTS (SELECT 1 FROM orders WHERE user_id = ?1 AND order_id = ?3
                                                          AND version = ?4)",
                )?
                .execute(params![user.as_str(), item.as_str(), id.to_string(), version])?,
            Mend::Line { user, id, item, quantity, version } => transaction
                .prepare_cached(
                    "INSERT INTO cart_lines (user_id, item_id, reservation_id, quantity)
                     SELECT ?1, ?2, ?3, ?4
                     WHERE EXISTS (SELECT 1 FROM orders WHERE user_id = ?1 AND order_id = ?3
                                                          AND version = ?5)
                     ON CONFLICT DO UPDATE SET quantity = excluded.quantity",
                )?
                .execute(params![
                    user.as_str(),
                    item.as_str(),
                    id.to_string(),
                    quantity,
                    version
                ])?,
        };
    }
    let rows = serde_json::json!({ "mends": mends.len(), "rows": changed });
    let note = Note::of_books("reconcile", "repair", "books", rows);
    let tip = log::note(&transaction, &note)?;
    transaction.commit()?;
    log::tell(tip);
    Ok(changed as u64)
}
