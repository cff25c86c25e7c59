//! The embedded outbox: each lane's journal table, read beside the lane that appends to it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Row};
use tokio::sync::watch;

use super::{Outbox, OutboxError, Reading, Record, reading};
use crate::clock::Millis;
use crate::engine::Position;
use crate::ledger::journal;
use crate::sale::LaneId;
use crate::sqlite::{self, from_sql};

/// A record of a row of `epoch, seq, events, at, payload, crc`, in this order.
///
/// # Errors
/// In SQLite's words.
pub fn record_of(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        last: Position { epoch: from_sql(row.get(0)?), seq: from_sql(row.get(1)?) },
        events: row.get(2)?,
        at: Millis(from_sql(row.get(3)?)),
        payload: row.get(4)?,
        crc: row.get(5)?,
    })
}

/// Readers of the journals of all lanes.
pub struct OutboxTable {
    lanes: Vec<Reader>,
}

struct Reader {
    connection: Arc<Mutex<Connection>>,
    head: watch::Receiver<Position>,
}

impl OutboxTable {
    /// Opens a reader for each lane whose head is given, in order of the lanes.
    ///
    /// # Errors
    /// [`OutboxError`] where a journal cannot be opened.
    pub fn open(dir: &Path, heads: Vec<watch::Receiver<Position>>) -> Result<Self, OutboxError> {
        let open = |(lane, head): (usize, watch::Receiver<Position>)| {
            let lane = LaneId(u16::try_from(lane).unwrap_or(u16::MAX));
            let connection = sqlite::open_reader(&journal::path(dir, lane))
                .map_err(|cause| OutboxError { lane, cause: cause.to_string() })?;
            Ok(Reader { connection: Arc::new(Mutex::new(connection)), head })
        };
        Ok(Self { lanes: heads.into_iter().enumerate().map(open).collect::<Result<_, _>>()? })
    }

    fn reader(&self, lane: LaneId) -> &Reader {
        // Safe: lane ids come from `lanes()`.
        &self.lanes[usize::from(lane.0)]
    }
}

impl Outbox for OutboxTable {
    fn lanes(&self) -> u16 {
        u16::try_from(self.lanes.len()).unwrap_or(u16::MAX)
    }

    fn head(&self, lane: LaneId) -> watch::Receiver<Position> {
        self.reader(lane).head.clone()
    }

    fn read(
        &self,
        lane: LaneId,
        after: Position,
        records_max: usize,
        events_max: usize,
    ) -> Reading<'_, Vec<Record>> {
        let connection = Arc::clone(&self.reader(lane).connection);
        reading(lane, move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            journal::read_after(&connection, after.seq, records_max, events_max)
        })
    }
}
