//! What gateway and scripts say to each other: MessagePack arrays, by position, as the headers of
//! `lua/*.lua` document them.

mod answers;
mod arguments;
mod events;
mod fields;
mod packer;
mod shape;

use std::sync::Arc;

pub use self::answers::{definition, head, outcomes, reports};
pub use self::arguments::{Arguments, rate};
pub use self::events::{events, granted};
#[cfg(test)]
pub use self::fields::is_held;
pub use self::fields::sale_of_record;
pub use self::packer::Packer;
use crate::clock::Millis;
use crate::engine::Position;
use crate::sale::{Counters, ItemCounters, SaleDefinition, SaleId, SaleReport, Window};

/// The script said what this version does not understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the script's answer cannot be read: {0} expected")]
pub struct Unreadable(&'static str);

type Reading<T> = Result<T, Unreadable>;

/// What a call came to, before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was done.
    Done,
    /// The lane was never made, or is forgotten.
    Empty,
    /// It is being recovered.
    Fenced,
    /// Its epoch is another than the caller's.
    Stale,
    /// It has forgotten what the caller has seen.
    Behind,
    /// Its state is of a version that the script does not know.
    Format,
}

/// The beginning of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whether anything was done.
    pub verdict: Verdict,
    /// Where the lane is since.
    pub position: Position,
    /// The lane's clock.
    pub now: Millis,
    /// More holds are due than one call returns.
    pub more: bool,
    /// More sales have changed than one call reports.
    pub full: bool,
    /// Reservations that passed because there was no room to limit their users.
    pub unlimited: u64,
    /// Its first time, where this very call was made before.
    pub made_before: Option<MadeBefore>,
}

/// The first time of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeBefore {
    /// When it was.
    pub at: Millis,
    /// Which of its commands were replays then, from 0 on.
    pub replays: Vec<usize>,
}

/// A sale as its lane has it, without its definition, which never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub sale: SaleId,
    /// When it was created.
    pub created_at: Millis,
    /// As it is now.
    pub window: Window,
    /// In the order of the definition.
    pub counters: Vec<Counters>,
    /// The lane's seq when it last changed; 0 where that was not said.
    pub touched: u64,
}

impl Report {
    fn with(self, definition: &Arc<SaleDefinition>) -> SaleReport {
        let items = definition.items.iter().zip(self.counters);
        SaleReport {
            definition: Arc::clone(definition),
            window: self.window,
            created_at: self.created_at,
            items: items
                .map(|(item, counters)| ItemCounters { item: item.id.clone(), counters })
                .collect(),
        }
    }
}
