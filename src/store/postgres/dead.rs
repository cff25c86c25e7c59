//! The dead letters: what could not be digested, and what operators do about it.

use deadpool_postgres::{Client, Transaction};
use tokio_postgres::Row;

use super::{archive, digest, instant, log, news, number};
use crate::engine::Actor;
use crate::sale::LaneId;
use crate::store::chain::Tip;
use crate::store::digest::number as numbered;
use crate::store::{DeadLetter, DeadMark, Digested, Note, Retried, StoreError};

/// "settles" in ASCII.
const SETTLES: i64 = 0x0073_6574_746c_6573;

/// Puts letters aside, within the transaction that digests the others.
pub(super) async fn put_aside(
    books: &Transaction<'_>,
    lane: LaneId,
    dead: &[DeadLetter],
) -> Result<(), StoreError> {
    if dead.is_empty() {
        return Ok(());
    }
    let insert = books
        .prepare_cached(
            "INSERT INTO dead_letters (lane, seq, epoch, events, at, payload, crc, reason)
             SELECT $1, * FROM unnest($2::int8[], $3::int8[], $4::int8[], $5::timestamptz[],
                                      $6::bytea[], $7::int8[], $8::text[])
             ON CONFLICT DO NOTHING",
        )
        .await?;
    let seqs: Vec<_> = dead.iter().map(|letter| number(letter.record.last.seq)).collect();
    let epochs: Vec<_> = dead.iter().map(|letter| number(letter.record.last.epoch)).collect();
    let events: Vec<_> = dead.iter().map(|letter| i64::from(letter.record.events)).collect();
    let at: Vec<_> = dead.iter().map(|letter| instant(letter.record.at)).collect();
    let payloads: Vec<_> = dead.iter().map(|letter| &*letter.record.payload).collect();
    let crcs: Vec<_> = dead.iter().map(|letter| i64::from(letter.record.crc)).collect();
    let reasons: Vec<_> = dead.iter().map(|letter| letter.reason.replace('\0', "")).collect();
    let lane = i32::from(lane.0);
    books
        .execute(&insert, &[&lane, &seqs, &epochs, &events, &at, &payloads, &crcs, &reasons])
        .await?;
    Ok(())
}

/// Letters after a mark, oldest first.
pub(super) async fn page(
    client: &Client,
    after: Option<DeadMark>,
    max: usize,
) -> Result<Vec<(LaneId, DeadLetter)>, StoreError> {
    let query = client
        .prepare_cached(
            "SELECT epoch, seq, events, at, payload, crc, reason, lane FROM dead_letters
             WHERE (lane, epoch, seq) > ($1, $2, $3) ORDER BY lane, epoch, seq LIMIT $4",
        )
        .await?;
    let (lane, epoch, seq) = after.map_or((-1, 0, 0), key);
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let rows = client.query(&query, &[&lane, &epoch, &seq, &max]).await?;
    let lane = |row: &Row| LaneId(u16::try_from(row.get::<_, i32>(7)).unwrap_or(u16::MAX));
    Ok(rows.iter().map(|row| (lane(row), letter(row))).collect())
}

fn letter(row: &Row) -> DeadLetter {
    DeadLetter { record: archive::record_of(row), reason: row.get(6) }
}

/// Digests a letter after all, if it no longer contradicts the books.
pub(super) async fn retry(
    client: &mut Client,
    mark: DeadMark,
    actor: &Actor,
    shared: bool,
) -> Result<Option<Retried>, StoreError> {
    let transaction = client.transaction().await?;
    let Some(letter) = find(&transaction, mark).await? else { return Ok(None) };
    let events = match letter.record.decode() {
        Ok(events) => events,
        Err(unreadable) => return Ok(Some(Retried::Refused(unreadable.to_string()))),
    };
    let events: Vec<_> = numbered(&letter.record, &events).collect();
    let mut done = Digested::default();
    let dead = match digest::take(&transaction, mark.lane, &events, &mut done).await {
        Ok(dead) => dead.into_iter().next().map(|dead| dead.reason),
        Err(StoreError::Rejected(reason)) => Some(reason),
        Err(error) => return Err(error),
    };
    if let Some(reason) = dead {
        return Ok(Some(Retried::Refused(reason)));
    }
    let tip = remove(&transaction, mark, "retry dead letter", &letter, actor).await?;
    if shared {
        news::tell(&transaction, None, &done.carts).await?;
    }
    transaction.commit().await?;
    if let Some(tip) = &done.logged {
        tip.tell(i64::from(mark.lane.0));
    }
    log::tell(tip);
    Ok(Some(Retried::Digested(done.carts)))
}

/// Gives a letter up.
pub(super) async fn drop(
    client: &mut Client,
    mark: DeadMark,
    actor: &Actor,
) -> Result<bool, StoreError> {
    let transaction = client.transaction().await?;
    let Some(letter) = find(&transaction, mark).await? else { return Ok(false) };
    let tip = remove(&transaction, mark, "drop dead letter", &letter, actor).await?;
    transaction.commit().await?;
    log::tell(tip);
    Ok(true)
}

/// A letter, which nobody else settles until the transaction ends; nor is its lane written meanwhile.
async fn find(
    transaction: &Transaction<'_>,
    mark: DeadMark,
) -> Result<Option<DeadLetter>, StoreError> {
    let (lane, epoch, seq) = key(mark);
    settle_alone(transaction).await?;
    transaction.execute("SELECT FROM lanes WHERE lane = $1 FOR UPDATE", &[&lane]).await?;
    let query = transaction
        .prepare_cached(
            "SELECT epoch, seq, events, at, payload, crc, reason FROM dead_letters
             WHERE lane = $1 AND epoch = $2 AND seq = $3 FOR UPDATE",
        )
        .await?;
    Ok(transaction.query_opt(&query, &[&lane, &epoch, &seq]).await?.as_ref().map(letter))
}

async fn remove(
    transaction: &Transaction<'_>,
    mark: DeadMark,
    action: &'static str,
    letter: &DeadLetter,
    actor: &Actor,
) -> Result<Tip, StoreError> {
    let (lane, epoch, seq) = key(mark);
    transaction
        .execute(
            "DELETE FROM dead_letters WHERE lane = $1 AND epoch = $2 AND seq = $3",
            &[&lane, &epoch, &seq],
        )
        .await?;
    let note = Note::of_books(actor, action, &mark.to_string(), letter.to_json(mark.lane));
    log::note(transaction, &note).await
}

/// Until the transaction ends nobody else settles letters or mends the books: each gets the next number
/// of the log, and looks at what the others did. Comes before every other lock.
pub(super) async fn settle_alone(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&SETTLES]).await?;
    Ok(())
}

fn key(mark: DeadMark) -> (i32, i64, i64) {
    (i32::from(mark.lane.0), number(mark.position.epoch), number(mark.position.seq))
}
