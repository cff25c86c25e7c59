//! Real programs under real faults: gateways, Redis, PostgreSQL and buyers, and whatever a seed does to
//! them.
//!
//! A run is a sequence of rounds, each a sale of its own. In a round buyers come through a balancer while
//! processes are killed, stopped, wiped, cut off and set to other clocks; then everything is mended, what is
//! unknown is asked for again, and the oracle judges. Safety has to hold under any faults; that every gateway
//! sells again, when they are mended.
//!
//! Start reading at [`run`].

mod counter;
mod deed;
mod disk;
mod fleet;
mod front;
mod gateway;
mod losses;
mod probe;
mod round;
mod sign;
mod tally;
mod trouble;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;
use thiserror::Error;

use self::fleet::Rig;
pub use self::losses::{Loss, Measure, measure};
use self::round::Round;
pub use self::tally::{Promises, Tally};
pub use self::trouble::Fault;
use crate::oracle::OracleError;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program.
    pub floodgate: PathBuf,
    /// How long: no round begins after that.
    pub lasts: Duration,
    /// At most so many rounds.
    pub rounds_max: u32,
    /// What every choice follows from. What processes do with it does not repeat to the last step.
    pub seed: u64,
    /// Gateways that run beside each other.
    pub gateways: usize,
    /// Where histories and logs are left.
    pub dir: PathBuf,
    /// Printed in a report.
    pub commit: String,
}

/// Why a run could not go on.
#[derive(Debug, Error)]
pub enum ChaosError {
    /// A process cannot be started, or a file written.
    #[error("chaos: {0}")]
    Io(#[from] io::Error),
    /// The crowd could not be sent.
    #[error("chaos: {0}")]
    Crowd(#[from] crate::buyers::CrowdError),
    /// The oracle could not see.
    #[error("chaos: {0}")]
    Oracle(#[from] OracleError),
    /// Something that has to work when nothing is wrong does not.
    #[error("liveness: {0}")]
    Liveness(String),
}

/// Runs rounds until the time is up or a promise is broken. `told` hears of each round.
///
/// # Errors
///
/// [`ChaosError`]; a broken promise is in the tally.
pub async fn run(plan: &Plan, mut told: impl FnMut(&str)) -> Result<Tally, ChaosError> {
    let began = Instant::now();
    let mut rng = Rng::with_seed(plan.seed);
    let mut rig = Rig::start(plan)?;
    let mut tally = Tally::default();
    while began.elapsed() < plan.lasts && tally.rounds < u64::from(plan.rounds_max) {
        let round = Round::of(u32::try_from(tally.rounds).unwrap_or(u32::MAX), rng.fork(), plan);
        told(&format!("{round}"));
        let sold = round.play(&mut rig, plan).await?;
        told(&format!("  {sold}"));
        tally.add(sold);
        if tally.broken.is_some() {
            break;
        }
    }
    Ok(tally)
}
