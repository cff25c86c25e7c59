//! Reading and changing carts.

use deadpool_postgres::{Client, GenericClient, Transaction};
use serde::Deserialize;
use tokio_postgres::Row;

use super::{news, number, whole};
use crate::carts::{Cart, CartChange, CartKey, CartLine, CartRefusal, GoneLine, LineWrite};
use crate::clock::Millis;
use crate::limits;
use crate::orders::lines_of;
use crate::sale::{ItemId, UserId};
use crate::store::StoreError;

/// A line as the query below has it.
#[derive(Deserialize)]
struct Line(String, u64, Option<String>);
/// An order that expired: its id, its lines, and when.
#[derive(Deserialize)]
struct Gone(String, serde_json::Value, u64);

/// The cart as one instant of the books has it: one statement sees one.
pub(super) async fn read(client: &impl GenericClient, user: &UserId) -> Result<Cart, StoreError> {
    let query = client.prepare_cached(&cart_query("$4::text", "")).await?;
    let (seconds, most) = (limits::CART_GONE_MS as f64 / 1e3, limits::CART_GONE_MAX as i64);
    let own = uuid::Uuid::nil();
    cart_of(&client.query_one(&query, &[&own, &seconds, &most, &user.as_str()]).await?)
}

/// The carts of some users, whom `from` makes known; `user` names one of them.
fn cart_query(user: &str, from: &str) -> String {
    format!(
        "SELECT coalesce((SELECT changes FROM carts WHERE user_id = {user}), 0)
                + coalesce((SELECT sum(version) FROM orders WHERE user_id = {user}), 0)::int8,
                (SELECT json_agg(json_build_array(item_id, quantity,
                                                  nullif(reservation_id, $1::uuid))
                                 ORDER BY item_id, reservation_id)
                 FROM cart_lines WHERE user_id = {user})::text,
                (SELECT json_agg(json_build_array(order_id, lines, ms))
                 FROM (SELECT order_id, lines,
                              round(extract(epoch FROM updated_at) * 1000)::int8 AS ms
                       FROM orders
                       WHERE user_id = {user} AND status = 'expired'
                         AND updated_at > now() - make_interval(secs => $2)
                       ORDER BY updated_at DESC LIMIT $3) AS gone)::text,
                {user}
         {from}"
    )
}

fn cart_of(row: &Row) -> Result<Cart, StoreError> {
    let lines: Vec<Line> = list(row.get(1))?;
    let expired: Vec<Gone> = list(row.get(2))?;
    let line = |Line(item, quantity, reservation_id)| CartLine { item, quantity, reservation_id };
    let mut gone = Vec::new();
    for Gone(reservation_id, lines, at) in expired {
        let lines = lines_of(&lines.to_string()).unwrap_or_default();
        gone.extend(lines.into_iter().map(|line| GoneLine {
            item: line.item.to_string(),
            quantity: line.quantity.into(),
            reservation_id: reservation_id.clone(),
            at: Millis(at),
        }));
    }
    Ok(Cart { version: whole(row.get(0)), lines: lines.into_iter().map(line).collect(), gone })
}

fn list<T: for<'d> Deserialize<'d>>(json: Option<&str>) -> Result<Vec<T>, StoreError> {
    let list = serde_json::from_str(json.unwrap_or("[]"));
    list.map_err(|error| StoreError::Failed(format!("a cart of the books: {error}")))
}

/// Locks a user's cart until the transaction ends, so that no other change comes between what is read
/// of it and what is written.
async fn lock(transaction: &Transaction<'_>, user: &UserId) -> Result<(), StoreError> {
    let upsert = transaction
        .prepare_cached(
            "INSERT INTO carts (user_id, changes) VALUES ($1, 0)
             ON CONFLICT (user_id) DO UPDATE SET changes = carts.changes",
        )
        .await?;
    transaction.execute(&upsert, &[&user.as_str()]).await?;
    Ok(())
}

/// One decision: look at the version, change the lines, raise the version.
pub(super) async fn change(
    client: &mut Client,
    user: &UserId,
    expected: Option<u64>,
    change: &CartChange,
    shared: bool,
) -> Result<Result<Cart, CartRefusal>, StoreError> {
    let transaction = client.transaction().await?;
    lock(&transaction, user).await?;
    let before = read(&transaction, user).await?;
    let writes = match before.plan(expected, change) {
        Ok(writes) if writes.is_empty() => return Ok(Ok(before)),
        Ok(writes) => writes,
        Err(refusal) => return Ok(Err(refusal)),
    };
    write(&transaction, user, &writes).await?;
    let after = read(&transaction, user).await?;
    if shared {
        news::tell(&transaction, None, &[CartKey::of(user)]).await?;
    }
    transaction.commit().await?;
    Ok(Ok(after))
}

