//! Bringing a lane back to what is known: after Redis was started, failed over, restored or wiped.
//!
//! A server that runs since the lane was last compared is trusted. Any other may have forgotten, so the
//! lane is compared with the books, behind a fence that only one gateway has. If nothing is
//! missing it is opened as it is. Otherwise it is written anew: what the books know, then what has
//! survived in the outbox behind it, under a higher epoch, so that whoever slept through this has no
//! effect any more.

use std::collections::{BTreeMap, HashMap};

use redis::{ConnectionLike, RedisError, cmd};
use tracing::{error, info, warn};

use super::keys::Keys;
use super::scripts::{FENCE, FORMAT, REOPEN, RESTORE};
use super::wire::Packer;
use crate::clock::{Clock, Millis, SystemClock};
use crate::crash;
use crate::engine::{Position, State};
use crate::limits;
use crate::outbox::{FoldError, stream};
use crate::planted;
use crate::sale::{LaneId, ReservationId, Status};

/// What remembers a lane when its Redis does not.
pub trait Recall: Send + Sync {
    /// Keeps the books of a lane where they are for as long as the answer lives: takes their lease. Blocks
    /// until nothing is on its way into them.
    ///
    /// # Errors
    /// Another gateway has the lease, or the books do not answer; it is tried again later.
    fn hold(&self, lane: LaneId) -> Result<Box<dyn Send>, String>;

    /// Makes sure that the lease is still ours; says where the books are. Blocks.
    ///
    /// # Errors
    /// It is not, or the books do not answer.
    fn still_holds(&self, lane: LaneId) -> Result<Position, String>;

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
    /// Events that this gateway has seen answered, and that nobody has any more.
    pub lost: u64,
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
    /// The server does not give what is promised.
    #[error("{0}")]
    Unfit(String),
    /// The server makes its append-only file anew.
    #[error("Redis makes its append-only file anew after its start")]
    Rewriting,
    /// It is of another layout or version: an operator has to decide.
    #[error("{0}")]
    Foreign(String),
}

/// What the lane says of itself.
struct Meta {
    format: Option<String>,
    position: Position,
    now: u64,
    /// The history of the server that it was last compared with.
    history: Option<String>,
    lanes: Option<u16>,
    /// Whose fence it has, and since when.
    fence: Option<(String, u64)>,
    /// The seq at which each later life began.
    bases: Vec<(u64, u64)>,
}

fn read_meta(connection: &mut dyn ConnectionLike, keys: &Keys) -> Result<Meta, RedisError> {
    let fields: HashMap<String, String> = cmd("HGETALL").arg(&keys.meta).query(connection)?;
    let number =
        |name: &str| -> u64 { fields.get(name).and_then(|value| value.parse().ok()).unwrap_or(0) };
    let base = |(name, seq): (&String, &String)| {
        Some((name.strip_prefix("base:")?.parse().ok()?, seq.parse().ok()?))
    };
    Ok(Meta {
        format: fields.get("format").cloned(),
        position: Position { epoch: number("epoch"), seq: number("seq") },
        now: number("now"),
        history: fields.get("run").cloned(),
        lanes: fields.get("lanes").and_then(|lanes| lanes.parse().ok()),
        fence: fields.get("fence").map(|token| (token.clone(), number("fence_at"))),
        bases: fields.iter().filter_map(base).collect(),
    })
}

impl Meta {
    /// Whether somebody else is at the lane, and alive.
    fn is_anothers(
        &self,
        gateway: &Gateway,
        connection: &mut dyn ConnectionLike,
    ) -> Result<bool, RedisError> {
        let Some((fence, since)) = &self.fence else { return Ok(false) };
        if gateway.has(fence) {
            return Ok(false);
        }
        let (seconds, _): (u64, u64) = cmd("TIME").query(connection)?;
        let now = seconds.saturating_mul(1_000);
        Ok(now.saturating_sub(*since) < limits::RECOVERY_LEASE_MS)
    }

    /// Refuses books that have events of a life that was given up: the lane went on from an earlier one.
    fn refuse_left(&self, lane: LaneId, books: Position) -> Result<(), Closed> {
        let later = self.bases.iter().filter(|(epoch, _)| *epoch > books.epoch);
        if later.map(|(_, base)| *base).min().is_none_or(|base| books.seq <= base) {
            return Ok(());
        }
        Err(Closed::Foreign(format!(
            "lane {lane} was brought back by another gateway without events up to {}-{}, which the \
             books of this data dir have: reconcile them before it serves again",
            books.epoch, books.seq
        )))
    }
}

/// Whoever looks at lanes.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Its name in fences, which no other gateway has.
    pub name: String,
    /// How many lanes it takes the ledger to have.
    pub lanes: u16,
}

impl Gateway {
    /// The token of one try to bring a lane back. Each has its own: what an earlier one has sent, and what arrives only
    /// now, must not be done between the writes of a later one.
    fn token(&self) -> String {
        let of_this_try = if planted::is("one-token-a-gateway") { 0 } else { fastrand::u64(..) };
        format!("{}-{of_this_try:016x}", self.name)
    }

