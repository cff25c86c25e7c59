//! Reading orders.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::clock::Millis;
use crate::orders::{self, Order, OrderMark, OrderStatus};
use crate::sale::{Line, ReservationId, SaleId, UserId};
use crate::sqlite::{as_sql, from_sql};

const COLUMNS: &str = "order_id, sale_id, status, lines, total, currency, created_at, expires_at, \
                       updated_at, payment_ref";

pub(super) fn order(
    connection: &Connection,
    user: &UserId,
    id: ReservationId,
) -> rusqlite::Result<Option<Order>> {
    let sql = format!("SELECT {COLUMNS} FROM all_orders WHERE user_id = ?1 AND order_id = ?2");
    let mut query = connection.prepare_cached(&sql)?;
    query.query_row(params![user.as_str(), id.to_string()], read).optional()
}

pub(super) fn page(
    connection: &Connection,
    user: &UserId,
    after: Option<OrderMark>,
    max: usize,
) -> rusqlite::Result<Vec<Order>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM all_orders
         WHERE user_id = ?1 AND (created_at, order_id) < (?2, ?3)
         ORDER BY created_at DESC, order_id DESC LIMIT ?4"
    );
    let mut query = connection.prepare_cached(&sql)?;
    let (at, id) = after
        .map_or((i64::MAX, String::new()), |mark| (as_sql(mark.created_at.0), mark.id.to_string()));
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    query.query_map(params![user.as_str(), at, id, max], read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Order> {
    let text = |column: usize| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
    Ok(Order {
        id: ReservationId::parse(text(0)?).ok_or_else(|| bad(0, "not an order id"))?,
        sale: SaleId::parse(text(1)?).map_err(|error| bad(1, &error.to_string()))?,
        status: OrderStatus::parse(text(2)?).ok_or_else(|| bad(2, "not a status"))?,
        lines: lines_of(row, 3)?,
        total: from_sql(row.get(4)?),
        currency: Box::from(text(5)?),
        created_at: Millis(from_sql(row.get(6)?)),
        expires_at: Millis(from_sql(row.get(7)?)),
        updated_at: Millis(from_sql(row.get(8)?)),
        payment_ref: row.get(9)?,
    })
}

/// The lines in a column.
pub(super) fn lines_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<Line>> {
    let text = row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?;
    orders::lines_of(text).ok_or_else(|| bad(column, "not lines"))
}

fn bad(column: usize, what: &str) -> rusqlite::Error {
    let kind = rusqlite::types::Type::Text;
    rusqlite::Error::FromSqlConversionFailure(column, kind, what.to_owned().into())
}
