//! A lane behind a fence: opened as it is, or written anew.

use redis::ConnectionLike;
use tracing::{error, info, warn};

use super::super::keys::Keys;
use super::super::scripts::{FORMAT, REOPEN, RESTORE};
use super::contents::contents;
use super::known::Known;
use super::meta::{Meta, read_meta};
use super::{Closed, Gateway, Opened, Recall};
use crate::clock::{Clock, SystemClock};
use crate::crash;
use crate::engine::{Position, State};
use crate::limits;
use crate::outbox::stream;
use crate::planted;
use crate::sale::LaneId;

/// A lane whose fence is ours.
pub(super) struct Recovery<'r> {
    pub(super) connection: &'r mut dyn ConnectionLike,
    pub(super) lane: LaneId,
    pub(super) gateway: &'r Gateway,
    pub(super) token: String,
    pub(super) keys: Keys,
    pub(super) history: &'r str,
    pub(super) recall: &'r dyn Recall,
}

impl Recovery<'_> {
    /// Brings it back to what is known. `before` is what it said before the fence was taken.
    pub(super) fn run(
        mut self,
        before: &Meta,
        seen: Position,
        mut known: Known,
    ) -> Result<Opened, Closed> {
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
        for (command, key, pairs) in contents(&keys, state) {
            crash::point("recovery: half written");
            let dropped = (key == keys.due && planted::is("deadlines-not-restored"))
                || (key == keys.accounts && planted::is("accounts-not-restored"));
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
        crash::point("recovery: reopened");
        ours(done)
    }
}

/// A write that was not done: somebody else has taken the fence over.
fn ours(done: bool) -> Result<(), Closed> {
    if done { Ok(()) } else { Err(Closed::Another) }
}
