//! The simulation at length, and the bugs that are put in to see that it finds them.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::{Done, cargo};

/// The test that looks at seeds.
const TEST: &str = "simulation::seeds_hold";

fn test(core: u64, first: u64, seeds: u64) -> Command {
    let mut command = cargo();
    command.args(["test", "--release", "--quiet", "--package", "floodgate", "--lib", "--"]);
    command.args(["--exact", TEST, "--nocapture"]);
    command.env("FLOODGATE_CORE", core.to_string());
    command.env("FLOODGATE_SEED", first.to_string());
    command.env("FLOODGATE_SEEDS", seeds.to_string());
    command.env_remove("FLOODGATE_BUG");
    command
}

fn build() -> Done {
    super::run(cargo().args(["test", "--release", "--package", "floodgate", "--lib", "--no-run"]))
}

/// Looks at so many seeds, in so many processes beside each other.
pub fn simulate(seeds: u64, from: u64, jobs: u64) -> Done {
    build()?;
    let each = seeds.div_ceil(jobs.max(1));
    let start = |job: u64| -> Result<Child, String> {
        let first = from + job * each;
        let count = each.min((from + seeds).saturating_sub(first));
        test(job, first, count).spawn().map_err(|error| error.to_string())
    };
    let children = (0..jobs.max(1)).map(start).collect::<Result<Vec<_>, _>>()?;
    let mut held = true;
    for mut child in children {
        held &= child.wait().map_err(|error| error.to_string())?.success();
    }
    if held { Ok(()) } else { Err("a seed does not hold; it is shown above".to_owned()) }
}

/// Tries each bug that can be put in, and prints how long it took to be caught, as a table: by the simulation, or,
/// where that has not met it in so many seeds, by the unit tests and suites.
pub fn planted(seeds: u64, wanted: &str) -> Done {
    build()?;
    // Whoever fails without a bug would be taken for having caught one.
    if let Some((test, _)) = suites("none")? {
        return Err(format!("{test} fails without any bug"));
    }
    println!("| bug | what is wrong | caught by | seconds |\n|---|---|---|---|");
    let mut escaped = Vec::new();
    for (bug, what) in bugs()?.into_iter().filter(|(bug, _)| bug.contains(wanted)) {
        let ran = test(0, 1, seeds)
            .env("FLOODGATE_BUG", &bug)
            .env("FLOODGATE_SHRINK", "0")
            .stderr(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        // caught after N seeds, S s: seed M
        let caught =
            said.lines().find_map(|line| line.split_once("caught after ")?.1.split_once(": seed"));
        match caught.and_then(|(caught, _)| caught.split_once(", ")) {
            Some((after, seconds)) => println!("| `{bug}` | {what} | {after} | {seconds} |"),
            None => match suites(&bug)? {
                Some((test, seconds)) => {
                    println!("| `{bug}` | {what} | `{test}` | {seconds:.1} s |")
                }
                None => {
                    println!("| `{bug}` | {what} | nobody, in {seeds} seeds | |");
                    escaped.push(bug);
                }
            },
        }
    }
    if escaped.is_empty() { Ok(()) } else { Err(format!("not caught: {}", escaped.join(", "))) }
}

/// The first unit test that fails with this bug in, and after how many seconds all of them were through. Of the
/// simulation only seeds are asked again that once found something; the engine's own proof takes long and has none of
/// the bugs.
fn suites(bug: &str) -> Result<Option<(String, f64)>, String> {
    let began = Instant::now();
    let mut command = cargo();
    command.args(["test", "--release", "--quiet", "--package", "floodgate", "--lib", "--"]);
    command.args(["--skip", "simulation::seeds_hold", "--skip", "simulation::a_seed_repeats"]);
    command.args(["--skip", "engine::proof"]);
    let ran = command
        .env("FLOODGATE_BUG", bug)
        .stderr(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    // ---- store::tests::a_test stdout ----
    let failed = said.lines().find_map(|line| line.strip_prefix("---- ")?.split(' ').next());
    Ok(failed.map(|test| (test.to_owned(), began.elapsed().as_secs_f64())))
}

/// The bugs, as `src/planted.rs` lists them.
fn bugs() -> Result<Vec<(String, String)>, String> {
    let source = fs::read_to_string("src/planted.rs").map_err(|error| error.to_string())?;
    let list = source.split("const BUGS").nth(1).and_then(|rest| rest.split("];").next());
    let list = list.ok_or("src/planted.rs has no list of bugs")?;
    let quoted = |line: &str| {
        let line = line.trim().strip_prefix("(\"")?.strip_suffix("\"),")?.to_owned();
        let (bug, what) = line.split_once("\", \"")?;
        Some((bug.to_owned(), what.replace("\\\"", "\"")))
    };
    Ok(list.lines().filter_map(quoted).collect())
}
