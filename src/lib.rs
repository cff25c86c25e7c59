//! Floodgate: a flash-sale gateway.
//!
//! The way a request travels is the order in which to read:
//!
//! 1. [`http`]: connections, limits, routes; one answer for every way a request can end.
//! 2. [`gate`]: the hot path without HTTP or SQL. Cheap refusals first, then the ledger.
//! 3. [`ledger`]: lanes, each an inbox whose waiting requests are the next batch, decided by
//!    [`engine`] in one atomic step together with its [`outbox`] record.
//! 4. [`writer`]: drains the outbox into the [`store`], exactly once by construction.
//! 5. [`audit`]: the only code that looks at both ends.
//!
//! [`sale`] holds the words, [`limits`] every bound, [`clock`] the time, and [`app`] wires it all.

pub mod admission;
pub mod app;
pub mod audit;
pub mod carts;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crash;
pub mod engine;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod gate;
pub mod http;
pub mod identity;
pub mod ledger;
pub mod limits;
pub mod logs;
pub mod metrics;
pub mod notes;
pub mod orders;
pub mod outbox;
pub mod pause;
mod planted;
pub mod reconcile;
pub mod runtimes;
pub mod sale;
#[cfg(test)]
mod simulation;
pub mod sqlite;
pub mod store;
pub mod switches;
pub mod sync;
pub mod writer;
