//! The HTTP front end: two listeners, their limits, their routes, and one answer for every way in
//! which a request can end.
//!
//! The public listener serves buyers ([`public`]), the ops listener operators and probes ([`ops`]), on
//! a thread of its own, so that it answers when the public one is saturated. Both stand on the same
//! server, the same body reader and the same problems.

mod answer;
mod body;
mod caller;
pub mod client;
mod cors;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod key;
pub mod ops;
pub mod problem;
pub mod public;
mod rate;
mod request;
mod server;
mod settings;
mod sound;
pub mod tls;

pub use caller::{Auth, Identity};
pub use client::ClientAddress;
pub use server::{Counts, Service, Tuning, bind, serve};
pub use settings::HttpSettings;
