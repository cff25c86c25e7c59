//! The same books in PostgreSQL.

use serde_json::Value;
use tokio_postgres::{Client, NoTls, Row};

use super::books::{Books, BooksError, CartLine, Order, Refund, StoreItem};

/// Reads them in one transaction, and writes nothing.
pub(super) async fn read(url: &str, sale: &str) -> Result<Books, BooksError> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driven = tokio::spawn(connection);
    let read = read_with(&client, sale).await;
    drop(client);
    // It ends with its client; its faults were the client's.
    drop(driven.await);
    read
}

async fn read_with(client: &Client, sale: &str) -> Result<Books, BooksError> {
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let sql = "SELECT definition::text FROM sales WHERE sale_id = $1";
    let definition = client.query_opt(sql, &[&sale]).await?;
    let definition: Value = definition
        .and_then(|row| serde_json::from_str(row.get::<_, &str>(0)).ok())
        .unwrap_or_default();
    let sql = "SELECT item_id, stock, allocated FROM items WHERE sale_id = $1 ORDER BY item_id";
    let items = client.query(sql, &[&sale]).await?;
    let sql = "SELECT order_id::text, user_id, status, total,
                      (extract(epoch FROM created_at) * 1000)::bigint,
                      (extract(epoch FROM expires_at) * 1000)::bigint, payment_ref, lines::text,
                      version::bigint, (extract(epoch FROM updated_at) * 1000)::bigint
               FROM all_orders WHERE sale_id = $1 ORDER BY order_id, user_id";
    let orders = client.query(sql, &[&sale]).await?;
    let sql = "SELECT c.user_id, c.item_id, c.reservation_id::text, c.quantity
               FROM cart_lines AS c
               LEFT JOIN all_orders AS o ON o.user_id = c.user_id AND o.order_id = c.reservation_id
               WHERE c.reservation_id <> '00000000-0000-0000-0000-000000000000'
                 AND (o.sale_id = $1 OR o.sale_id IS NULL)
               ORDER BY c.reservation_id, c.item_id, c.user_id";
    let cart_lines = client.query(sql, &[&sale]).await?;
    let sql = "SELECT order_id::text, payment_ref, user_id, amount FROM refunds_needed
               WHERE sale_id = $1 ORDER BY order_id, payment_ref";
    let refunds = client.query(sql, &[&sale]).await?;
    let dead = client.query("SELECT reason FROM dead_letters", &[]).await?;
    let sql = "SELECT (extract(epoch FROM transaction_timestamp()) * 1000)::bigint";
    let read_at = client.query_one(sql, &[]).await?;
    client.batch_execute("COMMIT").await?;
    Ok(Books {
        per_user_limit: definition["per_user_limit"].as_u64(),
        items: items.iter().map(|row| item(row, &definition)).collect(),
        orders: orders.iter().map(order).collect::<Result<_, _>>()?,
        cart_lines: cart_lines.iter().map(cart_line).collect(),
        dead_letters: dead.iter().map(|row| row.get(0)).collect(),
        refunds_needed: refunds.iter().map(refund).collect(),
        read_at_ms: Some(read_at.get(0)),
    })
}

fn item(row: &Row, definition: &Value) -> StoreItem {
    StoreItem::of(row.get(0), row.get(1), row.get(2), definition)
}

fn order(row: &Row) -> Result<Order, BooksError> {
    let order_id: String = row.get(0);
    let lines = serde_json::from_str(row.get::<_, &str>(7));
    let lines =
        lines.map_err(|bad| BooksError::Lines("PostgreSQL".into(), order_id.clone(), bad))?;
    Ok(Order {
        order_id,
        user_id: row.get(1),
        status: row.get(2),
        lines,
        total: row.get(3),
        created_at_ms: row.get(4),
        expires_at_ms: row.get(5),
        payment_ref: row.get(6),
        version: row.get(8),
        updated_at_ms: row.get(9),
    })
}

fn refund(row: &Row) -> Refund {
    Refund {
        order_id: row.get(0),
        payment_ref: row.get(1),
        user_id: row.get(2),
        amount: row.get(3),
    }
}

fn cart_line(row: &Row) -> CartLine {
    CartLine {
        user_id: row.get(0),
        item_id: row.get(1),
        reservation_id: row.get(2),
        quantity: row.get(3),
    }
}
