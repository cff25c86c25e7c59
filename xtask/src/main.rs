//! What the README names and CI runs.
//!
//! `cargo xtask test` is the one command that has to pass. Long runs have commands of their own.

mod bench;
mod chaos;
mod pgo;
mod simulate;

use std::env;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

/// The project's tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Formatting, lints and every test; installs what the tests need where it may.
    Test,
    /// Formatting and lints.
    Lint,
    /// Whether the headers of the scripts in `lua/` say what the scripts do, and their bounds are the gateway's.
    Scripts,
    /// The product beside bare hyper, fastify and nginx with Lua, in turn, with the same generator.
    Bench(bench::BenchArguments),
    /// The program for production, built by what it was seen to do under load; needs llvm-profdata.
    Pgo,
    /// Kills, cuts and replays under load and audits, again and again: the tests of that name, at length.
    Crash {
        /// How often.
        #[arg(long, default_value_t = 200)]
        rounds: u32,
        /// Which tests: a part of their names.
        #[arg(default_value = "crash::")]
        tests: String,
    },
    /// What threads share, in every order of their steps. A part of `test`, too.
    Loom {
        /// How often a thread is stopped at a step that does not wait.
        #[arg(long, default_value_t = 2)]
        preemptions: u32,
    },
    /// Feeds bytes to what reads them, one target after the other; needs nightly and cargo-fuzz.
    Fuzz {
        /// For how long each.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// The whole path in one thread, one seed after the other. A part of `test`, too.
    Simulate {
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        seeds: u64,
        /// The first.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Processes beside each other.
        #[arg(long, default_value_t = 2)]
        jobs: u64,
    },
    /// Puts bugs in, one after the other, and says how many seeds the simulation needs to catch each.
    Planted {
        /// How many it may look at.
        #[arg(long, default_value_t = 3_000)]
        seeds: u64,
        /// Only bugs with this in their names.
        #[arg(default_value = "")]
        bug: String,
    },
    /// Real gateways, Redis, PostgreSQL and buyers: killed, stopped, wiped, cut, and judged.
    Chaos {
        /// For how long: `90s`, `10m`, `2h`.
        #[arg(long = "for", default_value = "10m")]
        lasts: String,
        /// What every choice follows from; by default another each time.
        #[arg(long)]
        seed: Option<u64>,
        /// Gateways beside each other.
        #[arg(long, default_value_t = 3)]
        gateways: u32,
        /// As for development, not for production.
        #[arg(long)]
        debug: bool,
    },
    /// Deaths of the program at named points, each so often. A part of `test`, too, with one of each.
    CrashPoints {
        /// How often each.
        #[arg(long, default_value_t = 25)]
        hits: u32,
        /// Only points with this in their names.
        #[arg(default_value = "")]
        points: String,
    },
    /// How fast the writer drains an outbox into each store, beside a bare insert loop.
    Drain {
        /// How often each is measured.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Test => prepare().and_then(|()| lint()).and_then(|()| test()),
        Task::Lint => lint(),
        Task::Scripts => run(cargo().args(["test", "--lib", "ledger::redis::scripts"])),
        Task::Bench(arguments) => bench::bench(&arguments),
        Task::Pgo => pgo::pgo(),
        Task::Crash { rounds, tests } => crash(rounds, &tests),
        Task::Loom { preemptions } => run(cargo()
            .env("LOOM_MAX_PREEMPTIONS", preemptions.to_string())
            .args(["test", "--package", "floodgate-loom"])),
        Task::Fuzz { seconds } => fuzz(seconds),
        Task::Simulate { seeds, from, jobs } => simulate::simulate(seeds, from, jobs),
        Task::Planted { seeds, bug } => simulate::planted(seeds, &bug),
        Task::Chaos { lasts, seed, gateways, debug } => chaos::chaos(&lasts, seed, gateways, debug),
        Task::CrashPoints { hits, points } => chaos::crash_points(hits, &points),
        Task::Drain { rounds } => run(cargo()
            .env("FLOODGATE_BENCH_ROUNDS", rounds.to_string())
            .args(["bench", "--profile", "dist", "--bench", "writer"])),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

type Done = Result<(), String>;

/// Programs that the build and the tests call, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 7] = [
    ("cc", "gcc"),
    ("mount", "mount"),
    ("unshare", "util-linux"),
    ("prlimit", "util-linux"),
    ("strace", "strace"),
    ("redis-server", "redis-server"),
    ("faketime", "faketime"),
];

/// Where Debian has PostgreSQL's programs: outside the path, by version.
const POSTGRES: &str = "/usr/lib/postgresql";

/// Installs what is missing, if this is Debian and we are root; otherwise says what to install.
fn prepare() -> Done {
    let missing = PROGRAMS.iter().filter(|(program, _)| !is_there(program));
    let mut packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if !has_postgres() {
        packages.push("postgresql");
    }
    if packages.is_empty() {
        return Ok(());
    }
    let wanted = format!("apt-get install -y {}", packages.join(" "));
    let root = env::var("USER").is_ok_and(|user| user == "root") || is_root();
    if !root || !is_there("apt-get") {
        return Err(format!("missing programs; install them with: {wanted}"));
    }
    run(Command::new("apt-get").args(["update", "-q"]))?;
    run(Command::new("apt-get").args(["install", "-y", "-q", "libc6-dev"]).args(packages))
}

fn has_postgres() -> bool {
    let versions = std::fs::read_dir(POSTGRES).into_iter().flatten().flatten();
    is_there("initdb")
        || versions.into_iter().any(|version| version.path().join("bin/initdb").is_file())
}

fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|ids| ids.split_whitespace().nth(1)).is_some_and(|effective| effective == "0")
}

