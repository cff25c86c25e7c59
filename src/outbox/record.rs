//! One record of the outbox: the events of one batch, in bytes that can be checked.

use crate::clock::Millis;
use crate::engine::{Event, Impossible, Position, State};

/// First byte of a payload. Raised when an event gains a variant or a field.
const FORMAT: u8 = 1;

/// The events of one atomic step of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position of its last event.
    pub last: Position,
    /// How many events it has; the first is number `last.seq - events + 1`.
    pub events: u32,
    /// When it happened, by the ledger's clock.
    pub at: Millis,
    /// The events, encoded.
    pub payload: Vec<u8>,
    /// CRC-32 of everything above.
    pub crc: u32,
}

/// A record that cannot be taken for what it says: damaged, or of a format that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("outbox record {}-{}: {reason}", .at.epoch, .at.seq)]
pub struct Unreadable {
    /// Which record.
    pub at: Position,
    /// What is wrong with it.
    pub reason: String,
}

/// Why a record was not folded over a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// It cannot be taken for what it says, or is not the next one.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It cannot have happened in this state.
    #[error(transparent)]
    Impossible(#[from] Impossible),
}

impl Record {
    /// Encodes `events`, the last of which made the lane reach `last`.
    pub fn of(last: Position, at: Millis, events: &[Event]) -> Self {
        let payload = postcard::to_extend(events, vec![FORMAT]);
        // Safe: postcard fails on types without a length or when the buffer is full; neither is here.
        #[expect(clippy::expect_used, reason = "see above")]
        let payload = payload.expect("events have an encoding");
        let events = u32::try_from(events.len()).unwrap_or(u32::MAX);
        let crc = checksum(last, events, at, &payload);
        Self { last, events, at, payload, crc }
    }

    /// A record that stands for an entry which cannot be read: it never decodes.
    pub fn unreadable(last: Position, events: u32, at: Millis, payload: Vec<u8>) -> Self {
        let crc = !checksum(last, events, at, &payload);
        Self { last, events, at, payload, crc }
    }

    /// Number of the first event.
    pub fn first_seq(&self) -> u64 {
        self.last.seq.saturating_add(1).saturating_sub(u64::from(self.events))
    }

    /// Folds its events over a lane's state. Checksum, numbering and every step are checked.
    ///
    /// # Errors
    /// [`FoldError::Unreadable`] where it is damaged or does not follow, and `state` is what it was;
    /// [`FoldError::Impossible`] where an event contradicts the state, which is then not to be used.
    pub fn fold(&self, state: &mut State) -> Result<(), FoldError> {
        let next = state.position().seq.saturating_add(1);
        if self.first_seq() != next {
            let reason = format!("expected event {next}, found {}", self.first_seq());
            return Err(Unreadable { at: self.last, reason }.into());
        }
        let events = self.decode()?;
        state.advance(self.at);
        for event in &events {
            state.evolve(event)?;
        }
        Ok(())
    }

    /// Checks and decodes.
    ///
    /// # Errors
    /// [`Unreadable`] says what is wrong; no event of the record is to be believed then.
    pub fn decode(&self) -> Result<Vec<Event>, Unreadable> {
        let unreadable = |reason: String| Unreadable { at: self.last, reason };
        if checksum(self.last, self.events, self.at, &self.payload) != self.crc {
            return Err(unreadable("the checksum does not match".to_owned()));
        }
        let (format, bytes) =
            self.payload.split_first().ok_or_else(|| unreadable("it is empty".to_owned()))?;
        if *format != FORMAT {
            return Err(unreadable(format!("format {format} is not known")));
        }
        let events: Vec<Event> =
            postcard::from_bytes(bytes).map_err(|error| unreadable(error.to_string()))?;
        if events.len() != self.events as usize {
            return Err(unreadable(format!("{} events, not {}", events.len(), self.events)));
        }
        Ok(events)
    }
}

fn checksum(last: Position, events: u32, at: Millis, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&last.epoch.to_le_bytes());
    hasher.update(&last.seq.to_le_bytes());
    hasher.update(&events.to_le_bytes());
    hasher.update(&at.0.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// A record with two events, for tests.
#[cfg(test)]
pub(crate) fn sample() -> Record {
    use crate::sale::{IdempotencyKey, ItemId, SaleId};

    let event = Event::Restocked {
        sale: SaleId::parse("s").unwrap(),
        item: ItemId::parse("i").unwrap(),
        delta: -3,
        key: IdempotencyKey::parse("k").unwrap(),
        before: 9,
        reason: "counted".into(),
        actor: "admin".into(),
    };
    Record::of(Position { epoch: 2, seq: 41 }, Millis(7), &[event.clone(), event])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is decoded is what was encoded, and a record knows the numbers of its events.
    #[test]
    fn round_trip() {
        let record = sample();
        assert_eq!(record.first_seq(), 40);
        assert_eq!(record.decode().unwrap().len(), 2);
    }

    /// Every single flipped bit is found, wherever it is.
    #[test]
    fn bit_rot_is_found() {
        let good = sample();
        for bit in 0..good.payload.len() * 8 {
            let mut bad = good.clone();
            bad.payload[bit / 8] ^= 1 << (bit % 8);
            assert!(bad.decode().is_err(), "bit {bit}");
        }
        let moved = Record { last: Position { epoch: 2, seq: 42 }, ..good };
        assert!(moved.decode().is_err(), "a record under another number");
    }
}
