//! Real programs under real faults, and deaths at named points.

use std::process::Command;

use super::{Done, cargo, is_there, run, target};

/// Builds gateway and harness, and lets the harness have them.
pub fn chaos(lasts: &str, seed: Option<u64>, gateways: u32, debug: bool) -> Done {
    if !is_there("faketime") {
        return Err("missing programs; install them with: apt-get install -y faketime".to_owned());
    }
    let packages = ["--package", "floodgate", "--package", "floodgate-loadtest", "--bins"];
    let profile: &[&str] = if debug { &[] } else { &["--release"] };
    run(cargo().arg("build").args(packages).args(profile))?;
    let bin =
        |name: &str| format!("{}/{}/{name}", target(), if debug { "debug" } else { "release" });
    let mut harness = Command::new(bin("floodgate-loadtest"));
    harness.args(["chaos", "--floodgate", &bin("floodgate"), "--for", lasts]);
    harness.args(["--gateways", &gateways.to_string(), "--commit", &commit()]);
    if let Some(seed) = seed {
        harness.args(["--seed", &seed.to_string()]);
    }
    run(&mut harness)
}

/// Dies at each named point so often.
pub fn crash_points(hits: u32, points: &str) -> Done {
    run(cargo()
        .env("FLOODGATE_POINT_HITS", hits.to_string())
        .env("FLOODGATE_POINTS", points)
        .args(["test", "--features", "crash-points", "--test", "it", "--"])
        .args(["--nocapture", "crash_points::"]))
}

fn commit() -> String {
    let asked = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let said = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.unwrap_or_default()
}
