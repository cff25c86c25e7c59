//! What was digested, kept whole, for a ledger that can forget.

use deadpool_postgres::{Client, Transaction};
use tokio_postgres::Row;

use super::{instant, millis, number, whole};
use crate::engine::Position;
use crate::outbox::Record;
use crate::sale::LaneId;
use crate::store::{Digestible, StoreError};

/// Keeps records, within the transaction that digests them.
pub(super) async fn keep(
    books: &Transaction<'_>,
    lane: LaneId,
    entries: &[Digestible],
) -> Result<(), StoreError> {
    let records: Vec<_> = entries.iter().map(|entry| &entry.record).collect();
    let insert = books
        .prepare_cached(
            "INSERT INTO archive (lane, seq, epoch, events, at, payload, crc)
             SELECT $1, * FROM unnest($2::int8[], $3::int8[], $4::int8[], $5::timestamptz[],
                                      $6::bytea[], $7::int8[])
             ON CONFLICT DO NOTHING",
        )
        .await?;
    let seqs: Vec<_> = records.iter().map(|record| number(record.last.seq)).collect();
    let epochs: Vec<_> = records.iter().map(|record| number(record.last.epoch)).collect();
    let events: Vec<_> = records.iter().map(|record| i64::from(record.events)).collect();
    let at: Vec<_> = records.iter().map(|record| instant(record.at)).collect();
    let payloads: Vec<_> = records.iter().map(|record| &*record.payload).collect();
    let crcs: Vec<_> = records.iter().map(|record| i64::from(record.crc)).collect();
    let lane = i32::from(lane.0);
    books.execute(&insert, &[&lane, &seqs, &epochs, &events, &at, &payloads, &crcs]).await?;
    Ok(())
}

/// The records after `seq`, in order, at most `max`.
pub(super) async fn read(
    client: &Client,
    lane: LaneId,
    seq: u64,
    max: usize,
) -> Result<Vec<Record>, StoreError> {
    let query = client
        .prepare_cached(
            "SELECT epoch, seq, events, at, payload, crc FROM archive
             WHERE lane = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .await?;
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let rows = client.query(&query, &[&i32::from(lane.0), &number(seq), &max]).await?;
    Ok(rows.iter().map(record_of).collect())
}

/// A record of a row of `epoch, seq, events, at, payload, crc`, in this order.
pub(in crate::store) fn record_of(row: &Row) -> Record {
    let small = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    Record {
        last: Position { epoch: whole(row.get(0)), seq: whole(row.get(1)) },
        events: small(row.get(2)),
        at: millis(row.get(3)),
        payload: row.get(4),
        crc: small(row.get(5)),
    }
}