fn lint() -> Done {
    let missing =
        |component: &str| format!("is the component there? rustup component add {component}");
    run(cargo().args(["fmt", "--all", "--check"]))
        .map_err(|error| format!("{error}; {}", missing("rustfmt")))?;
    run(cargo()
        .args(["clippy", "--workspace", "--all-targets"])
        .args(MORTAL)
        .args(["--", "-D", "warnings"]))
    .map_err(|error| format!("{error}; {}", missing("clippy")))
}

/// The program as tests have it: it can be made to die at named points. No release is built so.
const MORTAL: [&str; 2] = ["--features", "floodgate/crash-points"];

/// cargo-nextest where it is installed: it runs tests beside each other and tells each one's time.
/// Documentation examples are tests, too, and only cargo runs those.
fn test() -> Done {
    if is_there("cargo-nextest") {
        run(cargo().args(["nextest", "run", "--workspace"]).args(MORTAL))?;
    } else {
        run(cargo().args(["test", "--workspace", "--bins", "--lib", "--tests"]).args(MORTAL))?;
    }
    run(cargo().args(["test", "--workspace", "--doc"]).args(MORTAL))
}

fn crash(rounds: u32, tests: &str) -> Done {
    run(cargo().env("FLOODGATE_CRASH_ROUNDS", rounds.to_string()).args([
        "test",
        "--release",
        "--test",
        "it",
        "--",
        "--nocapture",
        tests,
    ]))
}

/// The targets of `fuzz/`.
const FUZZED: [&str; 6] =
    ["reservation", "sale_file", "idempotency_key", "forwarded", "token", "outbox_record"];

fn fuzz(seconds: u32) -> Done {
    for target in FUZZED {
        for kind in ["corpus", "seeds"] {
            std::fs::create_dir_all(format!("fuzz/{kind}/{target}"))
                .map_err(|error| format!("fuzz/{kind}: {error}"))?;
        }
        // Not the cargo that runs this: rustup's, which knows toolchains by name.
        run(Command::new("cargo")
            .args(["+nightly", "fuzz", "run", target])
            .args([format!("fuzz/corpus/{target}"), format!("fuzz/seeds/{target}")])
            .args(["--".to_owned(), format!("-max_total_time={seconds}")])
            .arg("-max_len=4096"))
        .map_err(|error| format!("{error}; is it there? cargo install cargo-fuzz"))?;
    }
    Ok(())
}

fn target() -> String {
    env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned())
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn run(command: &mut Command) -> Done {
    let shown = format!("{command:?}").replace('"', "");
    eprintln!("+ {shown}");
    let status = command.status().map_err(|error| format!("{shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown}: {status}")) }
}
