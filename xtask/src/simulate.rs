//! The simulation at length, and the bugs that are put in to see that it finds them.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::{Done, cargo};

/// The test that looks at seeds.
const TEST: &str = "simulation::seeds_hold";
/// Which bug is in.
const BUG: &str = "PLANTED_BUG";

fn test(core: u64, first: u64, seeds: u64) -> Command {
    let mut command = cargo();
    command.args(["test", "--release", "--quiet", "--package", "floodgate", "--lib", "--"]);
    command.args(["--exact", TEST, "--nocapture"]);
    command.env("FLOODGATE_CORE", core.to_string());
    command.env("FLOODGATE_SEED", first.to_string());
    command.env("FLOODGATE_SEEDS", seeds.to_string());
    command.env_remove(BUG);
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

/// Tries each bug that can be put in, and prints how long it took to be caught, as a table: by the simulation; where
/// that has not met it in so many seeds, by the unit tests and suites; where those have not, by tests of the program.
pub fn planted(seeds: u64, wanted: &str) -> Done {
    build()?;
    println!("| bug | what is wrong | caught by | seconds |\n|---|---|---|---|");
    let mut escaped = Vec::new();
    for (bug, what) in bugs()?.into_iter().filter(|(bug, _)| bug.contains(wanted)) {
        let began = Instant::now();
        let mut caught = simulated(&bug, seeds)?;
        for tests in [Tests::Unit, Tests::Program] {
            if caught.is_none() {
                caught = tests.catch(&bug)?;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        match caught {
            Some(Caught { by, after }) => {
                println!("| `{bug}` | {what} | {by} | {:.1} s |", after.unwrap_or(seconds));
            }
            None => {
                println!("| `{bug}` | {what} | nobody, in {seeds} seeds | {seconds:.1} s |");
                escaped.push(bug);
            }
        }
    }
    if escaped.is_empty() { Ok(()) } else { Err(format!("not caught: {}", escaped.join(", "))) }
}

/// How a bug was found.
struct Caught {
    by: String,
    /// The seconds that it took, where it was told.
    after: Option<f64>,
}

fn simulated(bug: &str, seeds: u64) -> Result<Option<Caught>, String> {
    let mut command = test(0, 1, seeds);
    command.env(BUG, bug).env("FLOODGATE_SHRINK", "0");
    let said = said(command)?.0;
    // caught after N seeds, S s: seed M
    let caught =
        said.lines().find_map(|line| line.split_once("caught after ")?.1.split_once(": seed"));
    let caught = caught.and_then(|(caught, _)| caught.split_once(", "));
    Ok(caught.map(|(after, seconds)| Caught {
        by: after.to_owned(),
        after: seconds.trim_end_matches(" s").parse().ok(),
    }))
}

/// What looks for a bug that the simulation has not met.
#[derive(Clone, Copy)]
enum Tests {
    /// Units and suites. Of the simulation only seeds are asked again that once found something; the engine's own
    /// proof takes long and has none of the bugs.
    Unit,
    /// The program, with what is in it synced, cut off and killed.
    Program,
}

impl Tests {
    fn command(self) -> Command {
        let mut command = cargo();
        command.args(["test", "--release", "--quiet", "--package", "floodgate"]);
        match self {
            Self::Unit => command
                .args(["--lib", "--", "--skip", TEST, "--skip", "engine::proof"])
                .args(["--skip", "simulation::a_seed_repeats", "--skip", "planted::"]),
            Self::Program => command
                .args(["--features", "planted-bugs", "--test", "it", "--"])
                .args(["sync_order::", "power::", "crash::killed", "postgres::"]),
        };
        command
    }

    /// The first test that fails with a bug in. It fails again alone, and does not without the bug.
    fn catch(self, bug: &str) -> Result<Option<Caught>, String> {
        let mut command = self.command();
        command.env(BUG, bug);
        let said = said(command)?.0;
        // ---- store::tests::a_test stdout ----
        let failed = said.lines().filter_map(|line| line.strip_prefix("---- ")?.split(' ').next());
        for name in failed.map(str::to_owned).collect::<Vec<_>>() {
            let passes = |bug: &str| {
                let mut alone = self.command();
                alone.args(["--exact", &name]).env(BUG, bug);
                Ok::<_, String>(self::said(alone)?.1)
            };
            if !passes(bug)? && passes("none")? {
                return Ok(Some(Caught { by: format!("`{name}`"), after: None }));
            }
        }
        Ok(None)
    }
}

/// What a command printed, and whether it ended well.
fn said(mut command: Command) -> Result<(String, bool), String> {
    let ran = command.stderr(Stdio::null()).output().map_err(|error| error.to_string())?;
    Ok((String::from_utf8_lossy(&ran.stdout).into_owned(), ran.status.success()))
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
