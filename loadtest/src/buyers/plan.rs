//! What a crowd is told before it goes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::limits::{
    BACKOFF_MAX_DEFAULT, CONNECTIONS_DEFAULT, CONNECTIONS_MAX, LINES_MAX, REQUEST_DEADLINE,
    TRIES_MAX_DEFAULT, WAVES_MAX_DEFAULT,
};
use crate::ops::OpsAccess;
use crate::progress::ProgressFn;
use crate::stop::StopFlag;

/// Who comes, for what, and how they behave.
#[derive(Clone, Debug)]
pub struct CrowdPlan {
    /// The public listener.
    pub target: SocketAddr,
    /// The ops listener: with it winners pay, and the crowd sees exactly what is left.
    pub ops: Option<OpsAccess>,
    /// The sale.
    pub sale: String,
    /// The items; a buyer wants one of them, or the first few in one basket.
    pub items: Vec<String>,
    /// How many buyers.
    pub users: u64,
    /// The number of the first one, so that a second crowd can be made of others.
    pub first_user: u64,
    /// Buyers are called by this prefix and their number.
    pub user_prefix: String,
    /// Connections that they share.
    pub connections: usize,
    /// Units of an item in one reservation.
    pub quantity: u32,
    /// The order of the crowd and everybody's habits follow from it.
    pub seed: u64,
    /// How a buyer says who they are.
    pub identity: Identity,
    /// What they do besides buying.
    pub habits: Habits,
    /// How often and for how long they try.
    pub patience: Patience,
    /// All standing winners pay before the crowd goes home (needs `ops`).
    pub settle: bool,
    /// Several gateways share the ledger, each a moment behind the others: which of two requests was the first, and
    /// whether a winner may have been told "sold out", is then for the oracle to say, which knows the times.
    pub shared: bool,
    /// Go home at the first sign that the server is gone, instead of trying again.
    pub stop_on_disconnect: bool,
}

/// Where the user and the key stand in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Headers `X-User-Id` and `Idempotency-Key`.
    Header,
    /// `user_id` and `idempotency_key` in the JSON body.
    Body,
}

/// Shares of the buyers, each between 0 and 1, that do more than buy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Habits {
    /// Sends the same request twice, half of them at once on two connections, half in a row.
    pub duplicate_ratio: f64,
    /// Repeats a finished request with the same key: the answer has to be the same to the byte.
    pub retry_ratio: f64,
    /// Uses the key again with another body: has to be refused.
    pub reuse_ratio: f64,
    /// Reads the reservation right after winning, and a stranger tries to read it.
    pub look_ratio: f64,
    /// A winner cancels.
    pub cancel_ratio: f64,
    /// A winner who did not cancel pays at once; the others at the end, if the plan settles.
    pub confirm_ratio: f64,
    /// Wants two items in one request (where the sale has two).
    pub basket_ratio: f64,
}

impl Habits {
    /// Buyers who buy and do nothing else.
    pub const PLAIN: Self = Self {
        duplicate_ratio: 0.0,
        retry_ratio: 0.0,
        reuse_ratio: 0.0,
        look_ratio: 0.0,
        cancel_ratio: 0.0,
        confirm_ratio: 0.0,
        basket_ratio: 0.0,
    };
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            duplicate_ratio: 0.10,
            retry_ratio: 0.10,
            reuse_ratio: 0.02,
            look_ratio: 0.05,
            cancel_ratio: 0.05,
            confirm_ratio: 0.70,
            basket_ratio: 0.10,
        }
    }
}

/// How often and for how long buyers try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Sendings of one request, the first included.
    pub tries_max: u32,
    /// The longest wait between two of them.
    pub backoff_max: Duration,
    /// How long a buyer waits for an answer.
    pub deadline: Duration,
    /// Second chances after the burst.
    pub waves_max: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries_max: TRIES_MAX_DEFAULT,
            backoff_max: BACKOFF_MAX_DEFAULT,
            deadline: REQUEST_DEADLINE,
            waves_max: WAVES_MAX_DEFAULT,
        }
    }
}

/// What the one who sends the crowd wants to see and to hold in hand.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// Ends the crowd early.
    pub stop: StopFlag,
    /// Told how far the crowd is.
    pub progress: Option<ProgressFn>,
    /// Appends the history to a file as it happens.
    pub history_file: Option<PathBuf>,
    /// Syncs that file after every line.
    pub history_sync: bool,
}

/// Why a plan makes no sense.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BadPlan {
    /// Nobody, nothing or no way to go.
    #[error("{0} must be at least 1")]
    Nothing(&'static str),
    /// More than the contract or this machine allows.
    #[error("{0} must be at most {1}")]
    TooMany(&'static str, usize),
    /// A share that is none.
    #[error("{0} must lie between 0 and 1")]
    Ratio(&'static str),
}

impl CrowdPlan {
    /// A plan with everything else at its default: 128 connections, one unit each, identity in
    /// headers, usual habits, no payments.
    #[must_use]
    pub fn new(target: SocketAddr, sale: &str, items: &[&str], users: u64) -> Self {
        Self {
            target,
            ops: None,
            sale: sale.to_owned(),
            items: items.iter().map(|&item| item.to_owned()).collect(),
            users,
            first_user: 0,
            user_prefix: "u".to_owned(),
            connections: CONNECTIONS_DEFAULT,
            quantity: 1,
            seed: 1,
            identity: Identity::Header,
            habits: Habits::default(),
            patience: Patience::default(),
            settle: true,
            shared: false,
            stop_on_disconnect: false,
        }
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    ///
    /// The first thing that makes none.
    pub fn check(&self) -> Result<(), BadPlan> {
        let counts = [
            ("users", self.users == 0),
            ("connections", self.connections == 0),
            ("items", self.items.is_empty()),
            ("quantity", self.quantity == 0),
            ("tries_max", self.patience.tries_max == 0),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, nothing)| *nothing) {
            return Err(BadPlan::Nothing(name));
        }
        if self.connections > CONNECTIONS_MAX {
            return Err(BadPlan::TooMany("connections", CONNECTIONS_MAX));
        }
        if self.items.len() > LINES_MAX {
            return Err(BadPlan::TooMany("items", LINES_MAX));
        }
        let ratios = [
            ("duplicate_ratio", self.habits.duplicate_ratio),
            ("retry_ratio", self.habits.retry_ratio),
            ("reuse_ratio", self.habits.reuse_ratio),
            ("look_ratio", self.habits.look_ratio),
            ("cancel_ratio", self.habits.cancel_ratio),
            ("confirm_ratio", self.habits.confirm_ratio),
            ("basket_ratio", self.habits.basket_ratio),
        ];
        match ratios.iter().find(|(_, ratio)| !(0.0..=1.0).contains(ratio)) {
            Some((name, _)) => Err(BadPlan::Ratio(name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BadPlan, CrowdPlan};

    /// Proves that a sensible plan passes, and that each kind of nonsense is named.
    #[test]
    fn checks_plans() {
        let plan = CrowdPlan::new(([127, 0, 0, 1], 1).into(), "s", &["i"], 10);
        assert_eq!(plan.check(), Ok(()));
        let mut bad = plan.clone();
        bad.users = 0;
        assert_eq!(bad.check(), Err(BadPlan::Nothing("users")));
        let mut bad = plan.clone();
        bad.connections = 1_000_000;
        assert!(matches!(bad.check(), Err(BadPlan::TooMany("connections", _))));
        let mut bad = plan;
        bad.habits.cancel_ratio = f64::NAN;
        assert_eq!(bad.check(), Err(BadPlan::Ratio("cancel_ratio")));
    }
}
