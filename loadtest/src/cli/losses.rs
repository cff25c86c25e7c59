//! `losses`: what `memory` loses.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use floodgate_loadtest::chaos::{Loss, Measure, measure};
use floodgate_loadtest::redis_server::Keeps;

use super::{Failure, block_on, print};

#[derive(Debug, Args)]
pub struct LossesOptions {
    /// The program
    #[arg(long, value_name = "FILE")]
    floodgate: PathBuf,
    /// What Redis keeps over its death; by default one after the other
    #[arg(long)]
    keeps: Option<Kept>,
    /// How often Redis is killed
    #[arg(long, default_value_t = 20)]
    kills: u64,
    /// What the times of the kills follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the gateway's files and log are left
    #[arg(long, default_value = "/tmp/floodgate-losses")]
    dir: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kept {
    /// No file at all
    Nothing,
    /// An append-only file that is synced once a second
    EverySecond,
}

pub fn run(options: &LossesOptions) -> Result<(), Failure> {
    let both = [Kept::Nothing, Kept::EverySecond];
    for kept in options.keeps.as_ref().map_or(&both[..], std::slice::from_ref) {
        let keeps = match kept {
            Kept::Nothing => Keeps::Nothing,
            Kept::EverySecond => Keeps::EverySecond,
        };
        let plan = Measure {
            floodgate: options.floodgate.clone(),
            keeps,
            kills: options.kills,
            seed: options.seed,
            dir: options.dir.join(format!("{kept:?}")),
        };
        let losses = block_on(2, async {
            let told = |loss: &Loss| {
                let (ms, promises) = (loss.load.as_millis(), loss.promises);
                let (told, lost) = (promises.told, promises.lost);
                drop(print(&format!("{kept:?}: told {told} in {ms} ms, lost {lost}\n")));
            };
            measure(&plan, told).await.map_err(|error| Failure::Failed(error.to_string()))
        })?;
        print(&summary(*kept, &losses))?;
    }
    Ok(())
}

fn summary(kept: Kept, losses: &[Loss]) -> String {
    let told: u64 = losses.iter().map(|loss| loss.promises.told).sum();
    let mut lost: Vec<_> = losses.iter().map(|loss| loss.promises.lost).collect();
    lost.sort_unstable();
    let (median, most) = (lost.get(lost.len() / 2), lost.last());
    let (kills, all) = (losses.len(), lost.iter().sum::<u64>());
    let (median, most) = (median.copied().unwrap_or_default(), most.copied().unwrap_or_default());
    format!(
        "{kept:?}: {kills} kills, told {told}, lost {all}; a kill: median {median}, most {most}\n"
    )
}
