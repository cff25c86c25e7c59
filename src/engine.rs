//! The pure engine: what a lane knows, and the one function that changes it.
//!
//! `apply(state, now, command, events) -> Outcome` does no I/O, reads no clock and draws no random
//! numbers: the same commands at the same times give the same outcomes and the same events, always.
//! It is the specification in code. The embedded ledger runs it, the property tests use it as their
//! model, and other ledgers are proven equal to it.
//!
//! Every command is decided in two strokes: first everything is *checked* against the state
//! (`decide/*`), then what was decided is written as [`Event`]s, and the events alone change the
//! state ([`State::evolve`]). Rebuilding a lane from its journal runs the second stroke only, so a
//! restart cannot decide anything differently.

mod command;
mod decide;
mod event;
#[cfg(test)]
pub(crate) mod proof;
mod shards;
mod state;

pub use command::{Authority, Command, OrderedLine, Reserve};
pub use decide::apply;
pub use event::{Actor, Event, Return};
pub use state::{Impossible, Position, SaleRecord, State};
