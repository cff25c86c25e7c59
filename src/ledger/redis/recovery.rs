//! Bringing a lane back to what is known: after Redis was started, failed over, restored or wiped.
//!
//! A server that runs since the lane was last compared is trusted. Any other may have forgotten, so the
//! lane is fenced, by a token that only one gateway has, and compared with the books. If nothing is
//! missing it is opened as it is. Otherwise it is written anew: what the books know, then what has
//! survived in the outbox behind it, under a higher epoch, so that whoever slept through this has no
//! effect any more.

use std::time::Duration;

use redis::{ConnectionLike, RedisError, cmd};
use tracing::{error, info, warn};

use super::keys::Keys;
use super::scripts::{FENCE, FORMAT, REOPEN, RESTORE};
use super::wire::Packer;
use crate::engine::{Position, State};
use crate::limits;
use crate::outbox::stream;
use crate::sale::{LaneId, Status};

/// What remembers a lane when its Redis does not.
pub trait Recall: Send + Sync {
    /// How far the books have a lane. Blocks.
    ///
    /// # Errors
    /// In words, for the log; it is tried again later.
    fn digested(&self, lane: LaneId) -> Result<Position, String>;

    /// The lane as the books know it: everything that they have digested. Blocks.
    ///
    /// # Errors
    /// In words, for the log; it is tried again later.
    fn recall(&self, lane: LaneId) -> Result<State, String>;
}

/// A lane after it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where it is.
    pub position: Position,
    /// It was written anew.
    pub rebuilt: bool,
}

/// Why a lane is not open.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// Somebody else is at it.
    #[error("it is being brought back")]
    Another,
    /// Redis does not answer, or refuses.
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
    /// The books do not answer.
    #[error("the books: {0}")]
    Books(String),
    /// It is of another layout or version: an operator has to decide.
    #[error("{0}")]
    Foreign(String),
}

/// What the lane says of itself.
struct Meta {
    format: Option<String>,
    position: Position,
    now: u64,
    run: Option<String>,
    lanes: Option<u16>,
    fenced: bool,
}

fn read_meta(connection: &mut dyn ConnectionLike, keys: &Keys) -> Result<Meta, RedisError> {
    let fields = ["format", "epoch", "seq", "now", "run", "lanes", "fence"];
    let values: Vec<Option<String>> =
        cmd("HMGET").arg(&keys.meta).arg(&fields).query(connection)?;
    let number = |at: usize| -> u64 {
        values.get(at).and_then(|value| value.as_ref()?.parse().ok()).unwrap_or(0)
    };
    let text = |at: usize| values.get(at).cloned().flatten();
    Ok(Meta {
        format: text(0),
        position: Position { epoch: number(1), seq: number(2) },
        now: number(3),
        run: text(4),
        lanes: text(5).and_then(|lanes| lanes.parse().ok()),
        fenced: text(6).is_some(),
    })
}

/// Looks at a lane through a new connection, and brings it back where need be. `seen` is the furthest
/// position that this gateway knows; `suspect`: the lane itself has said that it is behind.
///
/// # Errors
/// [`Closed`]; the lane stays fenced.
pub fn open(
    connection: &mut dyn ConnectionLike,
    lane: LaneId,
    lanes: u16,
    run: &str,
    seen: Position,
    suspect: bool,
    recall: &dyn Recall,
) -> Result<Opened, Closed> {
    let keys = Keys::of(lane);
    let meta = read_meta(connection, &keys)?;
    if meta.format.as_deref().is_some_and(|format| format != FORMAT) {
        let found = meta.format.unwrap_or_default();
        return Err(Closed::Foreign(format!(
            "lane {lane} is of format {found}, this gateway knows {FORMAT}: run the same version \
             everywhere"
        )));
    }
    if let Some(found) = meta.lanes
        && found != lanes
    {
        return Err(Closed::Foreign(format!(
            "the ledger was made with {found} lanes, and ledger.lanes is {lanes}: set it alike"
        )));
    }
    let books = recall.digested(lane).map_err(Closed::Books)?;
    let trusted = meta.format.is_some() && !meta.fenced && meta.run.as_deref() == Some(run);
    if trusted && !suspect && meta.position >= seen && meta.position.seq >= books.seq {
        return Ok(Opened { position: meta.position, rebuilt: false });
    }
    // Looked at before the fence is taken: whoever cannot mend the lane keeps nobody from it, and the
    // long part is done when the time for the rest begins to count.
    let state = recall.recall(lane).map_err(Closed::Books)?;
    let mut known = Known { books: state.position(), state, entries: Vec::new() };
    known.read_on(connection, &keys.outbox)?;
    known.explains(lane, &meta)?;
    let token = format!("{:016x}", fastrand::u64(..));
    let lease = limits::RECOVERY_LEASE_MS;
    let taken: bool = FENCE.key(&keys.meta).arg(&token).arg(lease).invoke(connection)?;
    if !taken {
        return Err(Closed::Another);
    }
    Recovery { connection, lane, lanes, keys, token, run }.run(seen, known)
}

