//! Where a lane's records are read: from its journal, or from the books' archive and the stream behind it.

use std::collections::HashMap;
use std::path::Path;

use redis::cmd;
use rusqlite::Connection;

use super::findings::{Findings, Promise};
use super::fold::Fold;
use super::rule;
use crate::engine::Position;
use crate::ledger::journal;
use crate::ledger::redis::keys::Keys;
use crate::ledger::redis::server::Connection as Redis;
use crate::outbox::{Record, stream};
use crate::sale::{LaneId, ReservationId};
use crate::sqlite;
use crate::store::StoreAt;
use crate::store::snapshot::Snapshot;

/// Records read at once.
const PAGE: usize = 1_024;

/// A lane's records.
pub(super) enum Source {
    /// An embedded lane's.
    Journal(Connection),
    /// None: an embedded lane's journal is not there.
    Lost,
    /// A Redis lane's: what the books keep of it, then what is still on its way to them.
    Redis(Box<Behind>),
}

/// The books' archive, and the stream of what is behind it.
pub(super) struct Behind {
    archive: Snapshot,
    stream: Redis,
    keys: Keys,
}

impl Source {
    pub(super) fn journal(path: &Path) -> Result<Self, String> {
        sqlite::open_reader(path).map(Self::Journal).map_err(|error| error.to_string())
    }

    /// How many lanes the ledger of this journal has.
    pub(super) fn lanes(&self) -> Option<u16> {
        match self {
            Self::Journal(connection) => journal::lanes(connection).ok(),
            Self::Lost | Self::Redis(_) => None,
        }
    }

    /// How many lanes the ledger has that this Redis holds, if it holds one.
    pub(super) fn lanes_in(stream: &mut Redis, lane: LaneId) -> Result<Option<u16>, String> {
        let found = cmd("HGET").arg(Keys::of(lane).meta).arg("lanes").query(stream);
        found.map_err(|error| error.to_string())
    }

    pub(super) fn redis(stream: Redis, lane: LaneId, books: &StoreAt) -> Result<Self, String> {
        let archive = Snapshot::open(books).map_err(|error| error.to_string())?;
        Ok(Self::Redis(Box::new(Behind { archive, stream, keys: Keys::of(lane) })))
    }

    /// The next records of a lane, after a position.
    pub(super) fn after(&mut self, lane: LaneId, last: Position) -> Result<Vec<Record>, String> {
        match self {
            Self::Journal(connection) => {
                journal::read_after(connection, last.seq, PAGE, usize::MAX)
                    .map_err(|error| error.to_string())
            }
            Self::Lost => Ok(Vec::new()),
            Self::Redis(behind) => {
                let Behind { archive, stream, keys } = behind.as_mut();
                let kept = archive.archive(lane, last.seq, PAGE);
                let kept = kept.map_err(|error| error.to_string())?;
                if !kept.is_empty() {
                    return Ok(kept);
                }
                let entries = stream::read(stream, &keys.outbox, last, PAGE);
                let entries = entries.map_err(|error| error.to_string())?;
                Ok(entries.into_iter().map(stream::Entry::into_record).collect())
            }
        }
    }

    /// Lays what Redis says of a lane beside what the lane's events add up to, at one instant.
    pub(super) fn compare(fold: &mut Fold, findings: &mut Findings) -> Result<(), String> {
        let Self::Redis(behind) = &mut fold.source else { return Ok(()) };
        let Behind { stream, keys, .. } = behind.as_mut();
        type Kept = (Option<u64>, Vec<(String, Vec<u8>)>, usize, Vec<(Vec<u8>, u64)>);
        let kept: Result<Kept, _> = redis::pipe()
            .atomic()
            .add_command(cmd("HGET").arg(&keys.meta).arg("seq").clone())
            .add_command(cmd("HGETALL").arg(&keys.stock).clone())
            .add_command(cmd("HLEN").arg(&keys.records).clone())
            .add_command(cmd("ZRANGE").arg(&keys.due).arg(0).arg(-1).arg("WITHSCORES").clone())
            .query(stream);
        let (seq, stock, records, due) = kept.map_err(|error| error.to_string())?;
        let (lane, seq) = (fold.lane, seq.unwrap_or(0));
        let digested = fold.seq();
        findings.look_at_all(
            Promise::Ledger,
            rule(seq >= digested, || {
                format!("lane {lane} is at event {seq}, the books have digested {digested}")
            }),
        );
        if seq < digested {
            return Ok(());
        }
        fold.up_to(Some(seq), findings)?;
        for (field, packed) in stock {
            let Some((sale, place)) = field.rsplit_once('/') else { continue };
            let known = fold.item_at(sale, place);
            let numbers = numbers(&packed);
            let same = known.is_some_and(|(available, item)| {
                numbers.get(..4) == Some(&[item.stock, available, item.held, item.confirmed][..])
            });
            findings.look_at_all(
                Promise::Ledger,
                rule(same, || format!("{field}: Redis counts {numbers:?}, its events {known:?}")),
            );
        }
        let known = fold.reservations.len();
        findings.look_at_all(
            Promise::Ledger,
            rule(records == known, || {
                format!("lane {lane}: Redis has {records} records, its events tell of {known}")
            }),
        );
        // Who has ended stays there until the hold would have.
        let ends: HashMap<ReservationId, u64> =
            due.iter().flat_map(|(ids, end)| ids_of(ids).map(|id| (id, *end))).collect();
        for (id, known) in &fold.reservations {
            if known.status != "pending_payment" {
                continue;
            }
            let (end, expected) = (ends.get(id), known.held.expires_at.0);
            findings.look_at_all(
                Promise::Ledger,
                rule(end == Some(&expected), || {
                    format!("{id} is held until {expected}, and Redis has {end:?} for its end")
                }),
            );
        }
        Ok(())
    }
}

/// The ids of a member of `due`.
fn ids_of(member: &[u8]) -> impl Iterator<Item = ReservationId> {
    member.as_chunks().0.iter().map(|id| ReservationId::from_bytes(*id))
}

fn numbers(packed: &[u8]) -> Vec<i64> {
    let value = rmpv::decode::read_value(&mut &*packed).ok();
    let fields = value.as_ref().and_then(rmpv::Value::as_array);
    fields.into_iter().flatten().filter_map(rmpv::Value::as_i64).collect()
}
