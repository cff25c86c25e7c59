//! `cargo xtask bench`: builds product and generator, and measures the product beside others.

use std::path::Path;
use std::process::Command;

use clap::Args;

use crate::{Done, cargo, is_there, run, target};

/// What is measured, and how. Everything behind `--` goes to `floodgate-loadtest bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// sold-out, embedded, redis-memory, redis-fsync, whole-path, half-capacity, big-sale, idle, past
    /// [default: the first four].
    suites: Vec<String>,
    /// How often each contender is measured.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each measurement [default: what the suite takes].
    #[arg(long)]
    seconds: Option<f64>,
    /// Quick to build, for development: what is published is built with the profile `dist`.
    #[arg(long)]
    release: bool,
    /// Also write figures and plots to this folder; `docs/bench` is what `docs/BENCHMARKS.md` shows.
    #[arg(long)]
    out: Option<String>,
    /// Further arguments of `floodgate-loadtest bench`.
    #[arg(last = true)]
    more: Vec<String>,
}

const FASTIFY: &str = "loadtest/baselines/fastify";

pub fn bench(arguments: &BenchArguments) -> Done {
    let (profile, folder) =
        if arguments.release { ("release", "release") } else { ("dist", "dist") };
    let packages = ["--package", "floodgate", "--package", "floodgate-loadtest"];
    run(cargo().args(["build", "--profile", profile]).args(packages))?;
    // The lock file pins every package; nothing is installed that it does not name.
    if is_there("npm") && !Path::new(FASTIFY).join("node_modules").is_dir() {
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(FASTIFY))?;
    }
    let mut bench = Command::new(format!("{}/{folder}/floodgate-loadtest", target()));
    bench.arg("bench").args(&arguments.suites);
    bench.args(["--rounds", &arguments.rounds.to_string()]);
    if let Some(seconds) = arguments.seconds {
        bench.args(["--seconds", &seconds.to_string()]);
    }
    if let Some(out) = &arguments.out {
        bench.args(["--out", out]);
    }
    run(bench.args(&arguments.more))
}
