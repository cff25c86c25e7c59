//! Whose the writing of a lane's books is: a row of `lanes`, moved in the transaction that digests.

use deadpool_postgres::{Client, Transaction};
use tokio_postgres::Row;

use super::{number, whole};
use crate::engine::Position;
use crate::limits;
use crate::planted;
use crate::sale::LaneId;
use crate::store::{Batch, Claim, Holder, StoreError};

const LEASE: f64 = limits::WRITER_LEASE_MS as f64 / 1_000.0;

fn position(row: &Row) -> Position {
    Position { epoch: whole(row.get(0)), seq: whole(row.get(1)) }
}

/// How far the books have a lane.
pub(super) async fn cursor(client: &Client, lane: LaneId) -> Result<Position, StoreError> {
    let query = client.prepare_cached("SELECT epoch, cursor FROM lanes WHERE lane = $1").await?;
    let row = client.query_opt(&query, &[&i32::from(lane.0)]).await?;
    Ok(row.as_ref().map(position).unwrap_or_default())
}

/// The ledger whose books these are: `ledger`, unless they are another's already.
pub(super) async fn bind(client: &Client, ledger: &str) -> Result<String, StoreError> {
    let insert = "INSERT INTO ledger (name) VALUES ($1) ON CONFLICT DO NOTHING";
    client.execute(insert, &[&ledger]).await?;
    Ok(client.query_one("SELECT name FROM ledger", &[]).await?.get(0))
}

/// The lane's row, locked until the transaction ends; and whether it is free for a holder. A lane that
/// was never digested gets its row here, so that there is something to lock.
async fn lock(
    transaction: &Transaction<'_>,
    lane: LaneId,
    holder: Holder,
) -> Result<(Position, bool), StoreError> {
    let query = transaction
        .prepare_cached(
            "SELECT epoch, cursor,
                    coalesce(holder = $2 OR leased_until < clock_timestamp(), true)
             FROM lanes WHERE lane = $1 FOR UPDATE",
        )
        .await?;
    let lane = i32::from(lane.0);
    let holder = holder.to_string();
    let found = |row: Row| (position(&row), row.get(2));
    if let Some(row) = transaction.query_opt(&query, &[&lane, &holder]).await? {
        return Ok(found(row));
    }
    let insert = transaction
        .prepare_cached(
            "INSERT INTO lanes (lane, epoch, cursor, updated_at) VALUES ($1, 0, 0, now())
             ON CONFLICT DO NOTHING",
        )
        .await?;
    transaction.execute(&insert, &[&lane]).await?;
    Ok(found(transaction.query_one(&query, &[&lane, &holder]).await?))
}

async fn write(
    transaction: &Transaction<'_>,
    lane: LaneId,
    cursor: Position,
    holder: Holder,
) -> Result<(), StoreError> {
    let update = transaction
        .prepare_cached(
            "UPDATE lanes SET epoch = $2, cursor = $3, updated_at = now(), holder = $4,
                              leased_until = clock_timestamp() + make_interval(secs => $5)
             WHERE lane = $1",
        )
        .await?;
    let lane = i32::from(lane.0);
    let (epoch, seq) = (number(cursor.epoch), number(cursor.seq));
    transaction.execute(&update, &[&lane, &epoch, &seq, &holder.to_string(), &LEASE]).await?;
    Ok(())
}

/// Takes or keeps the lease of a lane, where nobody else has it.
pub(super) async fn claim(
    client: &mut Client,
    lane: LaneId,
    holder: Holder,
) -> Result<Claim, StoreError> {
    // Who only looks locks nothing: the lane's writer would wait for it.
    let taken = client
        .prepare_cached(
            "SELECT epoch, cursor FROM lanes
             WHERE lane = $1 AND holder <> $2 AND leased_until >= clock_timestamp()",
        )
        .await?;
    let others = client.query_opt(&taken, &[&i32::from(lane.0), &holder.to_string()]).await?;
    if let Some(row) = others {
        return Ok(Claim { cursor: position(&row), ours: false });
    }
    let transaction = client.transaction().await?;
    let (cursor, ours) = lock(&transaction, lane, holder).await?;
    if ours {
        write(&transaction, lane, cursor, holder).await?;
    }
    transaction.commit().await?;
    Ok(Claim { cursor, ours })
}

/// Gives a lease back before its time.
pub(super) async fn release(
    client: &Client,
    lane: LaneId,
    holder: Holder,
) -> Result<(), StoreError> {
    let update = client
        .prepare_cached(
            "UPDATE lanes SET holder = NULL, leased_until = NULL WHERE lane = $1 AND holder = $2",
        )
        .await?;
    client.execute(&update, &[&i32::from(lane.0), &holder.to_string()]).await?;
    Ok(())
}

/// Locks the lane's row, so that whoever else is at this lane waits, and checks that the batch is next
/// and the lane free for its writer.
pub(super) async fn lock_for(
    transaction: &Transaction<'_>,
    batch: &Batch,
) -> Result<(), StoreError> {
    let (stands, free) = lock(transaction, batch.lane, batch.holder).await?;
    if stands != batch.cursor && !planted::is("cursor-not-compared-in-postgres") {
        return Err(StoreError::Fenced(stands));
    }
    if !free {
        return Err(StoreError::Leased);
    }
    Ok(())
}

/// Moves the cursor of a lane that is locked for the batch to its end, and renews the lease.
pub(super) async fn move_cursor(
    transaction: &Transaction<'_>,
    batch: &Batch,
) -> Result<(), StoreError> {
    write(transaction, batch.lane, batch.end(), batch.holder).await
}
