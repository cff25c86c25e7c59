//! `chaos`: real programs under real faults.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use floodgate_loadtest::chaos::{self, Plan};

use super::{Failure, block_on, print};

#[derive(Debug, Args)]
pub struct ChaosOptions {
    /// The program
    #[arg(long, value_name = "FILE")]
    floodgate: PathBuf,
    /// For how long: seconds, or with `s`, `m` or `h` behind it
    #[arg(long = "for", value_name = "TIME", value_parser = lasts, default_value = "60s")]
    lasts: Duration,
    /// At most so many rounds
    #[arg(long, default_value_t = u32::MAX)]
    rounds: u32,
    /// What every choice follows from; by default another each time
    #[arg(long)]
    seed: Option<u64>,
    /// Gateways beside each other
    #[arg(long, default_value_t = 3)]
    gateways: usize,
    /// Where histories and logs are left
    #[arg(long, default_value = "/tmp/floodgate-chaos")]
    dir: PathBuf,
    /// The program's version, for the report
    #[arg(long, default_value = "")]
    commit: String,
}

fn lasts(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let number: u64 = number.parse().map_err(|_| format!("{text} is no time"))?;
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(format!("{unit} is no unit of time")),
    };
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

pub fn run(options: &ChaosOptions) -> Result<(), Failure> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let plan = Plan {
        floodgate: options.floodgate.clone(),
        lasts: options.lasts,
        rounds_max: options.rounds,
        seed,
        gateways: options.gateways,
        dir: options.dir.join(seed.to_string()),
        commit: options.commit.clone(),
    };
    print(&format!("seed {seed}, files in {}\n", plan.dir.display()))?;
    let tally = block_on(2, async {
        let told = |line: &str| drop(print(&format!("{line}\n")));
        chaos::run(&plan, told)
            .await
            .map_err(|error| Failure::Failed(format!("{error} (seed {seed})")))
    })?;
    print(&tally.to_string())?;
    let lost: u64 = tally.promises.values().map(|promises| promises.lost).sum();
    match tally.broken {
        None if lost == 0 => print("every promise was kept\n"),
        None => print(&format!("every promise was kept but {lost} that were to survive less\n")),
        Some(broken) => {
            print(&format!("{broken}\n"))?;
            Err(Failure::Broken(format!("a promise was broken; --seed {seed}")))
        }
    }
}
