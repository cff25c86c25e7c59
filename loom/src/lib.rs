//! The product's own files, once more, over loom's types: what its threads share, in every order of
//! their steps.
//!
//! The models are in `tests/`. What they run of the product is compiled from the product's files; only
//! what stands in [`stand_ins`], [`metrics`] and [`ledger`] here is not the product's.

#![allow(
    clippy::len_without_is_empty,
    dead_code,
    missing_docs,
    reason = "most of what these files offer is not asked for here"
)]

pub mod explore;
pub mod stand_ins;

use product::planted;
pub use product::{admission, catalog, clock, engine, ledger, limits, runtimes, sale, sync};

#[path = "../../src"]
mod product {
    /// What can be refused, but for the token buckets.
    pub mod admission {
        mod breaker;
        mod card;
        mod guard;

        pub use breaker::{Breaker, Change, Condition, Pass, Verdict};
        pub use card::check_sale;
        pub use guard::{Guard, Guarded};
    }
    pub mod catalog;
    pub mod clock;
    pub mod engine;
    pub mod limits;
    pub(crate) mod planted;
    pub mod runtimes;
    pub mod sale;
    pub mod sync;

    /// What a lane's inbox needs of the ledger.
    pub mod ledger {
        pub mod lane;
        mod pace;

        /// Stands for an outcome and its position.
        #[derive(Debug)]
        pub struct Answer;

        /// As in the product.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            Overloaded,
            Unavailable,
            Fenced,
            Unknown,
        }

        /// As in the product.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Knowledge {
            pub seq: u64,
            pub now: crate::clock::Millis,
        }

        /// As in the product.
        pub type Pending = tokio::sync::oneshot::Receiver<Result<Answer, Fault>>;
    }
}

/// Nothing is counted here.
pub mod metrics {
    #[derive(Debug)]
    pub struct Metrics;

    impl Metrics {
        pub fn counter(&self, _: &'static str, _: &[(&'static str, String)]) -> ::metrics::Counter {
            ::metrics::Counter::noop()
        }
    }
}
