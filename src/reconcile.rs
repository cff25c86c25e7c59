//! The only code, with `audit`, that looks at both ends: ledger and books.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;

use crate::engine::{Position, State};
use crate::ledger::redis::recovery::Recall;
use crate::limits;
use crate::sale::LaneId;
use crate::store::{Holder, Store};
use crate::writer::Underway;

/// Remembers a lane from what the books have kept of its outbox.
pub struct Books {
    store: Arc<dyn Store>,
    underway: Underway,
    holder: Holder,
    runtime: Handle,
}

/// What keeps the books of a lane where they are: nothing of this gateway's is on its way into them, and
/// no other gateway may write them.
struct Held {
    /// This gateway's writer waits for it.
    _underway: OwnedMutexGuard<()>,
    /// Keeps the lease from running out.
    renewal: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // This gateway's writer goes on with the lease, or lets it run out.
        self.renewal.abort();
    }
}

impl Books {
    /// Over a store that keeps what it digests. Within a runtime.
    pub fn new(store: Arc<dyn Store>, underway: Underway, holder: Holder) -> Self {
        Self { store, underway, holder, runtime: Handle::current() }
    }

    /// Waits on a thread that is none of the runtime's.
    fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        #[cfg(test)]
        if crate::simulation::is_driven() {
            return crate::simulation::block_on(answer);
        }
        self.runtime.block_on(answer)
    }

    async fn take(&self, lane: LaneId) -> Result<Held, String> {
        let underway = self.underway.of(lane).lock_owned().await;
        let claim = self.store.claim(lane, self.holder).await;
        if !claim.map_err(|error| error.to_string())?.ours {
            return Err(format!("another gateway writes the books of lane {lane}"));
        }
        let (store, holder) = (Arc::clone(&self.store), self.holder);
        let every = Duration::from_millis(limits::WRITER_LEASE_MS / 4);
        let renewal = tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                // One that fails is followed by another before the lease has run out.
                let _ = store.claim(lane, holder).await;
            }
        });
        Ok(Held { _underway: underway, renewal })
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
    fn hold(&self, lane: LaneId) -> Result<Box<dyn Send>, String> {
        Ok(Box::new(self.wait(self.take(lane))?))
    }

    fn still_holds(&self, lane: LaneId) -> Result<Position, String> {
        let claim = self.wait(self.store.claim(lane, self.holder));
        let claim = claim.map_err(|error| error.to_string())?;
        if claim.ours {
            return Ok(claim.cursor);
        }
        Err(format!("another gateway has taken over the books of lane {lane}"))
    }

    fn digested(&self, lane: LaneId) -> Result<Position, String> {
        self.wait(self.store.cursor(lane)).map_err(|error| error.to_string())
    }

    fn recall(&self, lane: LaneId) -> Result<State, String> {
        self.wait(self.fold(lane))
    }
}
