//! A scenario's file.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::limits::{CONNECTIONS_DEFAULT, PATIENCE_DEFAULT, REQUEST_DEADLINE};
use crate::rig::{Backoff, OpenPlan, Phase, Protocol, Retry};

/// Why a file is no scenario.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// It cannot be read.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// It says something that a scenario does not say.
    #[error("{0}: {1}")]
    Toml(String, Box<toml::de::Error>),
    /// A phase without a rate, or with two.
    #[error("phase {0}: either `rate` or `times`")]
    Rate(String),
    /// A time that no calendar has.
    #[error("opens_after_ms and closes_after_ms: beyond the calendar")]
    Time,
    /// A length that is none.
    #[error("phase {0}: seconds")]
    Seconds(String),
}

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it answers.
    pub question: String,
    /// Requests a second that `times` of a phase is a multiple of; measured where it is not given.
    pub capacity: Option<f64>,
    /// What is sold.
    pub sale: SaleSection,
    /// What the gateway is told.
    #[serde(default)]
    pub gateway: GatewaySpec,
    /// Who comes.
    #[serde(default)]
    pub clients: Clients,
    /// When they come.
    #[serde(rename = "phase")]
    pub phases: Vec<PhaseSpec>,
    /// What must come of it, beside right books.
    #[serde(default)]
    pub expect: Expect,
}

/// What is sold.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaleSection {
    /// Units of each item.
    pub stock: u64,
    /// Items; visitors come for one after the other, in blocks of the same size.
    #[serde(default = "one")]
    pub items: u64,
    /// How long a reservation waits for its payment.
    #[serde(default = "ten_minutes")]
    pub hold_seconds: u64,
    /// Units that one user may take.
    pub per_user_limit: Option<u32>,
    /// It opens so long after it was made known; else at once, by hand.
    pub opens_after_ms: Option<u64>,
    /// It closes so long after it was made known; else never.
    pub closes_after_ms: Option<u64>,
}

fn one() -> u64 {
    1
}

fn ten_minutes() -> u64 {
    600
}

/// What the gateway is told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySpec {
    /// Keys of its configuration, as `--set` takes them.
    #[serde(default)]
    pub set: Vec<String>,
    /// PostgreSQL answers so much later (needs `--postgres`).
    pub store_delay_ms: Option<u64>,
}

impl GatewaySpec {
    pub(super) fn arguments(&self) -> Vec<String> {
        self.set.iter().flat_map(|pair| ["--set".to_owned(), pair.clone()]).collect()
    }
}

/// Who comes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    /// Connections, at most.
    pub connections: usize,
    /// A connection takes more than one request.
    pub keep_alive: bool,
    /// They send an `Idempotency-Key`, the same with every try.
    pub keys: bool,
    /// So many visitors in a row are one person, who asks for the same thing with the same key.
    pub same: u64,
    /// There are so many people; whoever comes after the last is the first again.
    pub people: Option<u64>,
    /// How long they wait for an answer.
    pub deadline_ms: u64,
    /// How long they wait for a connection before they go away.
    pub patience_ms: u64,
    /// What they do without a 201.
    pub retry: RetrySpec,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_DEFAULT,
            keep_alive: true,
            keys: false,
            same: 1,
            people: None,
            deadline_ms: u64::try_from(REQUEST_DEADLINE.as_millis()).unwrap_or(u64::MAX),
            patience_ms: u64::try_from(PATIENCE_DEFAULT.as_millis()).unwrap_or(u64::MAX),
            retry: RetrySpec::default(),
        }
    }
}

/// What those do who get no 201.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySpec {
    /// How often they ask again.
    pub times: u32,
    /// After what: a status, a problem's code, or `unanswered`.
    pub on: Vec<String>,
    /// How long they wait.
    pub backoff: BackoffSpec,
    /// At least as long as `Retry-After` says.
    pub honour_retry_after: bool,
}

impl Default for RetrySpec {
    fn default() -> Self {
        let on = ["503", "429", "unanswered"].map(str::to_owned).to_vec();
        Self { times: 0, on, backoff: BackoffSpec::Polite, honour_retry_after: true }
    }
}

/// How long they wait before they ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackoffSpec {
    /// Not at all.
    None,
    /// At random, up to a bound that doubles.
    Polite,
}

/// A time with a rate of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseSpec {
    /// Its name.
    pub name: String,
    /// How long it lasts.
    pub seconds: f64,
    /// Arrivals a second.
    pub rate: Option<f64>,
    /// The same as a multiple of the capacity.
    pub times: Option<f64>,
}

