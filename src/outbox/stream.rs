//! The outbox of a Redis lane: a stream that the scripts append to.
//!
//! An entry's id is `epoch-seq` of its last event. It has the number of its events (`n`), the lane's
//! clock (`t`) and the events (`e`), as `lua/lane.lua` packs them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{ConnectionLike, FromRedisValue, RedisError, Value, cmd};
use tokio::sync::watch;

use super::{Outbox, Reading, Record, reading};
use crate::clock::Millis;
use crate::crash;
use crate::engine::Position;
use crate::ledger::redis::keys::Keys;
use crate::ledger::redis::server::{Connection, Server};
use crate::ledger::redis::wire;
use crate::sale::LaneId;

/// One entry of a stream, as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position of its last event.
    pub last: Position,
    /// How many events it has.
    pub events: u32,
    /// When it happened, by the lane's clock.
    pub at: Millis,
    /// The events, as the scripts pack them.
    pub packed: Vec<u8>,
}

impl Entry {
    /// Number of its first event.
    pub fn first_seq(&self) -> u64 {
        self.last.seq.saturating_add(1).saturating_sub(u64::from(self.events))
    }

    /// The entry as every other outbox has it. `None` where it cannot be read.
    pub fn record(&self) -> Option<Record> {
        let events = wire::events(&self.packed).ok()?;
        (events.len() == self.events as usize).then(|| Record::of(self.last, self.at, &events))
    }

    /// The same; an entry that cannot be read becomes a record that does not decode.
    pub fn into_record(self) -> Record {
        self.record()
            .unwrap_or_else(|| Record::unreadable(self.last, self.events, self.at, self.packed))
    }

    fn of(value: Value) -> Result<Self, RedisError> {
        type Fields = Vec<Vec<u8>>;
        let (id, fields): (String, Fields) = FromRedisValue::from_redis_value(value)?;
        let wrong =
            || RedisError::from((redis::ErrorKind::UnexpectedReturnType, "no outbox entry"));
        let (epoch, seq) = id.split_once('-').ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let field = |name: &[u8]| {
            let at = fields.iter().step_by(2).position(|known| known == name);
            at.and_then(|at| fields.get(at * 2 + 1)).ok_or_else(wrong)
        };
        let text = |name: &[u8]| std::str::from_utf8(field(name)?).map_err(|_| wrong());
        Ok(Self {
            last: Position { epoch: number(epoch)?, seq: number(seq)? },
            events: u32::try_from(number(text(b"n")?)?).map_err(|_| wrong())?,
            at: Millis(number(text(b"t")?)?),
            packed: field(b"e")?.clone(),
        })
    }
}

/// The entries after a position, at most `max`.
///
/// # Errors
/// Redis does not answer, or what stands there is no outbox.
pub fn read(
    connection: &mut dyn ConnectionLike,
    key: &str,
    after: Position,
    max: usize,
) -> Result<Vec<Entry>, RedisError> {
    let after = format!("({}-{}", after.epoch, after.seq);
    let mut range = cmd("XRANGE");
    range.arg(key).arg(after).arg("+").arg("COUNT").arg(max);
    let entries: Vec<Value> = range.query(connection)?;
    entries.into_iter().map(Entry::of).collect()
}

/// Readers of the streams of all lanes.
pub struct OutboxStream {
    lanes: Vec<Arc<Reader>>,
}

struct Reader {
    lane: LaneId,
    server: Arc<Server>,
    key: String,
    head: watch::Receiver<Position>,
    retention: Duration,
    /// Events of an entry, as last seen: so that no more entries are read than are wanted.
    density: AtomicUsize,
    connection: Mutex<Option<Connection>>,
    /// How far the reader was, and when: what is older than the retention is trimmed.
    marks: Mutex<VecDeque<(Instant, Position)>>,
}

/// Entries in one answer of Redis: it is to be whole before the time for it is up.
const ENTRIES_MAX: usize = 256;
/// Marks that are kept: the retention is kept to a fraction of it this fine.
const MARKS: u32 = 16;

impl OutboxStream {
    /// A reader for each lane whose head is given, in order of the lanes. What has been read stays
    /// for `retention`.
    pub fn new(
        server: &Arc<Server>,
        heads: Vec<watch::Receiver<Position>>,
        retention: Duration,
    ) -> Self {
        let reader = |(lane, head): (usize, watch::Receiver<Position>)| {
            let lane = LaneId(u16::try_from(lane).unwrap_or(u16::MAX));
            let key = Keys::of(lane).outbox;
            let (connection, marks) = (Mutex::default(), Mutex::default());
            let (server, density) = (Arc::clone(server), AtomicUsize::new(1));
            Arc::new(Reader { lane, server, key, head, retention, density, connection, marks })
        };
        Self { lanes: heads.into_iter().enumerate().map(reader).collect() }
    }

    fn reader(&self, lane: LaneId) -> &Arc<Reader> {
        // Safe: lane ids come from `lanes()`.
        &self.lanes[usize::from(lane.0)]
    }
}

impl Reader {
    /// Runs on a connection of its own, which is made anew after it has failed.
    fn ask<T>(
        &self,
        question: impl FnOnce(&mut Connection) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let mut kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.server.connect(self.lane)?,
        };
        let answer = question(&mut connection)?;
        *kept = Some(connection);
        Ok(answer)
    }

    fn read(
        &self,
        after: Position,
        records: usize,
        events: usize,
    ) -> Result<Vec<Record>, RedisError> {
        let wanted = events / self.density.load(Ordering::Relaxed).max(1) + 1;
        let wanted = wanted.min(records).min(ENTRIES_MAX);
        let entries = self.ask(|connection| read(connection, &self.key, after, wanted))?;
        if !entries.is_empty() {
            let events: usize = entries.iter().map(|entry| entry.events as usize).sum();
            self.density.store(events / entries.len(), Ordering::Relaxed);
        }
        let mut sum = 0;
        let mut read = Vec::with_capacity(entries.len());
        for entry in entries {
            if sum >= events {
                break;
            }
            sum += entry.events as usize;
            read.push(entry.into_record());
        }
        self.mark(after);
        Ok(read)
    }

    /// Whoever asks for what is after a position has digested what is before it: what was digested
    /// for longer than the retention goes.
    fn mark(&self, digested: Position) {
        let now = Instant::now();
        let due = {
            let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
            let every = self.retention / MARKS;
            if marks.back().is_none_or(|(at, _)| now.duration_since(*at) >= every) {
                marks.push_back((now, digested));
            }
            let old = |mark: &&(Instant, Position)| now.duration_since(mark.0) >= self.retention;
            let due = marks.iter().take_while(old).count();
            marks.drain(..due).next_back()
        };
        if let Some((_, Position { epoch, seq })) = due {
            let first_kept = format!("{epoch}-{}", seq.saturating_add(1));
            let mut trim = cmd("XTRIM");
            trim.arg(&self.key).arg("MINID").arg("~").arg(first_kept);
            crash::point("writer: before the trim");
            // What is not trimmed now is trimmed with the next mark.
            let _ = self.ask(|connection| trim.exec(connection));
            crash::point("writer: trimmed");
        }
    }
}

impl Outbox for OutboxStream {
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
        let reader = Arc::clone(self.reader(lane));
        reading(lane, move || reader.read(after, records_max, events_max))
    }
}
