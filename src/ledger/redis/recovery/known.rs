//! What is known of a lane without asking it.

use redis::ConnectionLike;

use super::Closed;
use super::meta::Meta;
use crate::engine::{Position, State};
use crate::limits;
use crate::outbox::{FoldError, stream};
use crate::planted;
use crate::sale::LaneId;

/// What books and outbox know of a lane together.
pub(super) struct Known {
    pub(super) books: Position,
    /// Folded over both.
    pub(super) state: State,
    /// Entries of the outbox up to there, which whoever reads it may still want.
    pub(super) entries: Vec<stream::Entry>,
}

impl Known {
    /// Folds what the outbox has behind the books, as far as it follows without a gap.
    pub(super) fn read_on(
        &mut self,
        connection: &mut dyn ConnectionLike,
        outbox: &str,
    ) -> Result<(), Closed> {
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
    pub(super) fn explains(&self, lane: LaneId, meta: &Meta) -> Result<(), Closed> {
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
