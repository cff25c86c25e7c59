//! Bringing a lane back to what is known: after Redis was started, failed over, restored or wiped.
//!
//! A server that runs since the lane was last compared is trusted. Any other may have forgotten, so the
//! lane is compared with the books, behind a fence that only one gateway has. If nothing is
//! missing it is opened as it is. Otherwise it is written anew: what the books know, then what has
//! survived in the outbox behind it, under a higher epoch, so that whoever slept through this has no
//! effect any more.

mod contents;
mod fenced;
mod known;
mod meta;

use redis::{ConnectionLike, RedisError};

use self::fenced::Recovery;
use self::known::Known;
use self::meta::{Meta, read_meta};

use super::keys::Keys;
use super::scripts::{FENCE, FORMAT};
use crate::crash;
use crate::engine::{Position, State};
use crate::limits;
use crate::planted;
use crate::sale::LaneId;

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
    /// Another thread of this gateway is at it.
    #[error("another thread of this gateway looks at it")]
    Colleague,
    /// Another gateway is at it.
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

/// What a gateway knows when it looks at a lane.
#[derive(Clone, Copy, Debug)]
pub struct Looks<'l> {
    /// The history of the server.
    pub history: &'l str,
    /// The furthest position that the gateway knows.
    pub seen: Position,
    /// The lane itself has said that it is behind.
    pub suspect: bool,
    /// In which life it has laid the lane beside the books already, on a server of this history.
    pub compared: Option<u64>,
}

/// Looks at a lane through a new connection, and brings it back where need be. The books are asked unless they were
/// in this life of the lane on this server: those who buy do not wait for a database that is away.
///
/// # Errors
/// [`Closed`]; the lane stays fenced.
pub fn open(
    connection: &mut dyn ConnectionLike,
    lane: LaneId,
    gateway: &Gateway,
    Looks { history, seen, suspect, compared }: Looks<'_>,
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
    let whole = |meta: &Meta| {
        meta.format.is_some()
            && meta.fence.is_none()
            && (meta.history.as_deref() == Some(history) || planted::is("restart-not-noticed"))
            // What a suspicion was about is over where the lane has begun another life since.
            && !(suspect && meta.position.epoch <= seen.epoch)
            && meta.position >= seen
    };
    let opened = |position| Ok(Opened { position, rebuilt: false, lost: 0 });
    if whole(&meta) && compared == Some(meta.position.epoch) {
        return opened(meta.position);
    }
    let books = recall.digested(lane).map_err(Closed::Books)?;
    // Read again: a lane that others sell from has gone on, and the books with it.
    let meta = read_meta(connection, &keys)?;
    meta.refuse_left(lane, books)?;
    if whole(&meta) && meta.position.seq >= books.seq && meta.position.epoch >= books.epoch {
        return opened(meta.position);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that each try to bring a lane back has a token of its own, which is its gateway's and nobody else's:
    /// what an earlier try has sent, and what arrives only now, is refused by the fence of a later one.
    #[test]
    fn tokens_of_tries() {
        let [own, other] = ["ann", "ann2"].map(|name| Gateway { name: name.into(), lanes: 1 });
        let (first, second) = (own.token(), own.token());
        assert_ne!(first, second);
        assert!(own.has(&first) && own.has(&second) && !other.has(&first));
    }
}