    /// Whether a fence is of one of its tries. It makes one at a time for each lane.
    fn has(&self, token: &str) -> bool {
        token.strip_prefix(&*self.name).is_some_and(|rest| rest.starts_with('-'))
    }
}

/// Looks at a lane through a new connection to a server of this `history`, and brings it back where
/// need be. `seen` is the furthest position that this gateway knows; `suspect`: the lane itself has said
/// that it is behind.
///
/// # Errors
/// [`Closed`]; the lane stays fenced.
pub fn open(
    connection: &mut dyn ConnectionLike,
    lane: LaneId,
    gateway: &Gateway,
    history: &str,
    seen: Position,
    suspect: bool,
    recall: &dyn Recall,
) -> Result<Opened, Closed> {
    let keys = Keys::of(lane);
    let meta = read_meta(connection, &keys)?;
    if let Some(found) = meta.format.as_ref().filter(|format| *format != FORMAT) {
        return Err(Closed::Foreign(format!(
            "lane {lane} is of format {found}, this gateway knows {FORMAT}: run the same version \
             everywhere"
        )));
    }
    if let Some(found) = meta.lanes.filter(|lanes| *lanes != gateway.lanes) {
        let own = gateway.lanes;
        return Err(Closed::Foreign(format!(
            "the ledger was made with {found} lanes, and ledger.lanes is {own}: set it alike"
        )));
    }
    if meta.is_anothers(gateway, connection)? {
        return Err(Closed::Another);
    }
    let books = recall.digested(lane).map_err(Closed::Books)?;
    meta.refuse_left(lane, books)?;
    let trusted = meta.format.is_some()
        && meta.fence.is_none()
        && (meta.history.as_deref() == Some(history) || planted::is("restart-not-noticed"));
    // What a suspicion was about is over where the lane has begun another life since.
    let suspect = suspect && meta.position.epoch <= seen.epoch;
    let further = meta.position.seq >= books.seq && meta.position.epoch >= books.epoch;
    if trusted && !suspect && meta.position >= seen && further {
        return Ok(Opened { position: meta.position, rebuilt: false, lost: 0 });
    }
    // Nothing may come into the books between what is read of them and what is written from it.
    let _held = if planted::is("books-not-held") {
        Box::new(())
    } else {
        recall.hold(lane).map_err(Closed::Books)?
    };
    crash::point("recovery: books held");
    // Looked at before the fence is taken: whoever cannot mend the lane keeps nobody from it, and the
    // long part is done when the time for the rest begins to count.
    let state = recall.recall(lane).map_err(Closed::Books)?;
    let mut known = Known { books: state.position(), state, entries: Vec::new() };
    known.read_on(connection, &keys.outbox)?;
    known.explains(lane, &meta)?;
    crash::point("recovery: remembered");
    let lease = limits::RECOVERY_LEASE_MS;
    let token = gateway.token();
    let fence = FENCE.key(&keys.meta).arg(&token).arg(&gateway.name).arg(lease).invoke(connection);
    let taken: bool = fence?;
    if !taken {
        return Err(Closed::Another);
    }
    crash::point("recovery: fenced");
    Recovery { connection, lane, gateway, token, keys, history, recall }.run(&meta, seen, known)
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
        if planted::is("outbox-tail-dropped") {
            return Ok(());
        }
        loop {
            let after = self.entries.last().map(|entry| entry.last).unwrap_or_default();
            let page = stream::read(connection, outbox, after, limits::RECOVERY_PAGE)?;
            if page.is_empty() {
                return Ok(());
            }
            for entry in page {
                if entry.last.seq > self.books.seq {
                    if entry.last.epoch < self.books.epoch {
                        return Ok(());
                    }
                    match entry.record().map(|record| record.fold(&mut self.state)) {
                        Some(Ok(())) => {}
                        None | Some(Err(FoldError::Unreadable(_))) => return Ok(()),
                        Some(Err(FoldError::Impossible(bad))) => {
                            return Err(Closed::Foreign(bad.to_string()));
                        }
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
        if there <= known || planted::is("outbox-tail-dropped") {
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
    gateway: &'r Gateway,
    token: String,
    keys: Keys,
    history: &'r str,
    recall: &'r dyn Recall,
}

impl Recovery<'_> {
    fn run(mut self, before: &Meta, seen: Position, mut known: Known) -> Result<Opened, Closed> {
        let lane = self.lane;
        // Read again: behind the fence nobody changes it any more.
        let meta = read_meta(self.connection, &self.keys)?;
        if meta.position.epoch != before.position.epoch {
            // Another has brought it back meanwhile: what was read is of two lives.
            return Err(Closed::Another);
        }
        known.read_on(self.connection, &self.keys.outbox)?;
        known.explains(lane, &meta)?;
        let (books, state) = (known.books, &known.state);
        let intact = meta.format.is_some()
            && meta.position >= seen
            && meta.position.epoch >= books.epoch
            && meta.position.seq == state.position().seq;
        let whole = |position: Position| {
            info!(%lane, epoch = position.epoch, seq = position.seq, "the lane is whole");
            Opened { position, rebuilt: false, lost: 0 }
        };
        let same_server = meta.history.as_deref() == Some(self.history);
        if intact && (same_server || planted::is("life-outlives-server")) {
            self.reopen(meta.position, meta.now, None)?;
            return Ok(whole(meta.position));
        }
        let known_epoch = meta.position.epoch.max(books.epoch).max(seen.epoch);
        let position = Position {
            // Seconds, so that a life which begins where nothing is known of earlier ones is later, too.
            epoch: if planted::is("epoch-not-raised") {
                known_epoch
            } else {
                known_epoch.saturating_add(1).max(SystemClock.now().0 / 1_000)
            },
            seq: state.position().seq,
        };
        if intact {
            // As far as can be seen from here. Another gateway may have been told of more by the server that was there
            // before, and numbers that it knows must not come again in the same life for something else.
            self.reopen(position, meta.now, Some(position.seq))?;
            return Ok(whole(position));
        }
        let lost = seen.seq.saturating_sub(position.seq);
        if lost > 0 {
            error!(%lane, lost, "Redis has lost events that were answered");
        }
        self.write(state, &known.entries)?;
        crash::point("recovery: written");
        // Whatever came into the books meanwhile is not in what was written.
        let there = self.recall.still_holds(lane).map_err(Closed::Books)?;
        if there != books && !planted::is("books-not-held") {
            return Err(Closed::Another);
        }
        self.reopen(position, state.now().0, Some(position.seq))?;
        crash::point("recovery: reopened");
        if position.seq > 0 {
            warn!(%lane, epoch = position.epoch, seq = position.seq, "the lane was written anew");
        }
        Ok(Opened { position, rebuilt: true, lost })
    }

    /// Writes the whole lane anew.
    fn write(&mut self, state: &State, entries: &[stream::Entry]) -> Result<(), Closed> {
        let keys = self.keys.clone();
        // Whatever comes in between, half a lane is none: it has no format until it is reopened.
        self.restore("HDEL", &keys.meta, &[b"format".to_vec()])?;
        for key in &keys.all()[1..9] {
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
            // Score before member; each its own, so that they are reported page by page.
            let score = touched.0.len() / 2 + 1;
            touched.push(&score.to_string(), id.as_str().into());
        }
        let (mut records, mut due) = (Pairs::default(), Pairs::default());
        let mut ends: BTreeMap<Millis, Vec<u8>> = BTreeMap::new();
        for reservation in state.reservations() {
            let mut packed = Packer::default();
            packed.record(reservation);
            records.0.push(reservation.id.as_bytes().to_vec());
            records.0.push(packed.0);
            if reservation.status == Status::Held {
                ends.entry(reservation.expires_at).or_default().extend(reservation.id.as_bytes());
            }
        }
        for (end, ids) in ends {
            for some in ids.chunks(limits::DUE_IDS_MAX * size_of::<ReservationId>()) {
                due.push(&end.0.to_string(), some.to_vec());
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
            crash::point("recovery: half written");
            let dropped = (key == &keys.due && planted::is("deadlines-not-restored"))
                || (key == &keys.accounts && planted::is("accounts-not-restored"));
            if dropped {
                continue;
            }
            for chunk in pairs.0.chunks(limits::RECOVERY_PAGE) {
                self.restore(command, key, chunk)?;
            }
        }
        self.drop_tail(entries)
    }

    /// Takes out of the outbox what does not follow from what is kept. The rest stays where it is: it may
    /// be the only copy of what was answered.
    fn drop_tail(&mut self, kept: &[stream::Entry]) -> Result<(), Closed> {
        let outbox = self.keys.outbox.clone();
        let after = kept.last().map(|entry| entry.last).unwrap_or_default();
        loop {
            let page = stream::read(self.connection, &outbox, after, limits::RECOVERY_PAGE)?;
            if page.is_empty() {
                return Ok(());
            }
            let id = |entry: &stream::Entry| format!("{}-{}", entry.last.epoch, entry.last.seq);
            let ids: Vec<_> = page.iter().map(|entry| id(entry).into_bytes()).collect();
            self.restore("XDEL", &outbox, &ids)?;
        }
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

    fn reopen(&mut self, position: Position, now: u64, base: Option<u64>) -> Result<(), Closed> {
        let mut call = REOPEN.prepare_invoke();
        call.key(&self.keys.meta).arg(&self.token).arg(FORMAT);
        call.arg(position.epoch).arg(position.seq).arg(now).arg(self.history);
        call.arg(self.gateway.lanes).arg(base.map_or(String::new(), |base| base.to_string()));
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