/// What books and outbox know of a lane together.
struct Known {
    books: Position,
    /// Folded over both.
    state: State,
    /// Entries of the outbox up to there, which whoever reads it may still want.
    entries: Vec<stream::Entry>,
}

impl Known {
    /// Folds what the outbox has behind the books, as far as it follows without a gap.
    fn read_on(&mut self, connection: &mut dyn ConnectionLike, outbox: &str) -> Result<(), Closed> {
        loop {
            let after = self.entries.last().map(|entry| entry.last).unwrap_or_default();
            let page = stream::read(connection, outbox, after, limits::RECOVERY_PAGE)?;
            if page.is_empty() {
                return Ok(());
            }
            for entry in page {
                if entry.last.seq > self.books.seq {
                    let follows = entry.first_seq() == self.state.position().seq.saturating_add(1)
                        && entry.last.epoch >= self.books.epoch;
                    let record = entry.record().and_then(|record| record.decode().ok());
                    let (true, Some(events)) = (follows, record) else { return Ok(()) };
                    self.state.advance(entry.at);
                    for event in &events {
                        self.state.evolve(event).map_err(|bad| Closed::Foreign(bad.to_string()))?;
                    }
                }
                self.entries.push(entry);
            }
        }
    }

    /// A lane that is further than anybody can explain has forgotten nothing: it is these books that
    /// have, or they are another ledger's. It must not be written anew from them.
    fn explains(&self, lane: LaneId, meta: &Meta) -> Result<(), Closed> {
        let (there, known) = (meta.position.seq, self.state.position().seq);
        if meta.format.is_none() || there <= known {
            return Ok(());
        }
        Err(Closed::Foreign(format!(
            "lane {lane} is at event {there}; the books of this data dir and the outbox know {known}: \
             the books are another ledger's, or older than what the outbox keeps"
        )))
    }
}

/// A lane whose fence is ours.
struct Recovery<'r> {
    connection: &'r mut dyn ConnectionLike,
    lane: LaneId,
    lanes: u16,
    keys: Keys,
    token: String,
    run: &'r str,
}

