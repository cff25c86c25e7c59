//! The audit log: who did what, each entry chained to the one before it.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde_json::Value;

use crate::clock::{Clock, SystemClock};
use crate::sale::LaneId;
use crate::sqlite::{as_sql, from_sql};
use crate::store::chain::{Entry, Hash, LogRow, NO_LANE, Tip};
use crate::store::digest::LogEntry;
use crate::store::{Note, StoreError};

const COLUMNS: &str = "lane, seq, at, actor, action, sale_id, subject, before, after, reason, link, \
                       previous_hash, hash";

/// Adds what events tell, but for those that came before; says where the chain ends then. Within the
/// transaction that digests, which is alone at the lane.
pub(super) fn write(
    books: &Connection,
    lane: LaneId,
    log: &[LogEntry<'_>],
) -> rusqlite::Result<Option<Tip>> {
    let lane = i64::from(lane.0);
    let mut end = None;
    for entry in log {
        let seq = as_sql(entry.seq);
        let mut known =
            books.prepare_cached("SELECT 1 FROM audit_log WHERE lane = ?1 AND seq = ?2")?;
        if known.exists([lane, seq])? {
            continue;
        }
        let mut tip = end.map_or_else(|| tip(books, lane), Ok)?;
        let (before, after) = (entry.before.to_string(), entry.after.to_string());
        let entry = Entry {
            lane,
            seq,
            at: as_sql(entry.at.0),
            actor: entry.actor,
            action: entry.action,
            sale: entry.sale.as_str(),
            subject: entry.subject.as_deref(),
            before: Some(&before),
            after: Some(&after),
            reason: entry.reason,
        };
        add(books, &mut tip, &entry)?;
        end = Some(tip);
    }
    Ok(end)
}

/// Notes what was done to the books themselves; says where the chain ends then.
pub(super) fn note(transaction: &Transaction<'_>, note: &Note) -> rusqlite::Result<Tip> {
    let (seq, at) = (as_sql(noted(transaction)?.saturating_add(1)), as_sql(SystemClock.now().0));
    let (before, after) = note.documents();
    let entry = Entry::of_books(seq, at, note, &before, after.as_deref());
    let mut tip = tip(transaction, NO_LANE.into())?;
    add(transaction, &mut tip, &entry)?;
    Ok(tip)
}

/// The same as a transaction of its own.
pub(super) fn add_note(books: &mut Connection, entry: &Note) -> Result<(), StoreError> {
    let transaction = books.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tip = note(&transaction, entry)?;
    transaction.commit()?;
    tell(tip);
    Ok(())
}

/// Says where the chain of such notes ends.
pub(super) fn tell(tip: Tip) {
    tip.tell(NO_LANE.into());
}

/// How often something was noted.
pub(super) fn noted(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    let query = "SELECT coalesce(max(seq), 0) FROM audit_log WHERE lane = ?1";
    Ok(from_sql(transaction.query_row(query, [NO_LANE], |row| row.get(0))?))
}

/// Where the chain of a lane ends.
fn tip(books: &Connection, lane: i64) -> rusqlite::Result<Tip> {
    let mut last = books.prepare_cached(
        "SELECT link, hash FROM audit_log WHERE lane = ?1 AND link IS NOT NULL
         ORDER BY link DESC LIMIT 1",
    )?;
    let read_tip = |row: &Row<'_>| Ok(Tip { link: row.get(0)?, hash: hash(row, 1)? });
    if let Some(tip) = last.query_row([lane], read_tip).optional()? {
        return Ok(tip);
    }
    let mut tip = Tip::default();
    let unchained =
        format!("SELECT {COLUMNS} FROM audit_log WHERE lane = ?1 AND link IS NULL ORDER BY seq");
    let mut unchained = books.prepare_cached(&unchained)?;
    for row in unchained.query_map([lane], read)? {
        tip.found(&row?.entry());
    }
    Ok(tip)
}

fn add(books: &Connection, tip: &mut Tip, entry: &Entry<'_>) -> rusqlite::Result<()> {
    let link = tip.add(entry);
    let mut insert = books.prepare_cached(
        "INSERT INTO audit_log (lane, seq, at, actor, action, sale_id, subject, before, after,
                                reason, link, previous_hash, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    insert.execute(params![
        entry.lane,
        entry.seq,
        entry.at,
        entry.actor,
        entry.action,
        entry.sale,
        entry.subject,
        entry.before,
        entry.after,
        entry.reason,
        link.number,
        link.previous.bytes(),
        link.hash.bytes(),
    ])?;
    Ok(())
}

/// Every entry: lane by lane, what stands in front of a chain first, then its links.
pub(crate) fn read_all(books: &Connection, mut each: impl FnMut(LogRow)) -> rusqlite::Result<()> {
    let query = format!("SELECT {COLUMNS} FROM audit_log ORDER BY lane, coalesce(link, 0), seq");
    let mut query = books.prepare(&query)?;
    for row in query.query_map([], read)? {
        each(row?);
    }
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<LogRow> {
    Ok(LogRow {
        lane: row.get(0)?,
        seq: row.get(1)?,
        at: row.get(2)?,
        actor: row.get(3)?,
        action: row.get(4)?,
        sale: row.get(5)?,
        subject: row.get(6)?,
        before: row.get(7)?,
        after: row.get(8)?,
        reason: row.get(9)?,
        link: row.get(10)?,
        previous: hash(row, 11)?,
        hash: hash(row, 12)?,
    })
}

fn hash(row: &Row<'_>, column: usize) -> rusqlite::Result<Hash> {
    Ok(Hash::read(row.get_ref(column)?.as_blob_or_null()?.unwrap_or_default()))
}

/// Newest first, for operators.
pub(super) fn page(
    connection: &Connection,
    skip: usize,
    max: usize,
) -> rusqlite::Result<Vec<Value>> {
    let query = format!(
        "SELECT {COLUMNS} FROM audit_log ORDER BY at DESC, lane, seq DESC LIMIT ?1 OFFSET ?2"
    );
    let mut query = connection.prepare_cached(&query)?;
    let limit = |number| i64::try_from(number).unwrap_or(i64::MAX);
    let entry = |row: &Row<'_>| Ok(read(row)?.to_json());
    query.query_map([limit(max), limit(skip)], entry)?.collect()
}
