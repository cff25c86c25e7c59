//! The audit log: who did what, each entry chained to the one before it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use deadpool_postgres::{Client, Transaction};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::{dead, instant, millis, number, whole};
use crate::sale::LaneId;
use crate::sqlite::as_sql;
use crate::store::chain::{Entry, Hash, Link, LogRow, NO_LANE, Tip};
use crate::store::digest::LogEntry;
use crate::store::{Note, StoreError};

const COLUMNS: &str = "lane, seq, at, actor, action, sale_id, subject, before::text, after::text, \
                       reason, link, previous_hash, hash";

/// Every entry: lane by lane, what stands in front of a chain first, then its links.
pub(crate) fn all() -> String {
    format!("SELECT {COLUMNS} FROM audit_log ORDER BY lane, coalesce(link, 0), seq")
}

/// Adds what events tell, but for those that came before; says where the chain ends then. Within the
/// transaction that digests, which is alone at the lane.
pub(super) async fn write(
    books: &Transaction<'_>,
    lane: LaneId,
    log: &[LogEntry<'_>],
) -> Result<Option<Tip>, StoreError> {
    if log.is_empty() {
        return Ok(None);
    }
    let lane = i32::from(lane.0);
    let seqs: Vec<_> = log.iter().map(|entry| number(entry.seq)).collect();
    let known = "SELECT seq FROM audit_log WHERE lane = $1 AND seq = ANY ($2)";
    let known = books.query(&books.prepare_cached(known).await?, &[&lane, &seqs]).await?;
    let known: BTreeSet<i64> = known.iter().map(|row| row.get(0)).collect();
    let new = log.iter().filter(|entry| !known.contains(&number(entry.seq)));
    let new: Vec<_> =
        new.map(|entry| (entry, entry.before.to_string(), entry.after.to_string())).collect();
    if new.is_empty() {
        return Ok(None);
    }
    let mut tip = tip(books, lane).await?;
    let mut chained = Vec::with_capacity(new.len());
    for (entry, before, after) in &new {
        let at = instant(entry.at);
        let entry = Entry {
            lane: i64::from(lane),
            seq: number(entry.seq),
            at: as_sql(millis(at).0),
            actor: entry.actor,
            action: entry.action,
            sale: entry.sale.as_str(),
            subject: entry.subject.as_deref(),
            before: Some(before),
            after: Some(after),
            reason: entry.reason,
        };
        chained.push((at, entry, tip.add(&entry)));
    }
    add(books, lane, &chained).await?;
    Ok(Some(tip))
}

/// Notes what was done to the books themselves, by whoever does that alone; says where the chain ends then.
pub(super) async fn note(transaction: &Transaction<'_>, note: &Note) -> Result<Tip, StoreError> {
    // What is hashed is what is kept: whole milliseconds.
    let now = transaction.query_one("SELECT date_trunc('milliseconds', now())", &[]).await?;
    let now: SystemTime = now.get(0);
    let seq = number(noted(transaction).await?.saturating_add(1));
    let (before, after) = note.documents();
    let entry = Entry::of_books(seq, as_sql(millis(now).0), note, &before, after.as_deref());
    let mut tip = tip(transaction, NO_LANE).await?;
    let link = tip.add(&entry);
    add(transaction, NO_LANE, &[(now, entry, link)]).await?;
    Ok(tip)
}

/// The same as a transaction of its own.
pub(super) async fn add_note(client: &mut Client, entry: &Note) -> Result<(), StoreError> {
    let transaction = client.transaction().await?;
    dead::settle_alone(&transaction).await?;
    let tip = note(&transaction, entry).await?;
    transaction.commit().await?;
    tell(tip);
    Ok(())
}

/// Says where the chain of such notes ends.
pub(super) fn tell(tip: Tip) {
    tip.tell(NO_LANE.into());
}

/// How often something was noted.
pub(super) async fn noted(transaction: &Transaction<'_>) -> Result<u64, StoreError> {
    let query = "SELECT coalesce(max(seq), 0) FROM audit_log WHERE lane = $1";
    Ok(whole(transaction.query_one(query, &[&NO_LANE]).await?.get(0)))
}

/// Where the chain of a lane ends.
async fn tip(books: &Transaction<'_>, lane: i32) -> Result<Tip, StoreError> {
    let last = books
        .prepare_cached(
            "SELECT link, hash FROM audit_log WHERE lane = $1 AND link IS NOT NULL
             ORDER BY link DESC LIMIT 1",
        )
        .await?;
    if let Some(row) = books.query_opt(&last, &[&lane]).await? {
        return Ok(Tip { link: row.get(0), hash: hash(&row, 1) });
    }
    let mut tip = Tip::default();
    let unchained =
        format!("SELECT {COLUMNS} FROM audit_log WHERE lane = $1 AND link IS NULL ORDER BY seq");
    for row in books.query(&unchained, &[&lane]).await? {
        tip.found(&row_of(&row).entry());
    }
    Ok(tip)
}

/// Adds entries and their links, in one statement however many they are.
async fn add(
    books: &Transaction<'_>,
    lane: i32,
    entries: &[(SystemTime, Entry<'_>, Link)],
) -> Result<(), StoreError> {
    let insert = books
        .prepare_cached(
            "INSERT INTO audit_log (lane, seq, at, actor, action, sale_id, subject, before, after,
                                    reason, link, previous_hash, hash)
             SELECT $1, s, t, ac, an, sa, su, b::json, a::json, r, l, p, h
             FROM unnest($2::int8[], $3::timestamptz[], $4::text[], $5::text[], $6::text[],
                         $7::text[], $8::text[], $9::text[], $10::text[], $11::int8[],
                         $12::bytea[], $13::bytea[])
                  AS n (s, t, ac, an, sa, su, b, a, r, l, p, h)",
        )
        .await?;
    let seqs: Vec<_> = entries.iter().map(|(_, entry, _)| entry.seq).collect();
    let at: Vec<_> = entries.iter().map(|(at, ..)| *at).collect();
    let actors: Vec<_> = entries.iter().map(|(_, entry, _)| entry.actor).collect();
    let actions: Vec<_> = entries.iter().map(|(_, entry, _)| entry.action).collect();
    let sales: Vec<_> = entries.iter().map(|(_, entry, _)| entry.sale).collect();
    let subjects: Vec<_> = entries.iter().map(|(_, entry, _)| entry.subject).collect();
    let before: Vec<_> = entries.iter().map(|(_, entry, _)| entry.before).collect();
    let after: Vec<_> = entries.iter().map(|(_, entry, _)| entry.after).collect();
    let reasons: Vec<_> = entries.iter().map(|(_, entry, _)| entry.reason).collect();
    let links: Vec<_> = entries.iter().map(|(.., link)| link.number).collect();
    let previous: Vec<_> = entries.iter().map(|(.., link)| link.previous.bytes()).collect();
    let hashes: Vec<_> = entries.iter().map(|(.., link)| link.hash.bytes()).collect();
    let columns: [&(dyn ToSql + Sync); 13] = [
        &lane, &seqs, &at, &actors, &actions, &sales, &subjects, &before, &after, &reasons, &links,
        &previous, &hashes,
    ];
    books.execute(&insert, &columns).await?;
    Ok(())
}

/// An entry of [`all`].
pub(crate) fn row_of(row: &Row) -> LogRow {
    LogRow {
        lane: i64::from(row.get::<_, i32>(0)),
        seq: row.get(1),
        at: as_sql(millis(row.get(2)).0),
        actor: row.get(3),
        action: row.get(4),
        sale: row.get(5),
        subject: row.get(6),
        before: row.get(7),
        after: row.get(8),
        reason: row.get(9),
        link: row.get(10),
        previous: hash(row, 11),
        hash: hash(row, 12),
    }
}

fn hash(row: &Row, column: usize) -> Hash {
    Hash::read(row.get::<_, Option<&[u8]>>(column).unwrap_or_default())
}

/// Newest first, for operators.
pub(super) async fn page(
    client: &Client,
    skip: usize,
    max: usize,
) -> Result<Vec<Value>, StoreError> {
    let query = format!(
        "SELECT {COLUMNS} FROM audit_log ORDER BY at DESC, lane, seq DESC LIMIT $1 OFFSET $2"
    );
    let query = client.prepare_cached(&query).await?;
    let rows = client.query(&query, &[&number(max as u64), &number(skip as u64)]).await?;
    Ok(rows.iter().map(|row| row_of(row).to_json()).collect())
}
