//! A lane's journal: an SQLite file that is the lane's outbox and its only durable state.
//!
//! One row is one batch. WAL with `synchronous=FULL`: when `append` returns, the row has been synced.
//! The journal is kept whole; the lane is rebuilt by folding it.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, params};

use crate::crash;
use crate::engine::{Impossible, State};
use crate::outbox::{FoldError, Record, Unreadable, table};
use crate::planted;
use crate::sale::LaneId;
use crate::sqlite::{self, as_sql};

/// Raised when the tables change.
const FORMAT: i64 = 1;
/// The life of an embedded lane. A lane that forgets is not restarted but refused, so there is one.
const EPOCH: u64 = 1;
/// Pages that the WAL gathers before they are moved into the file: 16 MiB.
const CHECKPOINT_PAGES: i64 = 4_096;

/// Appends to, and rebuilds from, one lane's file.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    path: PathBuf,
}

/// Why a journal is not usable.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite or the system below it failed.
    #[error("{path}: {cause}", path = path.display())]
    Sqlite {
        /// Which file.
        path: PathBuf,
        /// In SQLite's words.
        cause: rusqlite::Error,
    },
    /// The file belongs to another data dir, layout or version.
    #[error("{path}: {reason}", path = path.display())]
    Mismatch {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A row is damaged.
    #[error("{path}: {cause}", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which row.
        cause: Unreadable,
    },
    /// Rows contradict each other.
    #[error("{path}: {cause}", path = path.display())]
    Contradiction {
        /// Which file.
        path: PathBuf,
        /// Where.
        cause: Impossible,
    },
}

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no room on the disk. Definitely not written; later it may be.
    #[error("no room for the journal: {0}")]
    Full(rusqlite::Error),
    /// Nobody knows whether it was written. After a failed sync the system may pretend that all is
    /// well, so the file must not be used any further by this process.
    #[error("the journal failed: {0}")]
    Broken(rusqlite::Error),
}

/// The file of a lane in a data dir.
pub fn path(dir: &Path, lane: LaneId) -> PathBuf {
    dir.join(format!("ledger-{lane}.db"))
}

/// How many lanes the ledger of this journal has.
///
/// # Errors
/// In SQLite's words.
pub fn lanes(connection: &Connection) -> rusqlite::Result<u16> {
    connection.query_row("SELECT lanes FROM layout", [], |row| row.get(0))
}

/// The records after `seq`, in order, within both bounds (at least one record, if there is one).
///
/// # Errors
/// In SQLite's words.
pub fn read_after(
    connection: &Connection,
    seq: u64,
    records_max: usize,
    events_max: usize,
) -> rusqlite::Result<Vec<Record>> {
    let mut statement = connection.prepare_cached(
        "SELECT epoch, seq, events, at, payload, crc FROM outbox WHERE seq > ?1 ORDER BY seq",
    )?;
    let mut rows = statement.query([as_sql(seq)])?;
    let mut records = Vec::new();
    let mut events = 0;
    while records.len() < records_max
        && events < events_max
        && let Some(row) = rows.next()?
    {
        let record = table::record_of(row)?;
        events += record.events as usize;
        records.push(record);
    }
    Ok(records)
}

impl Journal {
    /// Opens the file of `lane`, one of `lanes`, or makes it. The data dir's lock must be held.
    ///
    /// # Errors
    /// [`JournalError`] where the file cannot be used or was made for another layout.
    pub fn open(dir: &Path, lane: LaneId, lanes: u16) -> Result<Self, JournalError> {
        let path = path(dir, lane);
        let sqlite = |cause| JournalError::Sqlite { path: path.clone(), cause };
        let connection = Connection::open(&path).map_err(sqlite)?;
        prepare(&connection, lane, lanes).map_err(sqlite)?;
        let journal = Self { connection, path };
        journal.check_layout(lane, lanes)?;
        Ok(journal)
    }

