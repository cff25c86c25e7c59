//! Which reservations exist, whoever granted them: what lets a gateway say no without asking.
//!
//! A buyer whose winning answer was lost may ask again at another gateway than the one that granted it.
//! So a gateway tells nobody "sold out" from its own knowledge before it has written down every id
//! that was granted, by whomever, up to the moment at which the last unit was gone. They stand in the
//! outbox; those that are older than what it keeps stand in the lane's records, which are read once.

use redis::{ConnectionLike, RedisError, cmd};

use super::keys::Keys;
use super::wire;
use crate::catalog::Catalog;
use crate::engine::Position;
use crate::limits;
use crate::outbox::stream;
use crate::sale::{ReservationId, SaleId};

/// How far a gateway knows the ids of a lane.
#[derive(Debug, Default)]
pub(super) struct Follower {
    known: Known,
}

#[derive(Clone, Copy, Debug, Default)]
enum Known {
    /// Not at all, or not any more.
    #[default]
    Nothing,
    /// The records are being read; what was granted after `since` is in the outbox.
    Records { since: Position, cursor: u64 },
    /// Every id that was granted until then.
    Through(Position),
}

impl Follower {
    /// Takes one more step towards knowing every id that was granted until `head`; says whether it does.
    /// Blocks for a few calls of Redis.
    ///
    /// # Errors
    /// Redis does not answer; what was known is still.
    pub(super) fn follow(
        &mut self,
        connection: &mut dyn ConnectionLike,
        keys: &Keys,
        catalog: &Catalog,
        head: Position,
    ) -> Result<bool, RedisError> {
        match self.known {
            Known::Nothing => self.known = Known::Records { since: head, cursor: 0 },
            Known::Records { since, cursor } => {
                self.known = match read_records(connection, keys, catalog, cursor)? {
                    Page::More(cursor) => Known::Records { since, cursor },
                    Page::Last => Known::Through(since),
                    Page::Strange => Known::Nothing,
                };
            }
            Known::Through(position) => {
                self.known = match read_on(connection, keys, catalog, position, head)? {
                    Some(position) => Known::Through(position),
                    None => Known::Nothing,
                };
            }
        }
        Ok(matches!(self.known, Known::Through(position) if position.seq >= head.seq))
    }
}

/// What a page of records leaves to do.
enum Page {
    /// Another one, from this cursor.
    More(u64),
    Last,
    /// Something in it belongs to nothing that is known here yet.
    Strange,
}

/// One page of the lane's records, of any age.
fn read_records(
    connection: &mut dyn ConnectionLike,
    keys: &Keys,
    catalog: &Catalog,
    cursor: u64,
) -> Result<Page, RedisError> {
    let mut scan = cmd("HSCAN");
    scan.arg(&keys.records).arg(cursor).arg("COUNT").arg(limits::FOLLOW_PAGE);
    let (next, page): (u64, Vec<Vec<u8>>) = scan.query(connection)?;
    for pair in page.chunks_exact(2) {
        let id: Option<[u8; 16]> = pair[0].as_slice().try_into().ok();
        let known = match (id, wire::sale_of_record(&pair[1])) {
            (Some(id), Ok(sale)) => remember(catalog, &sale, ReservationId::from_bytes(id)),
            (None, _) | (_, Err(_)) => false,
        };
        if !known {
            return Ok(Page::Strange);
        }
    }
    Ok(if next == 0 { Page::Last } else { Page::More(next) })
}

/// What was granted after a position and until `head`: the position of the last. `None` where something
/// is missing in between, or is strange.
fn read_on(
    connection: &mut dyn ConnectionLike,
    keys: &Keys,
    catalog: &Catalog,
    mut after: Position,
    head: Position,
) -> Result<Option<Position>, RedisError> {
    while after.seq < head.seq {
        let page = stream::read(connection, &keys.outbox, after, limits::FOLLOW_PAGE)?;
        if page.is_empty() {
            return Ok(None);
        }
        // Beyond `head` there may be sales that nobody here has heard of.
        for entry in page.iter().take_while(|entry| entry.last.seq <= head.seq) {
            let Ok(granted) = wire::granted(&entry.packed) else { return Ok(None) };
            let follows = entry.first_seq() == after.seq.saturating_add(1);
            if !follows || !granted.into_iter().all(|(sale, id)| remember(catalog, &sale, id)) {
                return Ok(None);
            }
            after = entry.last;
        }
        if page.last().is_some_and(|entry| entry.last.seq > head.seq) {
            break;
        }
    }
    Ok((after.seq == head.seq).then_some(after))
}

fn remember(catalog: &Catalog, sale: &SaleId, id: ReservationId) -> bool {
    catalog.sale(sale.as_str()).map(|card| card.seen.insert(&id)).is_some()
}
