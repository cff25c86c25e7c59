//! What a batch brings: its events, and what cannot be read or digested.

use serde_json::{Value, json};

use super::super::{DeadMark, Digestible};
use crate::clock::Millis;
use crate::engine::{Event, Position};
use crate::outbox::Record;
use crate::sale::LaneId;

/// An event, its number and its instant.
#[derive(Clone, Copy, Debug)]
pub struct Numbered<'b> {
    /// Where it stands in the lane.
    pub position: Position,
    /// When it happened.
    pub at: Millis,
    /// What happened.
    pub event: &'b Event,
}

/// What could not be digested, kept whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event as a record of its own; or the record, where it cannot be read.
    pub record: Record,
    /// What is wrong with it.
    pub reason: String,
}

impl DeadLetter {
    /// As operators see it.
    pub fn to_json(&self, lane: LaneId) -> Value {
        let Record { last, events, at, payload, .. } = &self.record;
        let decoded = self.record.decode();
        let decoded = decoded.ok().and_then(|events| serde_json::to_value(events).ok());
        json!({
            "id": DeadMark { lane, position: *last }.to_string(),
            "at": at.to_string(),
            "reason": self.reason,
            "event_count": events,
            "events": decoded,
            "payload": payload.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        })
    }
}

impl Numbered<'_> {
    /// The event as a dead letter.
    pub fn dead(&self, reason: String) -> DeadLetter {
        let Self { position, at, event } = *self;
        DeadLetter { record: Record::of(position, at, std::slice::from_ref(event)), reason }
    }
}

/// The events of a batch, and its records that cannot be read.
pub fn open(entries: &[Digestible]) -> (Vec<Numbered<'_>>, Vec<DeadLetter>) {
    let (mut events, mut dead) = (Vec::new(), Vec::new());
    for Digestible { record, events: decoded } in entries {
        match decoded {
            Ok(decoded) => events.extend(number(record, decoded)),
            Err(unreadable) => {
                dead.push(DeadLetter { record: record.clone(), reason: unreadable.to_string() });
            }
        }
    }
    (events, dead)
}

/// The events of a record, with their numbers.
pub fn number<'b>(record: &Record, events: &'b [Event]) -> impl Iterator<Item = Numbered<'b>> {
    let (epoch, at) = (record.last.epoch, record.at);
    let numbered = move |(seq, event)| Numbered { position: Position { epoch, seq }, at, event };
    (record.first_seq()..).zip(events).map(numbered)
}