impl Recovery<'_> {
    fn run(mut self, seen: Position, mut known: Known) -> Result<Opened, Closed> {
        let lane = self.lane;
        // Read again: behind the fence nobody changes it any more.
        let meta = read_meta(self.connection, &self.keys)?;
        known.read_on(self.connection, &self.keys.outbox)?;
        known.explains(lane, &meta)?;
        let (books, state) = (known.books, &known.state);
        let intact = meta.format.is_some()
            && meta.position >= seen
            && meta.position.epoch >= books.epoch
            && meta.position.seq == state.position().seq;
        if intact {
            self.reopen(meta.position, meta.now)?;
            info!(%lane, epoch = meta.position.epoch, seq = meta.position.seq, "the lane is whole");
            return Ok(Opened { position: meta.position, rebuilt: false });
        }
        let position = Position {
            epoch: meta.position.epoch.max(books.epoch).max(seen.epoch).saturating_add(1),
            seq: state.position().seq,
        };
        if seen.seq > position.seq {
            error!(%lane, lost = seen.seq - position.seq, "Redis has lost events that were answered");
        }
        self.write(state, &known.entries)?;
        self.reopen(position, state.now().0)?;
        if position.seq > 0 {
            warn!(%lane, epoch = position.epoch, seq = position.seq, "the lane was written anew");
        }
        Ok(Opened { position, rebuilt: true })
    }

    /// Writes the whole lane anew.
    fn write(&mut self, state: &State, entries: &[stream::Entry]) -> Result<(), Closed> {
        let keys = self.keys.clone();
        for key in &keys.all()[1..] {
            self.restore("DEL", key, &[])?;
        }
        let mut sales = Pairs::default();
        let mut definitions = Pairs::default();
        let mut stock = Pairs::default();
        let mut accounts = Pairs::default();
        let mut restocks = Pairs::default();
        let mut touched = Pairs::default();
        for (id, sale) in state.sales() {
            let definition = sale.definition();
            definitions.push(id.as_str(), definition.to_json().to_string().into_bytes());
            let (window, mut packed) = (sale.window(), Packer::default());
            packed.array(8);
            packed.uint(sale.created_at().0);
            packed.instant(window.opens_at);
            packed.instant(window.closes_at);
            packed.flag(window.paused);
            packed.uint(definition.hold_seconds.into());
            packed.limit(definition.per_user_limit);
            packed.text(definition.currency());
            packed.items(definition);
            sales.push(id.as_str(), packed.0);
            for (item, counters) in (1_usize..).zip(sale.counters()) {
                let mut packed = Packer::default();
                packed.array(6);
                packed.uint(counters.stock);
                packed.uint(counters.available);
                packed.uint(counters.held);
                packed.uint(counters.confirmed);
                packed.uint(counters.cancelled_total);
                packed.uint(counters.expired_total);
                stock.push(&format!("{id}/{item}"), packed.0);
            }
            for (user, taken) in sale.users() {
                let taken: Vec<_> = taken.collect();
                let mut packed = Packer::default();
                packed.array(taken.len() * 2);
                for (item, units) in taken {
                    packed.uint(item as u64 + 1);
                    packed.uint(units.into());
                }
                accounts.push(&format!("{id}/{user}"), packed.0);
            }
            for (key, (item, delta)) in sale.restocks() {
                let mut packed = Packer::default();
                packed.array(2);
                packed.uint(item as u64 + 1);
                packed.int(delta);
                restocks.push(&format!("{id}/{key}"), packed.0);
            }
            // Score before member.
            touched.push(&state.position().seq.max(1).to_string(), id.as_str().into());
        }
        let (mut records, mut due) = (Pairs::default(), Pairs::default());
        for reservation in state.reservations() {
            let mut packed = Packer::default();
            packed.record(reservation);
            records.0.push(reservation.id.as_bytes().to_vec());
            records.0.push(packed.0);
            if reservation.status == Status::Held {
                let id = reservation.id.as_bytes().to_vec();
                due.push(&reservation.expires_at.0.to_string(), id);
            }
        }
        for (command, key, pairs) in [
            ("HSET", &keys.definitions, definitions),
            ("HSET", &keys.sales, sales),
            ("HSET", &keys.stock, stock),
            ("HSET", &keys.accounts, accounts),
            ("HSET", &keys.records, records),
            ("ZADD", &keys.due, due),
            ("HSET", &keys.restocks, restocks),
            ("ZADD", &keys.touched, touched),
        ] {
            for chunk in pairs.0.chunks(limits::RECOVERY_PAGE) {
                self.restore(command, key, chunk)?;
            }
        }
        for entry in entries {
            self.restore("XADD", &keys.outbox, &entry.arguments())?;
        }
        Ok(())
    }

    fn restore(&mut self, command: &str, key: &str, values: &[Vec<u8>]) -> Result<(), Closed> {
        let mut call = RESTORE.prepare_invoke();
        call.key(&self.keys.meta).key(key).arg(&self.token).arg(command);
        for value in values {
            call.arg(value);
        }
        let done = call.invoke(self.connection)?;
        ours(done)
    }

    fn reopen(&mut self, position: Position, now: u64) -> Result<(), Closed> {
        let mut call = REOPEN.prepare_invoke();
        call.key(&self.keys.meta).arg(&self.token).arg(FORMAT);
        call.arg(position.epoch).arg(position.seq).arg(now).arg(self.run).arg(self.lanes);
        let done = call.invoke(self.connection)?;
        ours(done)
    }
}

/// A write that was not done: somebody else has taken the fence over.
fn ours(done: bool) -> Result<(), Closed> {
    if done { Ok(()) } else { Err(Closed::Another) }
}

/// Arguments of a command that takes them in pairs.
#[derive(Default)]
struct Pairs(Vec<Vec<u8>>);

impl Pairs {
    fn push(&mut self, first: &str, second: Vec<u8>) {
        self.0.push(first.as_bytes().to_vec());
        self.0.push(second);
    }
}

/// How long to leave a lane alone that could not be opened.
pub fn pause() -> Duration {
    Duration::from_millis(fastrand::u64(limits::REDIS_BACKOFF_MS.0..=limits::REDIS_BACKOFF_MS.1))
}
