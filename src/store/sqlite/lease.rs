//! Whose the writing of a lane's books is: a row of `lanes`, moved in the transaction that digests.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use crate::clock::{Clock, Millis, SystemClock};
use crate::engine::Position;
use crate::limits;
use crate::planted;
use crate::sale::LaneId;
use crate::sqlite::{as_sql, from_sql};
use crate::store::{Batch, Claim, Holder, StoreError};

/// A lane as the books have it.
#[derive(Default)]
struct Lane {
    cursor: Position,
    holder: Option<String>,
    leased_until: i64,
}

impl Lane {
    fn read(connection: &Connection, lane: LaneId) -> rusqlite::Result<Self> {
        let mut query = connection.prepare_cached(
            "SELECT epoch, cursor, holder, leased_until FROM lanes WHERE lane = ?1",
        )?;
        let read = |row: &Row<'_>| {
            let cursor = Position { epoch: from_sql(row.get(0)?), seq: from_sql(row.get(1)?) };
            let leased_until: Option<i64> = row.get(3)?;
            Ok(Self { cursor, holder: row.get(2)?, leased_until: leased_until.unwrap_or(0) })
        };
        Ok(query.query_row([lane.0], read).optional()?.unwrap_or_default())
    }

    fn is_free_for(&self, holder: Holder, now: Millis) -> bool {
        let others = self.holder.as_ref().is_some_and(|other| *other != holder.to_string());
        !others || self.leased_until < as_sql(now.0)
    }

    fn write(
        transaction: &Transaction<'_>,
        lane: LaneId,
        cursor: Position,
        holder: Holder,
        now: Millis,
    ) -> rusqlite::Result<()> {
        let mut upsert = transaction.prepare_cached(
            "INSERT INTO lanes (lane, epoch, cursor, updated_at, holder, leased_until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET epoch = excluded.epoch, cursor = excluded.cursor,
                                       updated_at = excluded.updated_at,
                                       holder = excluded.holder,
                                       leased_until = excluded.leased_until",
        )?;
        upsert.execute(params![
            lane.0,
            as_sql(cursor.epoch),
            as_sql(cursor.seq),
            as_sql(now.0),
            holder.to_string(),
            as_sql(now.0.saturating_add(limits::WRITER_LEASE_MS)),
        ])?;
        Ok(())
    }
}

/// The ledger whose books these are: `ledger`, unless they are another's already.
pub(super) fn bind(connection: &Connection, ledger: &str) -> rusqlite::Result<String> {
    connection.execute(
        "INSERT INTO ledger (one, name) VALUES (1, ?1) ON CONFLICT DO NOTHING",
        [ledger],
    )?;
    connection.query_row("SELECT name FROM ledger", [], |row| row.get(0))
}

/// How far the books have a lane.
pub(super) fn cursor(connection: &Connection, lane: LaneId) -> rusqlite::Result<Position> {
    Ok(Lane::read(connection, lane)?.cursor)
}

/// Takes or keeps the lease of a lane, where nobody else has it.
pub(super) fn claim(
    connection: &mut Connection,
    lane: LaneId,
    holder: Holder,
) -> Result<Claim, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = SystemClock.now();
    let known = Lane::read(&transaction, lane)?;
    let (cursor, ours) = (known.cursor, known.is_free_for(holder, now));
    if ours {
        Lane::write(&transaction, lane, cursor, holder, now)?;
    }
    transaction.commit()?;
    Ok(Claim { cursor, ours })
}

/// Gives a lease back before its time.
pub(super) fn release(
    connection: &Connection,
    lane: LaneId,
    holder: Holder,
) -> Result<(), StoreError> {
    let mut update = connection.prepare_cached(
        "UPDATE lanes SET holder = NULL, leased_until = NULL WHERE lane = ?1 AND holder = ?2",
    )?;
    update.execute(params![lane.0, holder.to_string()])?;
    Ok(())
}

/// Ends the leases of whoever wrote before.
pub(super) fn end_all(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE lanes SET holder = NULL WHERE holder IS NOT NULL", [])?;
    Ok(())
}

/// Moves the cursor from where the batch begins to its end, and renews the lease.
pub(super) fn move_cursor(transaction: &Transaction<'_>, batch: &Batch) -> Result<(), StoreError> {
    let now = SystemClock.now();
    let lane = Lane::read(transaction, batch.lane)?;
    if planted::is("cursor-not-compared") {
        return Ok(Lane::write(transaction, batch.lane, batch.end(), batch.holder, now)?);
    }
    if lane.cursor != batch.cursor {
        return Err(StoreError::Fenced(lane.cursor));
    }
    if !lane.is_free_for(batch.holder, now) {
        return Err(StoreError::Leased);
    }
    Ok(Lane::write(transaction, batch.lane, batch.end(), batch.holder, now)?)
}