/// The same with what a guest has in theirs, which is emptied.
pub(super) async fn merge(
    client: &mut Client,
    guest: &UserId,
    user: &UserId,
    expected: Option<u64>,
    shared: bool,
) -> Result<Result<Cart, CartRefusal>, StoreError> {
    let transaction = client.transaction().await?;
    // In one order, whoever merges what: two that wait for each other would wait for ever.
    let (first, second) = if guest < user { (guest, user) } else { (user, guest) };
    lock(&transaction, first).await?;
    lock(&transaction, second).await?;
    let theirs = read(&transaction, guest).await?;
    let before = read(&transaction, user).await?;
    let writes = match before.plan_merge(expected, &theirs) {
        Ok(writes) => writes,
        Err(refusal) => return Ok(Err(refusal)),
    };
    // Clearing is never refused.
    let cleared = theirs.plan(None, &CartChange::Clear).unwrap_or_default();
    if writes.is_empty() && cleared.is_empty() {
        return Ok(Ok(before));
    }
    write(&transaction, user, &writes).await?;
    write(&transaction, guest, &cleared).await?;
    let after = read(&transaction, user).await?;
    if shared {
        news::tell(&transaction, None, &[CartKey::of(guest), CartKey::of(user)]).await?;
    }
    transaction.commit().await?;
    Ok(Ok(after))
}

async fn write(
    transaction: &Transaction<'_>,
    user: &UserId,
    writes: &[LineWrite],
) -> Result<(), StoreError> {
    if writes.is_empty() {
        return Ok(());
    }
    let user = user.as_str();
    let (mut items, mut units, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for write in writes {
        match write {
            LineWrite::Set(item, quantity) => {
                items.push(item.as_str());
                units.push(number(*quantity));
            }
            LineWrite::Remove(item) => gone.push(item.as_str()),
        }
    }
    if !items.is_empty() {
        let set = transaction
            .prepare_cached(
                "INSERT INTO cart_lines (user_id, item_id, quantity)
                 SELECT $1, * FROM unnest($2::text[], $3::int8[])
                 ON CONFLICT (user_id, item_id, reservation_id)
                 DO UPDATE SET quantity = excluded.quantity",
            )
            .await?;
        transaction.execute(&set, &[&user, &items, &units]).await?;
    }
    if !gone.is_empty() {
        let remove = transaction
            .prepare_cached(
                "DELETE FROM cart_lines
                 WHERE user_id = $1 AND item_id = ANY ($2) AND reservation_id = $3",
            )
            .await?;
        transaction.execute(&remove, &[&user, &gone, &uuid::Uuid::nil()]).await?;
    }
    let raise = transaction
        .prepare_cached("UPDATE carts SET changes = changes + 1 WHERE user_id = $1")
        .await?;
    transaction.execute(&raise, &[&user]).await?;
    Ok(())
}

/// Carts into which users themselves put some of these items.
pub(super) async fn with_items(
    client: &Client,
    items: &[ItemId],
    max: usize,
) -> Result<Vec<(UserId, Cart)>, StoreError> {
    let items: Vec<_> = items.iter().map(ItemId::as_str).collect();
    let from = "FROM (SELECT DISTINCT user_id FROM cart_lines
                      WHERE item_id = ANY ($4)
                        AND reservation_id = '00000000-0000-0000-0000-000000000000'
                      LIMIT $5) AS u";
    let (seconds, most) = (limits::CART_GONE_MS as f64 / 1e3, limits::CART_GONE_MAX as i64);
    let (own, max) = (uuid::Uuid::nil(), number(max as u64));
    let query = client.prepare_cached(&cart_query("u.user_id", from)).await?;
    let rows = client.query(&query, &[&own, &seconds, &most, &items, &max]).await?;
    let known = rows.iter().filter_map(|row| Some((UserId::parse(row.get(3)).ok()?, row)));
    known.map(|(user, row)| Ok((user, cart_of(row)?))).collect()
}