    fn check_layout(&self, lane: LaneId, lanes: u16) -> Result<(), JournalError> {
        let mut query = self
            .connection
            .prepare("SELECT format, lane, lanes FROM layout")
            .map_err(|cause| self.sqlite(cause))?;
        let found: (i64, u16, u16) = query
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .map_err(|cause| self.sqlite(cause))?;
        if found == (FORMAT, lane.0, lanes) {
            return Ok(());
        }
        let reason = format!(
            "made for format {}, lane {} of {}; this gateway runs format {FORMAT}, lane {lane} of \
             {lanes}: set `ledger.lanes` as the data dir was made, or use another data dir",
            found.0, found.1, found.2
        );
        Err(JournalError::Mismatch { path: self.path.clone(), reason })
    }

    /// Appends one record and syncs it.
    ///
    /// # Errors
    /// [`AppendError`] says whether it may have been written all the same.
    pub fn append(&mut self, record: &Record) -> Result<(), AppendError> {
        self.try_append(record).map_err(|cause| match cause.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => {
                // SQLite has rolled back already, or does so here.
                let _ = self.connection.execute_batch("ROLLBACK");
                AppendError::Full(cause)
            }
            _ => AppendError::Broken(cause),
        })
    }

    fn try_append(&mut self, record: &Record) -> rusqlite::Result<()> {
        // A single statement is a transaction of its own.
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO outbox (seq, epoch, events, at, payload, crc) VALUES (?1,?2,?3,?4,?5,?6)",
        )?;
        insert.execute(params![
            as_sql(record.last.seq),
            as_sql(record.last.epoch),
            record.events,
            as_sql(record.at.0),
            record.payload,
            record.crc,
        ])?;
        Ok(())
    }

    /// Rebuilds the lane: folds every record over an untouched state. Each record's checksum, the
    /// numbering and every step are checked.
    ///
    /// # Errors
    /// [`JournalError`] names the first row that cannot be what happened.
    pub fn rebuild(&self) -> Result<State, JournalError> {
        const PAGE: usize = 1_024;
        let mut state = State::new(EPOCH);
        loop {
            let seq = state.position().seq;
            let records = read_after(&self.connection, seq, PAGE, usize::MAX)
                .map_err(|cause| self.sqlite(cause))?;
            if records.is_empty() {
                return Ok(state);
            }
            for record in &records {
                record.fold(&mut state).map_err(|error| self.unfoldable(error))?;
                crash::point("start: half rebuilt");
            }
        }
    }

    fn unfoldable(&self, error: FoldError) -> JournalError {
        let path = self.path.clone();
        match error {
            FoldError::Unreadable(cause) => JournalError::Damaged { path, cause },
            FoldError::Impossible(cause) => JournalError::Contradiction { path, cause },
        }
    }

    fn sqlite(&self, cause: rusqlite::Error) -> JournalError {
        JournalError::Sqlite { path: self.path.clone(), cause }
    }
}

fn prepare(connection: &Connection, lane: LaneId, lanes: u16) -> rusqlite::Result<()> {
    connection.busy_timeout(sqlite::BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synced = if planted::is("sync-left-out") { "OFF" } else { "FULL" };
    connection.pragma_update(None, "synchronous", synced)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS layout (
             format INTEGER NOT NULL,
             lane   INTEGER NOT NULL,
             lanes  INTEGER NOT NULL
         ) STRICT;
         CREATE TABLE IF NOT EXISTS outbox (
             seq     INTEGER PRIMARY KEY, -- of the record's last event
             epoch   INTEGER NOT NULL,
             events  INTEGER NOT NULL,
             at      INTEGER NOT NULL,    -- milliseconds since the Unix epoch
             payload BLOB    NOT NULL,
             crc     INTEGER NOT NULL
         ) STRICT;",
    )?;
    connection.execute(
        "INSERT INTO layout (format, lane, lanes)
         SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM layout)",
        params![FORMAT, lane.0, lanes],
    )?;
    Ok(())
}