/// What must come of it, beside right books.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Every unit is sold in the end.
    pub sold_out: bool,
    /// Every hold has run out in the end, and every unit is back.
    pub all_expired: bool,
    /// Nothing was due and never sent: the generator kept up.
    pub nothing_dropped: bool,
    /// Nobody is left without an answer.
    pub all_answered: bool,
    /// 99 of 100 answers 201 of every phase come within this.
    pub accepted_p99_ms: Option<f64>,
    /// In every phase that offers as much, at least this share of the capacity is answered 201.
    pub goodput_of_capacity: Option<f64>,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// It is not there, or no scenario.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path);
        Self::parse(&name, &text.map_err(|bad| ScenarioError::Io(name.clone(), bad))?)
    }

    /// Reads a text; `name` is for the error.
    ///
    /// # Errors
    /// It is no scenario.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let bad = |bad| ScenarioError::Toml(name.to_owned(), Box::new(bad));
        let scenario: Self = toml::from_str(text).map_err(bad)?;
        for phase in &scenario.phases {
            if phase.rate.is_some() == phase.times.is_some() {
                return Err(ScenarioError::Rate(phase.name.clone()));
            }
        }
        Ok(scenario)
    }

    pub(super) fn needs_capacity(&self) -> bool {
        self.phases.iter().any(|phase| phase.times.is_some())
            || self.expect.goodput_of_capacity.is_some()
    }

    /// What the generator is to do.
    ///
    /// # Errors
    /// A phase without a rate or a length.
    pub fn plan(
        &self,
        target: SocketAddr,
        capacity: Option<f64>,
        stretch: f64,
    ) -> Result<OpenPlan, ScenarioError> {
        let clients = &self.clients;
        let phase = |spec: &PhaseSpec| {
            let of_capacity = spec.times.and_then(|times| Some(times * capacity?));
            let rate = spec.rate.or(of_capacity);
            let rate = rate.ok_or_else(|| ScenarioError::Rate(spec.name.clone()))?;
            let time = Duration::try_from_secs_f64(spec.seconds * stretch);
            let time = time.map_err(|_| ScenarioError::Seconds(spec.name.clone()))?;
            Ok(Phase { name: spec.name.clone(), rate, time })
        };
        let retry = &clients.retry;
        Ok(OpenPlan {
            targets: vec![target],
            connections: clients.connections,
            protocol: Protocol::Http1,
            tls: None,
            keep_alive: clients.keep_alive,
            phases: self.phases.iter().map(phase).collect::<Result<_, _>>()?,
            retry: Retry {
                times: retry.times,
                on: retry.on.clone(),
                backoff: match retry.backoff {
                    BackoffSpec::None => Backoff::None,
                    BackoffSpec::Polite => Backoff::POLITE,
                },
                honour_retry_after: retry.honour_retry_after,
            },
            deadline: Duration::from_millis(clients.deadline_ms),
            patience: Duration::from_millis(clients.patience_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Scenario, ScenarioError};

    /// Proves that every file in `scenarios/` is one, and makes a plan that the generator takes.
    #[test]
    fn files_are_scenarios() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut names = Vec::new();
        for file in std::fs::read_dir(dir).unwrap() {
            let path = file.unwrap().path();
            let scenario = Scenario::read(&path).unwrap();
            let target = "127.0.0.1:1".parse().unwrap();
            let plan = scenario.plan(target, Some(1_000.0), 1.0).unwrap();
            assert!(plan.arrivals() > 0 && !scenario.question.is_empty(), "{}", path.display());
            names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
        }
        names.sort();
        let wanted = [
            "duplicate-storm",
            "expiring-holds",
            "last-unit",
            "overload",
            "retry-storm",
            "slow-store",
            "sold-out",
            "spike",
            "steady",
            "window-edges",
        ];
        assert_eq!(names, wanted);
    }

    /// Proves that a key that no scenario has is refused, and a phase without a rate or with two.
    #[test]
    fn refuses_what_it_does_not_know() {
        let parse = |text: &str| Scenario::parse("x", text);
        let phase = |rates: &str| {
            format!(
                "question = 'q'\n[sale]\nstock = 1\n[[phase]]\nname = 'p'\nseconds = 1\n{rates}"
            )
        };
        assert!(parse(&phase("rate = 5")).is_ok());
        assert!(matches!(parse(&phase("")), Err(ScenarioError::Rate(_))));
        assert!(matches!(parse(&phase("rate = 5\ntimes = 2.0")), Err(ScenarioError::Rate(_))));
        assert!(matches!(parse(&phase("rate = 5\nrates = 6")), Err(ScenarioError::Toml(..))));
    }
}
