//! The only code, with `audit`, that looks at both ends: ledger and books.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::engine::{Position, State};
use crate::ledger::redis::recovery::Recall;
use crate::limits;
use crate::sale::LaneId;
use crate::store::Store;
use crate::writer::Underway;

/// Remembers a lane from what the books have kept of its outbox.
pub struct Books {
    store: Arc<dyn Store>,
    underway: Underway,
    runtime: Handle,
}

impl Books {
    /// Over a store that keeps what it digests. Within a runtime.
    pub fn new(store: Arc<dyn Store>, underway: Underway) -> Self {
        Self { store, underway, runtime: Handle::current() }
    }

    async fn fold(&self, lane: LaneId) -> Result<State, String> {
        let cursor = self.store.cursor(lane).await.map_err(|error| error.to_string())?;
        let mut state = State::new(cursor.epoch);
        while state.position().seq < cursor.seq {
            let from = state.position().seq;
            let records = self.store.archive(lane, from, limits::RECOVERY_PAGE).await;
            let records = records.map_err(|error| error.to_string())?;
            for record in &records {
                record.fold(&mut state).map_err(|error| format!("lane {lane}: {error}"))?;
            }
            if state.position().seq == from {
                return Err(format!(
                    "lane {lane}: the books have digested up to event {}, and their archive ends at \
                     {from}: they were not made with this ledger",
                    cursor.seq
                ));
            }
        }
        Ok(state)
    }
}

impl Recall for Books {
    fn hold(&self, lane: LaneId) -> Box<dyn Send> {
        Box::new(self.runtime.block_on(self.underway.of(lane).lock_owned()))
    }

    fn digested(&self, lane: LaneId) -> Result<Position, String> {
        self.runtime.block_on(self.store.cursor(lane)).map_err(|error| error.to_string())
    }

    fn recall(&self, lane: LaneId) -> Result<State, String> {
        self.runtime.block_on(self.fold(lane))
    }
}
