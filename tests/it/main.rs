//! What Floodgate promises over HTTP and as a process, tested against real gateways.
//!
//! `gateway` starts them inside the test, `binary` starts the real program; both speak through a
//! `shop`, which sends requests with the tests' own client. Every gateway that a test takes down
//! has its books audited then.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says where, by panicking"
)]

mod binary;
mod case;
mod crowd;
mod forgetful_disk;
mod gateway;
mod issuer;
mod patience;
mod prepared;
mod request;
mod shop;

mod admin_endings;
mod admin_roles;
mod admission;
mod attacks;
mod audit_log;
mod backlog;
mod bad_input;
mod bad_reservations;
mod breakers;
mod cart_crowd;
mod carts;
mod chaos;
mod commands;
mod crash;
#[cfg(feature = "crash-points")]
mod crash_points;
mod disk;
mod drain;
mod endings;
mod exact_rates;
mod expiry;
mod faults;
mod handover;
mod identity;
mod latch;
mod limits;
mod listener;
mod log;
mod malformed;
mod ops_api;
mod orders;
mod outages;
mod pages;
mod postgres;
mod power;
mod process;
mod raw_bytes;
mod redis;
mod reload;
mod replays;
mod reservations;
mod restock;
mod sales;
mod shared_rate;
mod startup;
mod stock;
mod switches;
mod sync_order;
mod three_gateways;
mod tls;
mod unread_bodies;
mod windows;
mod writer;
