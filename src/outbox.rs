//! The outbox: the ordered record of every change of a lane, appended in the same atomic step as the
//! change itself. A queue that is filled *after* that step loses units when the gateway dies between
//! the two; here there is no between.
//!
//! A lane appends one [`Record`] per batch. Its events are numbered one after the other, so a gap is
//! seen at once, and how far a reader lags is a subtraction.

mod record;
pub mod stream;
pub mod table;

#[cfg(test)]
pub(crate) use record::sample;
pub use record::{FoldError, Record, Unreadable};
pub use stream::OutboxStream;
pub use table::OutboxTable;

use std::future::Future;
use std::pin::Pin;

use tokio::sync::watch;

use crate::engine::Position;
use crate::sale::LaneId;

/// What an outbox answers with.
pub type Reading<'a, T> = Pin<Box<dyn Future<Output = Result<T, OutboxError>> + Send + 'a>>;

/// The outbox could not be read. Nothing is lost: the reader tries again from its cursor.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the outbox of lane {lane}: {cause}")]
pub struct OutboxError {
    /// Which lane.
    pub lane: LaneId,
    /// In the words of the engine below.
    pub cause: String,
}

/// Reads where blocking does no harm; whatever goes wrong is of this lane.
fn reading<'a, T: Send + 'static, E: ToString + Send + 'static>(
    lane: LaneId,
    read: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Reading<'a, T> {
    Box::pin(async move {
        let error = |cause: String| OutboxError { lane, cause };
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|panic| error(panic.to_string()))?.map_err(|cause| error(cause.to_string()))
    })
}

/// The reader's side of the lanes' outboxes.
///
/// Contract: `read` returns whole records in order, beginning with the first that has events after
/// `after`; reading changes nothing and may be repeated from any earlier position that is still kept.
/// Whoever reads after a position has digested what is before it.
pub trait Outbox: Send + Sync {
    /// How many lanes there are.
    fn lanes(&self) -> u16;
    /// The position of each lane's last record; changes ring the reader's bell.
    fn head(&self, lane: LaneId) -> watch::Receiver<Position>;
    /// The records after a position: at most `records_max`, and no further one once `events_max` events
    /// have been read. Empty where there are none.
    fn read(
        &self,
        lane: LaneId,
        after: Position,
        records_max: usize,
        events_max: usize,
    ) -> Reading<'_, Vec<Record>>;
}
