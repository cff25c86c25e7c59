//! The books in memory, used on the caller's own thread: for simulations.

use rusqlite::Connection;

use super::{Archives, archive, dead, digest, lease, schema};
use crate::engine::Position;
use crate::outbox::Record;
use crate::sale::LaneId;
use crate::store::{Batch, Claim, DeadLetter, DeadMark, Digested, Holder, StoreError};

/// Books that end with their owner.
pub(crate) struct Inline(pub(crate) Connection);

impl Inline {
    pub(crate) fn open() -> Self {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "foreign_keys", "ON").unwrap();
        schema::migrations::runner().run(&mut connection).unwrap();
        Self(connection)
    }

    pub(crate) fn cursor(&self, lane: LaneId) -> Result<Position, StoreError> {
        Ok(lease::cursor(&self.0, lane)?)
    }

    pub(crate) fn claim(&mut self, lane: LaneId, holder: Holder) -> Result<Claim, StoreError> {
        lease::claim(&mut self.0, lane, holder)
    }

    pub(crate) fn release(&self, lane: LaneId, holder: Holder) -> Result<(), StoreError> {
        lease::release(&self.0, lane, holder)
    }

    pub(crate) fn digest(&mut self, batch: &Batch) -> Result<Digested, StoreError> {
        digest::digest(&mut self.0, batch, Archives::Yes)
    }

    pub(crate) fn archive(
        &self,
        lane: LaneId,
        seq: u64,
        max: usize,
    ) -> Result<Vec<Record>, StoreError> {
        Ok(archive::read(&self.0, lane, seq, max)?)
    }

    pub(crate) fn dead_letters(
        &self,
        after: Option<DeadMark>,
        max: usize,
    ) -> Result<Vec<(LaneId, DeadLetter)>, StoreError> {
        Ok(dead::page(&self.0, after, max)?)
    }
}
