//! The dead letters: what could not be digested, and what operators do about it.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::digest::take;
use super::log;
use crate::engine::Actor;
use crate::outbox::table;
use crate::sale::LaneId;
use crate::sqlite::as_sql;
use crate::store::chain::Tip;
use crate::store::digest::number;
use crate::store::{DeadLetter, DeadMark, Digested, Note, Retried, StoreError};

/// Puts letters aside, within the transaction that digests the others.
pub(super) fn put_aside(
    books: &Connection,
    lane: LaneId,
    dead: &[DeadLetter],
) -> rusqlite::Result<()> {
    let mut insert = books.prepare_cached(
        "INSERT INTO dead_letters (lane, seq, epoch, reason, payload, at, events, crc)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
    )?;
    for DeadLetter { record, reason } in dead {
        insert.execute(params![
            lane.0,
            as_sql(record.last.seq),
            as_sql(record.last.epoch),
            reason,
            record.payload,
            as_sql(record.at.0),
            record.events,
            record.crc
        ])?;
    }
    Ok(())
}

/// Letters after a mark, oldest first.
pub(super) fn page(
    books: &Connection,
    after: Option<DeadMark>,
    max: usize,
) -> rusqlite::Result<Vec<(LaneId, DeadLetter)>> {
    let mut query = books.prepare_cached(
        "SELECT epoch, seq, events, at, payload, crc, reason, lane FROM dead_letters
         WHERE (lane, epoch, seq) > (?1, ?2, ?3) ORDER BY lane, epoch, seq LIMIT ?4",
    )?;
    let (lane, epoch, seq) = after.map_or((-1, 0, 0), |mark| {
        let DeadMark { lane, position } = mark;
        (i64::from(lane.0), as_sql(position.epoch), as_sql(position.seq))
    });
    let letter = |row: &Row<'_>| Ok((LaneId(row.get(7)?), read(row)?));
    query.query_map(params![lane, epoch, seq, as_sql(max as u64)], letter)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter { record: table::record_of(row)?, reason: row.get(6)? })
}

/// Digests a letter after all, if it no longer contradicts the books.
pub(super) fn retry(
    connection: &mut Connection,
    mark: DeadMark,
    actor: &Actor,
) -> Result<Option<Retried>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some(letter) = find(&transaction, mark)? else { return Ok(None) };
    let events = match letter.record.decode() {
        Ok(events) => events,
        Err(unreadable) => return Ok(Some(Retried::Refused(unreadable.to_string()))),
    };
    let numbered: Vec<_> = number(&letter.record, &events).collect();
    let mut done = Digested::default();
    let dead = match take(&transaction, mark.lane, &numbered, &mut done) {
        Ok(dead) => dead.into_iter().next().map(|dead| dead.reason),
        Err(StoreError::Rejected(reason)) => Some(reason),
        Err(error) => return Err(error),
    };
    if let Some(reason) = dead {
        return Ok(Some(Retried::Refused(reason)));
    }
    let tip = remove(&transaction, mark, "retry dead letter", &letter, actor)?;
    transaction.commit()?;
    if let Some(tip) = &done.logged {
        tip.tell(i64::from(mark.lane.0));
    }
    log::tell(tip);
    Ok(Some(Retried::Digested(done.carts)))
}

/// Gives a letter up.
pub(super) fn drop(
    connection: &mut Connection,
    mark: DeadMark,
    actor: &Actor,
) -> Result<bool, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some(letter) = find(&transaction, mark)? else { return Ok(false) };
    let tip = remove(&transaction, mark, "drop dead letter", &letter, actor)?;
    transaction.commit()?;
    log::tell(tip);
    Ok(true)
}

fn find(transaction: &Transaction<'_>, mark: DeadMark) -> rusqlite::Result<Option<DeadLetter>> {
    let mut query = transaction.prepare_cached(
        "SELECT epoch, seq, events, at, payload, crc, reason FROM dead_letters
         WHERE lane = ?1 AND epoch = ?2 AND seq = ?3",
    )?;
    query.query_row(key(mark), read).optional()
}

fn remove(
    transaction: &Transaction<'_>,
    mark: DeadMark,
    action: &'static str,
    letter: &DeadLetter,
    actor: &Actor,
) -> rusqlite::Result<Tip> {
    transaction
        .prepare_cached("DELETE FROM dead_letters WHERE lane = ?1 AND epoch = ?2 AND seq = ?3")?
        .execute(key(mark))?;
    let note = Note::of_books(actor, action, &mark.to_string(), letter.to_json(mark.lane));
    log::note(transaction, &note)
}

fn key(mark: DeadMark) -> [i64; 3] {
    [i64::from(mark.lane.0), as_sql(mark.position.epoch), as_sql(mark.position.seq)]
}
