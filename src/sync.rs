//! What threads share, in one place: the same names for the types that run and for those that loom
//! looks into.
//!
//! `floodgate_loom` is set by the package `loom/` alone, for itself: it compiles the files that stand
//! on this one once more, over loom's types and stand-ins, and tries every order of their steps. It is
//! a name of our own since `loom` strips tokio.

#[cfg(floodgate_loom)]
pub use crate::stand_ins::{ArcSwap, Mutex, OnceLock, atomic, channel};

#[cfg(not(floodgate_loom))]
pub use std::sync::{Mutex, OnceLock, atomic};

#[cfg(not(floodgate_loom))]
pub use arc_swap::ArcSwap;
#[cfg(not(floodgate_loom))]
pub use crossbeam::channel;
