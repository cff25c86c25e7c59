//! Reading orders.

use deadpool_postgres::Client;
use tokio_postgres::Row;

use super::{id, instant, millis, number, whole};
use crate::orders::{self, Order, OrderMark, OrderStatus};
use crate::sale::{ReservationId, SaleId, UserId};
use crate::store::StoreError;

const COLUMNS: &str = "order_id, sale_id, status, lines::text, total, currency, created_at, expires_at, \
                       updated_at, payment_ref";

pub(super) async fn order(
    client: &Client,
    user: &UserId,
    order: ReservationId,
) -> Result<Option<Order>, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM all_orders WHERE user_id = $1 AND order_id = $2");
    let query = client.prepare_cached(&query).await?;
    let row = client.query_opt(&query, &[&user.as_str(), &id(order)]).await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn page(
    client: &Client,
    user: &UserId,
    after: Option<OrderMark>,
    max: usize,
) -> Result<Vec<Order>, StoreError> {
    let query = format!(
        "SELECT {COLUMNS} FROM all_orders
         WHERE user_id = $1 AND ($2::timestamptz IS NULL OR (created_at, order_id) < ($2, $3))
         ORDER BY created_at DESC, order_id DESC LIMIT $4"
    );
    let query = client.prepare_cached(&query).await?;
    let at = after.map(|mark| instant(mark.created_at));
    let last = after.map(|mark| id(mark.id));
    let max = number(max as u64);
    let rows = client.query(&query, &[&user.as_str(), &at, &last, &max]).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Order, StoreError> {
    let bad = |what: &str| StoreError::Failed(format!("an order of the books has {what}"));
    let (sale, status): (&str, &str) = (row.get(1), row.get(2));
    Ok(Order {
        id: reservation(row.get(0)).ok_or_else(|| bad("an id of nobody's"))?,
        sale: SaleId::parse(sale).map_err(|error| bad(&error.to_string()))?,
        status: OrderStatus::parse(status).ok_or_else(|| bad("no known status"))?,
        lines: orders::lines_of(row.get(3)).ok_or_else(|| bad("lines that are none"))?,
        total: whole(row.get(4)),
        currency: Box::from(row.get::<_, &str>(5)),
        created_at: millis(row.get(6)),
        expires_at: millis(row.get(7)),
        updated_at: millis(row.get(8)),
        payment_ref: row.get(9),
    })
}

fn reservation(id: uuid::Uuid) -> Option<ReservationId> {
    ReservationId::parse(&id.to_string())
}
