//! Buyers, load and an independent oracle for Floodgate.
//!
//! Four things that share nothing with the product but its public contract:
//!
//! - [`buyers`]: a crowd of people with broken clients, who send twice, ask again, change their
//!   minds and pay; what each of them saw becomes a [`history`];
//! - [`oracle`]: puts that history beside the ledger's counters and the store's tables, and says
//!   whether the promises of the contract were kept;
//! - [`chaos`]: does to real programs what machines, networks and people do to them, and judges;
//! - [`rig`]: load generators, closed and open loop, and [`bare`], the fastest server that could
//!   possibly answer them;
//! - [`scenario`]: an open loop with a purpose, from a file, against a [`gateway`] of its own, and the
//!   oracle afterwards.
//!
//! Start reading at [`buyers::run`] and [`oracle::examine`].

pub mod bare;
pub mod buyers;
pub mod capacity;
pub mod chaos;
pub mod client;
pub mod fault_proxy;
pub mod gateway;
pub mod history;
pub mod limits;
pub mod ops;
pub mod oracle;
pub mod postgres_server;
pub mod progress;
pub mod redis_server;
pub mod rig;
pub mod scenario;
pub mod stop;
pub mod timestamp;
