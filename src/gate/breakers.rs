//! The ledger's circuit breakers: one for each lane, for lanes may live on different servers.

use std::sync::Arc;

use super::Denied;
use crate::admission::{Condition, Guard, Guarded, Verdict};
use crate::clock::Clock;
use crate::ledger::{Answer, Health};
use crate::metrics::Metrics;
use crate::sale::LaneId;

/// One guard a lane.
#[derive(Debug)]
pub(super) struct Breakers(Box<[Guard]>);

impl Breakers {
    pub(super) fn new(lanes: u16, clock: &Arc<dyn Clock>, metrics: &Metrics) -> Self {
        let guard =
            |lane| Guard::new("ledger", format!("ledger, lane {lane}"), Arc::clone(clock), metrics);
        Self((0..lanes).map(guard).collect())
    }

    /// # Errors
    /// [`Denied::LedgerUnavailable`] at once, where the lane would be waited for in vain.
    pub(super) fn admit(&self, lane: LaneId) -> Result<Guarded<'_>, Denied> {
        self.of(lane).and_then(Guard::admit).ok_or(Denied::LedgerUnavailable)
    }

    pub(super) fn is_refusing(&self, lane: LaneId) -> bool {
        self.of(lane).is_some_and(Guard::is_refusing)
    }

    /// Where the worst of them is.
    pub(super) fn condition(&self) -> Condition {
        self.0.iter().map(Guard::condition).max().unwrap_or_default()
    }

    /// An id of another layout names a lane that is not here: the ledger asks its first one.
    fn of(&self, lane: LaneId) -> Option<&Guard> {
        self.0.get(usize::from(lane.0)).or(self.0.first())
    }
}

/// What an answer says of a lane. Whoever works and refuses (an inbox or a disk that is full, a lane
/// that is being brought back) says so at once; nobody has to be kept from asking.
pub(super) fn verdict(answer: &Result<Answer, Denied>, health: Health) -> Verdict {
    match answer {
        // Whoever asks too often was told so by the lane.
        Ok(_) | Err(Denied::Refused(_) | Denied::RateLimited(_)) => Verdict::Answered,
        Err(Denied::OutcomeUnknown) => Verdict::Failed,
        Err(Denied::LedgerUnavailable) => match health {
            Health::Down => Verdict::Failed,
            Health::Up | Health::Fenced => Verdict::Mute,
        },
        Err(Denied::Overloaded | Denied::LedgerFenced) => Verdict::Mute,
    }
}
