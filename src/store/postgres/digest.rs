//! Digesting the outbox: what a batch does to the books, in one transaction with the cursor.
//!
//! Each kind of row is one statement with an array per column, and statements that do not wait for each
//! other are on the wire together: a batch costs a handful of round trips however large it is.

use std::time::SystemTime;

use deadpool_postgres::{Client, Transaction};
use tokio::try_join;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{archive, dead, id, instant, lease, news, number};
use crate::clock::Millis;
use crate::orders::{OrderStatus, lines_json};
use crate::sale::{LaneId, PaymentRef, SaleDefinition};
use crate::store::digest::{self, DeadLetter, Digest, Numbered, Standing};
use crate::store::{Batch, Care, Digested, StoreError};

pub(super) async fn digest(
    client: &mut Client,
    batch: &Batch,
    shared: bool,
) -> Result<Digested, StoreError> {
    let mut transaction = client.transaction().await?;
    let (events, mut dead) = digest::open(&batch.entries);
    let mut done = Digested { cursor: batch.end(), ..Digested::default() };
    match batch.care {
        Care::Whole => {
            let mut digest = Digest::of(&events);
            // The cursor's row is locked first: whoever else is at this lane waits there.
            try_join!(lease::move_cursor(&transaction, batch), look_up(&transaction, &mut digest))?;
            digest.fold(&events);
            write(&transaction, batch.lane, &digest).await?;
            count(&mut done, &digest);
            dead.extend(digest.dead);
        }
        Care::EventByEvent => {
            lease::move_cursor(&transaction, batch).await?;
            for numbered in &events {
                let event = transaction.savepoint("event").await?;
                match take(&event, batch.lane, std::slice::from_ref(numbered), &mut done).await {
                    Ok(contradictions) => {
                        event.commit().await?;
                        dead.extend(contradictions);
                    }
                    Err(StoreError::Rejected(reason)) => {
                        event.rollback().await?;
                        dead.push(numbered.dead(reason));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
    done.dead_letters = dead.len() as u64;
    dead::put_aside(&transaction, batch.lane, &dead).await?;
    if shared {
        archive::keep(&transaction, batch.lane, &batch.entries).await?;
        news::tell(&transaction, Some((batch.lane, done.cursor)), &done.carts).await?;
    }
    transaction.commit().await?;
    Ok(done)
}

/// Digests events; says which of them contradict the books.
pub(super) async fn take(
    books: &Transaction<'_>,
    lane: LaneId,
    events: &[Numbered<'_>],
    done: &mut Digested,
) -> Result<Vec<DeadLetter>, StoreError> {
    let mut digest = Digest::of(events);
    look_up(books, &mut digest).await?;
    digest.fold(events);
    write(books, lane, &digest).await?;
    count(done, &digest);
    Ok(digest.dead)
}

fn count(done: &mut Digested, digest: &Digest<'_>) {
    done.orders += digest.new_orders().count() as u64;
    done.carts.extend(digest.carts());
}

async fn look_up(books: &Transaction<'_>, digest: &mut Digest<'_>) -> Result<(), StoreError> {
    let orders: Vec<_> = digest.orders().collect();
    let items: Vec<_> = digest.items().collect();
    let sales: Vec<_> = digest.sales().collect();
    let known_orders = async {
        if orders.is_empty() {
            return Ok(Vec::new());
        }
        let (users, ids): (Vec<_>, Vec<_>) =
            orders.iter().map(|(user, order)| (user.as_str(), id(*order))).unzip();
        let query = books
            .prepare_cached(
                "SELECT n.place, o.version, o.status
                 FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS n (user_id, order_id, place)
                 JOIN orders AS o USING (user_id, order_id)",
            )
            .await?;
        books.query(&query, &[&users, &ids]).await
    };
    let known_items = async {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let (of, names): (Vec<_>, Vec<_>) =
            items.iter().map(|(sale, item)| (sale.as_str(), item.as_str())).unzip();
        let query = books
            .prepare_cached(
                "SELECT n.place, i.stock, i.allocated
                 FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS n (sale_id, item_id, place)
                 JOIN items AS i USING (sale_id, item_id)",
            )
            .await?;
        books.query(&query, &[&of, &names]).await
    };
    let known_sales = async {
        if sales.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<_> = sales.iter().map(|sale| sale.as_str()).collect();
        let query = books
            .prepare_cached(
                "SELECT n.place FROM unnest($1::text[]) WITH ORDINALITY AS n (sale_id, place)
                 JOIN sales USING (sale_id)",
            )
            .await?;
        books.query(&query, &[&names]).await
    };
    let (known_orders, known_items, known_sales) =
        try_join!(known_orders, known_items, known_sales)?;
    for row in known_orders {
        let (version, status): (i32, &str) = (row.get(1), row.get(2));
        let status = OrderStatus::parse(status)
            .ok_or_else(|| StoreError::Failed(format!("{status} is no status of an order")))?;
        let version = u32::try_from(version).unwrap_or(0);
        digest.knows_order(orders[place(&row)], Standing { version, status });
    }
    for row in known_items {
        digest.knows_item(items[place(&row)], row.get(1), row.get(2));
    }
    for row in known_sales {
        digest.knows_sale(sales[place(&row)]);
    }
    Ok(())
}

/// Where in the arrays a row's key stood; they are numbered from one.
fn place(row: &tokio_postgres::Row) -> usize {
    let place: i64 = row.get(0);
    usize::try_from(place).unwrap_or(1) - 1
}

async fn write(
    books: &Transaction<'_>,
    lane: LaneId,
    digest: &Digest<'_>,
) -> Result<(), StoreError> {
    write_sales(books, digest).await?;
    try_join!(
        write_units(books, digest),
        add_orders(books, digest),
        move_orders(books, digest),
        add_lines(books, digest),
        remove_lines(books, digest),
        write_refunds(books, digest),
        write_log(books, lane, digest),
    )?;
    Ok(())
}

/// Runs a statement over columns, and checks that it changed as many rows as there are.
async fn change(
    books: &Transaction<'_>,
    statement: &str,
    rows: usize,
    columns: &[&(dyn ToSql + Sync)],
) -> Result<(), StoreError> {
    if rows == 0 {
        return Ok(());
    }
    let prepared = books.prepare_cached(statement).await?;
    let changed = books.execute(&prepared, columns).await?;
    if changed == rows as u64 {
        return Ok(());
    }
    // The rows that were looked up are this lane's, and nobody else writes them.
    Err(StoreError::Failed(format!("{changed} rows were changed, not {rows}")))
}

async fn write_sales(books: &Transaction<'_>, digest: &Digest<'_>) -> Result<(), StoreError> {
    for (definition, at) in digest.new_sales() {
        insert_sale(books, definition, at).await?;
    }
    Ok(())
}

/// Adds a sale and its items, as far as they are not there; says how many rows that were.
pub(super) async fn insert_sale(
    books: &Transaction<'_>,
    definition: &SaleDefinition,
    at: Millis,
) -> Result<u64, StoreError> {
    let insert = books
        .prepare_cached(
            "INSERT INTO sales (sale_id, title, definition, created_at)
             VALUES ($1, $2, $3::text::json, $4) ON CONFLICT DO NOTHING",
        )
        .await?;
    let (sale, title) = (definition.id.as_str(), &*definition.title);
    let json = definition.to_json().to_string();
    let rows = books.execute(&insert, &[&sale, &title, &json, &instant(at)]).await?;
    let items = &definition.items;
    let ids: Vec<_> = items.iter().map(|item| item.id.as_str()).collect();
    let titles: Vec<_> = items.iter().map(|item| &*item.title).collect();
    let prices: Vec<_> = items.iter().map(|item| number(item.price)).collect();
    let currencies: Vec<_> = items.iter().map(|item| &*item.currency).collect();
    let stocks: Vec<_> = items.iter().map(|item| number(item.stock)).collect();
    let insert = books
        .prepare_cached(
            "INSERT INTO items (sale_id, item_id, title, price, currency, stock)
             SELECT $1, * FROM unnest($2::text[], $3::text[], $4::int8[], $5::text[], $6::int8[])
             ON CONFLICT DO NOTHING",
        )
        .await?;
    let columns: [&(dyn ToSql + Sync); 6] = [&sale, &ids, &titles, &prices, &currencies, &stocks];
    Ok(rows + books.execute(&insert, &columns).await?)
}

/// Here the database itself refuses an oversell.
async fn write_units(books: &Transaction<'_>, digest: &Digest<'_>) -> Result<(), StoreError> {
    let units: Vec<_> = digest.units().collect();
    let sales: Vec<_> = units.iter().map(|units| units.key.0.as_str()).collect();
    let items: Vec<_> = units.iter().map(|units| units.key.1.as_str()).collect();
    let stock: Vec<_> = units.iter().map(|units| units.stock).collect();
    let allocated: Vec<_> = units.iter().map(|units| units.allocated).collect();
    change(
        books,
        "UPDATE items AS i SET stock = i.stock + n.stock, allocated = i.allocated + n.allocated
         FROM unnest($1::text[], $2::text[], $3::int8[], $4::int8[])
              AS n (sale_id, item_id, stock, allocated)
         WHERE i.sale_id = n.sale_id AND i.item_id = n.item_id",
        units.len(),
        &[&sales, &items, &stock, &allocated],
    )
    .await
}

async fn add_orders(books: &Transaction<'_>, digest: &Digest<'_>) -> Result<(), StoreError> {
    let orders: Vec<_> = digest.new_orders().collect();
    let users: Vec<_> = orders.iter().map(|order| order.held.user.as_str()).collect();
    let ids: Vec<Uuid> = orders.iter().map(|order| id(order.held.id)).collect();
    let sales: Vec<_> = orders.iter().map(|order| order.held.sale.as_str()).collect();
    let statuses: Vec<_> = orders.iter().map(|order| order.now.status.as_str()).collect();
    let versions: Vec<_> = orders.iter().map(|order| version(order.now)).collect();
    let lines: Vec<_> =
        orders.iter().map(|order| lines_json(&order.held.lines, &order.held.currency)).collect();
    let totals: Vec<_> = orders.iter().map(|order| number(order.held.total())).collect();
    let currencies: Vec<_> = orders.iter().map(|order| &*order.held.currency).collect();
    let created: Vec<_> = orders.iter().map(|order| instant(order.held.held_at)).collect();
    let expire: Vec<_> = orders.iter().map(|order| instant(order.held.expires_at)).collect();
    let updated: Vec<SystemTime> = orders.iter().map(|order| instant(order.at)).collect();
    let payments: Vec<_> =
        orders.iter().map(|order| order.payment.map(PaymentRef::as_str)).collect();
    change(
        books,
        "INSERT INTO orders (user_id, order_id, sale_id, status, version, lines, total, currency,
                             created_at, expires_at, updated_at, payment_ref)
         SELECT u, o, s, st, v, l::json, t, c, ca, ea, ua, p
         FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::int4[], $6::text[],
                     $7::int8[], $8::text[], $9::timestamptz[], $10::timestamptz[],
                     $11::timestamptz[], $12::text[])
              AS n (u, o, s, st, v, l, t, c, ca, ea, ua, p)
         ON CONFLICT DO NOTHING",
        orders.len(),
        &[
            &users,
            &ids,
            &sales,
            &statuses,
            &versions,
            &lines,
            &totals,
            &currencies,
            &created,
            &expire,
            &updated,
            &payments,
        ],
    )
    .await
}

async fn move_orders(books: &Transaction<'_>, digest: &Digest<'_>) -> Result<(), StoreError> {
    let orders: Vec<_> = digest.moved_orders().collect();
    let users: Vec<_> = orders.iter().map(|order| order.key.0.as_str()).collect();
    let ids: Vec<Uuid> = orders.iter().map(|order| id(order.key.1)).collect();
    let statuses: Vec<_> = orders.iter().map(|order| order.now.status.as_str()).collect();
    let versions: Vec<_> = orders.iter().map(|order| version(order.now)).collect();
    let updated: Vec<_> = orders.iter().map(|order| instant(order.at)).collect();
    let payments: Vec<_> =
        orders.iter().map(|order| order.payment.map(PaymentRef::as_str)).collect();
    change(
        books,
        "UPDATE orders AS o SET status = n.status, version = n.version, updated_at = n.at,
                                payment_ref = coalesce(n.payment, o.payment_ref)
         FROM unnest($1::text[], $2::uuid[], $3::text[], $4::int4[], $5::timestamptz[], $6::text[])
              AS n (user_id, order_id, status, version, at, payment)
         WHERE o.user_id = n.user_id AND o.order_id = n.order_id AND o.version < n.version",
        orders.len(),
        &[&users, &ids, &statuses, &versions, &updated, &payments],
    )
    .await
}

async fn add_lines(books: &Transaction<'_>, digest: &Digest<'_>) -> Result<(), StoreError> {
    let lines: Vec<_> = digest.lines_in().collect();
    let users: Vec<_> = lines.iter().map(|((user, _), _)| user.as_str()).collect();
    let items: Vec<_> = lines.iter().map(|(_, line)| line.item.as_str()).collect();
    let ids: Vec<Uuid> = lines.iter().map(|((_, order), _)| id(*order)).collect();
    let units: Vec<_> = lines.iter().map(|(_, line)| i64::from(line.quantity)).collect();
    change(
        books,
        "INSERT INTO cart_lines (user_id, item_id, reservation_id, quantity)
         SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::int8[])
         ON CONFLICT DO NOTHING",
        lines.len(),
        &[&users, &items, &ids, &units],
    )
    .await
}

async fn remove_lines(books: &Transaction<'_>, digest: &Digest<'_>) -> Result<(), StoreError> {
    let lines: Vec<_> = digest.lines_out().collect();
    let users: Vec<_> = lines.iter().map(|((user, _), _)| user.as_str()).collect();
    let items: Vec<_> = lines.iter().map(|(_, line)| line.item.as_str()).collect();
    let ids: Vec<Uuid> = lines.iter().map(|((_, order), _)| id(*order)).collect();
    change(
        books,
        "DELETE FROM cart_lines AS c
         USING unnest($1::text[], $2::text[], $3::uuid[]) AS n (user_id, item_id, reservation_id)
         WHERE c.user_id = n.user_id AND c.item_id = n.item_id
           AND c.reservation_id = n.reservation_id",
        lines.len(),
        &[&users, &items, &ids],
    )
    .await
}

async fn write_refunds(books: &Transaction<'_>, digest: &Digest<'_>) -> Result<(), StoreError> {
    for refund in &digest.refunds {
        let insert = books
            .prepare_cached(
                "INSERT INTO refunds_needed
                 (order_id, payment_ref, sale_id, user_id, amount, currency, at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            )
            .await?;
        let (sale, user) = (refund.sale.as_str(), refund.user.as_str());
        let (payment, amount) = (refund.payment.as_str(), number(refund.amount));
        let (order, at) = (id(refund.id), instant(refund.at));
        let row: [&(dyn ToSql + Sync); 7] =
            [&order, &payment, &sale, &user, &amount, &refund.currency, &at];
        books.execute(&insert, &row).await?;
    }
    Ok(())
}

async fn write_log(
    books: &Transaction<'_>,
    lane: LaneId,
    digest: &Digest<'_>,
) -> Result<(), StoreError> {
    for entry in &digest.log {
        let insert = books
            .prepare_cached(
                "INSERT INTO audit_log (lane, seq, at, actor, action, sale_id, subject, before,
                                        after, reason)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
            )
            .await?;
        let (lane, seq, at) = (i32::from(lane.0), number(entry.seq), instant(entry.at));
        let sale = entry.sale.as_str();
        let row: [&(dyn ToSql + Sync); 10] = [
            &lane,
            &seq,
            &at,
            &entry.actor,
            &entry.action,
            &sale,
            &entry.subject,
            &entry.before,
            &entry.after,
            &entry.reason,
        ];
        books.execute(&insert, &row).await?;
    }
    Ok(())
}

fn version(standing: Standing) -> i32 {
    i32::try_from(standing.version).unwrap_or(i32::MAX)
}
