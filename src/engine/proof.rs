//! Proof of the engine: random sequences of commands, judged by a model that counts lists.
//!
//! | file | what it proves |
//! |---|---|
//! | `properties` | every answer, event and counter is what the model says; a second time changes nothing |
//! | `auditor` | what can be told from the events alone: no oversell, one ending, one return, one refund |
//! | `rebuild` | events alone give the same state back; damaged journals are refused or stay conserved |
//! | `codec` | every event survives its encoding, whose bytes do not change by accident |
//! | `examples` | the traps, by name |
//!
//! `PROPTEST_CASES` says how long to look. What was once found is looked for again
//! (`proptest-regressions/`).

pub(crate) mod auditor;
mod codec;
pub(crate) mod commands;
mod examples;
mod model;
mod properties;
mod rebuild;
pub(crate) mod run;
pub(crate) mod world;
