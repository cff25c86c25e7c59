//! What was digested, kept whole, for a ledger that can forget.

use rusqlite::{Connection, params};

use crate::outbox::{Record, table};
use crate::sale::LaneId;
use crate::sqlite::as_sql;

/// Keeps one record, within the transaction that digests it.
pub(super) fn keep(connection: &Connection, lane: LaneId, record: &Record) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO archive (lane, seq, epoch, events, at, payload, crc)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
    )?;
    insert.execute(params![
        lane.0,
        as_sql(record.last.seq),
        as_sql(record.last.epoch),
        record.events,
        as_sql(record.at.0),
        record.payload,
        record.crc,
    ])?;
    Ok(())
}

/// The records after `seq`, in order, at most `max`.
///
/// # Errors
/// In SQLite's words.
pub fn read(
    connection: &Connection,
    lane: LaneId,
    seq: u64,
    max: usize,
) -> rusqlite::Result<Vec<Record>> {
    let mut query = connection.prepare_cached(
        "SELECT epoch, seq, events, at, payload, crc FROM archive
         WHERE lane = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let rows =
        query.query_map(params![lane.0, as_sql(seq), as_sql(max as u64)], table::record_of)?;
    rows.collect()
}
