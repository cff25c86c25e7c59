//! The words of the trade, as types: what a sale, an item, a reservation and an outcome are.
//!
//! | word | meaning |
//! |---|---|
//! | sale | a campaign: window `[opens_at, closes_at)`, hold time, limits, items |
//! | item | something sold in a sale: price, stock |
//! | unit | one piece of an item |
//! | reservation | units taken by one user: `held` → `confirmed`, `cancelled` or `expired` |
//! | hold | the time for which a reservation waits for its payment |
//!
//! Everything here is a value: no I/O, no clock, no locks. Identifiers are parsed once, at the edge,
//! and are types from then on.

mod definition;
mod ids;
mod outcome;
mod reservation;
mod window;

pub use definition::{Fault, ItemDefinition, SaleDefinition};
pub use ids::{
    IdempotencyKey, InvalidId, ItemId, LaneId, PaymentRef, ReservationId, SaleId, UserId,
};
pub use outcome::{Counters, ItemCounters, Outcome, Refusal, SaleReport};
pub use reservation::{Line, Reservation, Status};
pub use window::{Move, SaleState, Window};
