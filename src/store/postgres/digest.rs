//! Digesting the outbox: what a batch does to the books, in one transaction with the cursor.
//!
//! Each kind of row is one statement with an array per column, and statements that do not wait for each
//! other are on the wire together: a batch costs a handful of round trips however large it is.

use std::time::SystemTime;

use deadpool_postgres::{Client, Transaction};
use tokio::{join, try_join};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{archive, dead, id, instant, lease, log, news, number, retire, whole};
use crate::clock::Millis;
use crate::crash;
use crate::orders::{OrderStatus, lines_json};
use crate::sale::{LaneId, PaymentRef, SaleDefinition};
use crate::store::chain::Tip;
use crate::store::digest::{self, DeadLetter, Digest, Numbered, Standing};
use crate::store::{Batch, Care, Digested, StoreError};

pub(super) async fn digest(
    client: &mut Client,
    batch: &Batch,
    shared: bool,
) -> Result<Digested, StoreError> {
    let mut transaction = client.transaction().await?;
    lease::lock_for(&transaction, batch).await?;
    crash::point("writer: begun");
    let (events, mut dead) = digest::open(&batch.entries);
    let mut done = Digested { cursor: batch.end(), ..Digested::default() };
    match batch.care {
        Care::Whole => {
            // On the wire together: the cursor does not wait for what is looked up.
            let (moved, taken) = join!(
                move_cursor(&transaction, batch),
                take(&transaction, batch.lane, &events, &mut done),
            );
            dead.extend(taken?);
            moved?;
        }
        Care::EventByEvent => {
            move_cursor(&transaction, batch).await?;
            // By halves: of a thousand events with one that is refused, twenty tries find it.
            let mut waiting = vec![&events[..]];
            while let Some(part) = waiting.pop() {
                let taken = transaction.savepoint("part").await?;
                match take(&taken, batch.lane, part, &mut done).await {
                    Ok(contradictions) => {
                        taken.commit().await?;
                        dead.extend(contradictions);
                    }
                    Err(StoreError::Rejected(reason)) => {
                        taken.rollback().await?;
                        match part {
                            [alone] => dead.push(alone.dead(reason)),
                            more => {
                                let (first, second) = more.split_at(more.len() / 2);
                                waiting.extend([second, first]);
                            }
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
    crash::point("writer: rows written");
    done.dead_letters = dead.iter().map(|letter| letter.record.last.seq).collect();
    dead::put_aside(&transaction, batch.lane, &dead).await?;
    if shared {
        archive::keep(&transaction, batch.lane, &batch.entries).await?;
        news::tell(&transaction, Some((batch.lane, batch.holder)), &done.carts).await?;
    }
    crash::point("writer: before the commit");
    transaction.commit().await?;
    crash::point("writer: committed");
    if let Some(tip) = &done.logged {
        tip.tell(i64::from(batch.lane.0));
    }
    Ok(done)
}

async fn move_cursor(books: &Transaction<'_>, batch: &Batch) -> Result<(), StoreError> {
    lease::move_cursor(books, batch).await?;
    crash::point("writer: cursor moved");
    Ok(())
}

/// Digests events; says which of them contradict the books.
pub(super) async fn take(
    books: &Transaction<'_>,
    lane: LaneId,
    events: &[Numbered<'_>],
    done: &mut Digested,
) -> Result<Vec<DeadLetter>, StoreError> {
    let mut digest = Digest::of(events);
    look_up(books, lane, &mut digest).await?;
    digest.fold(events);
    let logged = write(books, lane, &digest).await?;
    done.logged = logged.or(done.logged);
    done.orders += digest.new_orders().count() as u64;
    done.carts.extend(digest.carts());
    Ok(digest.dead)
}

async fn look_up(
    books: &Transaction<'_>,
    lane: LaneId,
    digest: &mut Digest<'_>,
) -> Result<(), StoreError> {
    let orders: Vec<_> = digest.orders().collect();
    let items: Vec<_> = digest.items().collect();
    let sales: Vec<_> = digest.sales().collect();
    let (users, ids): (Vec<_>, Vec<_>) =
        orders.iter().map(|(user, order)| (user.as_str(), id(*order))).unzip();
    let (of, names): (Vec<_>, Vec<_>) =
        items.iter().map(|(sale, item)| (sale.as_str(), item.as_str())).unzip();
    let created: Vec<_> = sales.iter().map(|sale| sale.as_str()).collect();
    let restocks: Vec<_> = digest.restocks().map(number).collect();
    let lane = i32::from(lane.0);
    let order_keys: [&(dyn ToSql + Sync); 2] = [&users, &ids];
    let item_keys: [&(dyn ToSql + Sync); 2] = [&of, &names];
    let sale_keys: [&(dyn ToSql + Sync); 1] = [&created];
    let restock_keys: [&(dyn ToSql + Sync); 2] = [&lane, &restocks];
    let (known_orders, known_items, known_sales, known_restocks) = try_join!(
        find(
            books,
            "SELECT n.place, o.version, o.status, false
             FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS n (user_id, order_id, place)
             JOIN orders AS o USING (user_id, order_id)
             UNION ALL
             SELECT n.place, o.version, o.status, true
             FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS n (user_id, order_id, place)
             JOIN archived_orders AS o USING (user_id, order_id)",
            orders.len(),
            &order_keys,
        ),
        find(
            books,
            "SELECT n.place, i.stock, i.allocated
             FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS n (sale_id, item_id, place)
             JOIN items AS i USING (sale_id, item_id)",
            items.len(),
            &item_keys,
        ),
        find(
            books,
            "SELECT n.place FROM unnest($1::text[]) WITH ORDINALITY AS n (sale_id, place)
             JOIN sales USING (sale_id)",
            sales.len(),
            &sale_keys,
        ),
        find(
            books,
            "SELECT seq FROM audit_log WHERE lane = $1 AND seq = ANY ($2)",
            restocks.len(),
            &restock_keys,
        ),
    )?;
    for row in known_restocks {
        digest.knows_restock(whole(row.get(0)));
    }
    let mut archived = Vec::new();
    for row in known_orders {
        let (version, status): (i32, &str) = (row.get(1), row.get(2));
        let status = OrderStatus::parse(status)
            .ok_or_else(|| StoreError::Failed(format!("{status} is no status of an order")))?;
        let version = u32::try_from(version).unwrap_or(0);
        let key = orders[place(&row)];
        digest.knows_order(key, Standing { version, status });
        if row.get(3) {
            archived.push(key);
        }
    }
    retire::bring_back(books, &archived).await?;
    for row in known_items {
        digest.knows_item(items[place(&row)], row.get(1), row.get(2));
    }
    for row in known_sales {
        digest.knows_sale(sales[place(&row)]);
    }
    Ok(())
}

/// What a query finds for so many keys; without keys nobody is asked.
async fn find(
    books: &Transaction<'_>,
    query: &str,
    keys: usize,
    columns: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, StoreError> {
    if keys == 0 {
        return Ok(Vec::new());
    }
    let prepared = books.prepare_cached(query).await?;
    Ok(books.query(&prepared, columns).await?)
}

/// Where in the arrays a row's key stood; they are numbered from one.
fn place(row: &Row) -> usize {
    let place: i64 = row.get(0);
    usize::try_from(place).unwrap_or(1) - 1
}

async fn write(
    books: &Transaction<'_>,
    lane: LaneId,
    digest: &Digest<'_>,
) -> Result<Option<Tip>, StoreError> {
    write_sales(books, digest).await?;
    let (units, added, moved, filled, emptied, refunds, logged) = join!(
        write_units(books, digest),
        add_orders(books, digest),
        move_orders(books, digest),
        add_lines(books, digest),
        remove_lines(books, digest),
        write_refunds(books, digest),
        log::write(books, lane, &digest.log),
    );
    let (tip, logged) = match logged {
        Ok(tip) => (tip, Ok(())),
        Err(error) => (None, Err(error)),
    };
    first_of([units, added, moved, filled, emptied, refunds, logged])?;
    Ok(tip)
}

/// What went wrong first of statements that were on the wire together: those behind one that was refused
/// fail because it was.
fn first_of<const N: usize>(done: [Result<(), StoreError>; N]) -> Result<(), StoreError> {
    let errors = done.into_iter().filter_map(Result::err);
    let refused = |error: &StoreError| matches!(error, StoreError::Rejected(_));
    match errors.min_by_key(|error| !refused(error)) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Runs a statement over columns of so many rows; says how many it changed. Without rows nobody is asked.
async fn run(
    books: &Transaction<'_>,
    statement: &str,
    rows: usize,
    columns: &[&(dyn ToSql + Sync)],
) -> Result<u64, StoreError> {
    if rows == 0 {
        return Ok(0);
    }
    let prepared = books.prepare_cached(statement).await?;
    Ok(books.execute(&prepared, columns).await?)
}

/// The same, and checks that it changed every row.
async fn change(
    books: &Transaction<'_>,
    statement: &str,
    rows: usize,
    columns: &[&(dyn ToSql + Sync)],
) -> Result<(), StoreError> {
    let changed = run(books, statement, rows, columns).await?;
    if changed == rows as u64 {
        return Ok(());
    }
    // They were looked up behind the lane's lock. Whoever changes them by hand is nobody's writer.
    Err(StoreError::Rejected(format!("{changed} rows were changed, not {rows}")))
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
         ON CONFLICT (user_id, item_id, reservation_id)
         DO UPDATE SET quantity = excluded.quantity",
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
    // A line that is gone already is gone.
    run(
        books,
        "DELETE FROM cart_lines AS c
         USING unnest($1::text[], $2::text[], $3::uuid[]) AS n (user_id, item_id, reservation_id)
         WHERE c.user_id = n.user_id AND c.item_id = n.item_id
           AND c.reservation_id = n.reservation_id",
        lines.len(),
        &[&users, &items, &ids],
    )
    .await?;
    Ok(())
}

async fn write_refunds(books: &Transaction<'_>, digest: &Digest<'_>) -> Result<(), StoreError> {
    let refunds = &digest.refunds;
    let orders: Vec<Uuid> = refunds.iter().map(|refund| id(refund.id)).collect();
    let payments: Vec<_> = refunds.iter().map(|refund| refund.payment.as_str()).collect();
    let sales: Vec<_> = refunds.iter().map(|refund| refund.sale.as_str()).collect();
    let users: Vec<_> = refunds.iter().map(|refund| refund.user.as_str()).collect();
    let amounts: Vec<_> = refunds.iter().map(|refund| number(refund.amount)).collect();
    let currencies: Vec<_> = refunds.iter().map(|refund| refund.currency).collect();
    let at: Vec<_> = refunds.iter().map(|refund| instant(refund.at)).collect();
    run(
        books,
        "INSERT INTO refunds_needed (order_id, payment_ref, sale_id, user_id, amount, currency, at)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int8[],
                              $6::text[], $7::timestamptz[])
         ON CONFLICT DO NOTHING",
        refunds.len(),
        &[&orders, &payments, &sales, &users, &amounts, &currencies, &at],
    )
    .await?;
    Ok(())
}

fn version(standing: Standing) -> i32 {
    i32::try_from(standing.version).unwrap_or(i32::MAX)
}
