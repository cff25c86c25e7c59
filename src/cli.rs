//! The command line. Data on standard output, everything else on standard error.

mod arguments;
mod audit;
mod client;
mod config;
mod deadletters;
mod demo;
mod doctor;
mod exit;
mod healthcheck;
mod reconcile;
mod sale;
mod serve;
mod switch;
mod table;
mod token;

use std::io::Write;

use clap::{CommandFactory, Parser};

pub use arguments::{Arguments, Command};
pub use exit::{Exit, Failure};

/// Runs the command that the process was started with.
pub fn run() -> Exit {
    // clap prints usage errors itself, and ends with 2.
    let arguments = Arguments::parse();
    let json = arguments.json;
    let ended = match arguments.command {
        Command::Serve { config } => serve::run(&config),
        Command::Demo(options) => demo::run(&options, json),
        Command::Sale { ops, command } => sale::run(&ops, command, json),
        Command::Deadletters { ops, command } => deadletters::run(&ops, &command, json),
        Command::Switch { ops, command } => switch::run(&ops, &command, json),
        Command::Audit { config, sale, log_marks } => {
            audit::run(&config, sale.as_deref(), &log_marks, json)
        }
        Command::Reconcile { config, sale, repair } => {
            reconcile::run(&config, sale.as_deref(), repair, json)
        }
        Command::Token { command } => token::run(&command, json),
        Command::Doctor { config } => doctor::run(&config, json),
        Command::Config { command } => config::run(&command, json),
        Command::Healthcheck { ops } => healthcheck::run(&ops, json),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "floodgate", &mut script);
            say!("{}", String::from_utf8_lossy(&script));
            Ok(Exit::Ok)
        }
    };
    ended.unwrap_or_else(|failure| {
        for line in failure.message.lines() {
            eprintln!("floodgate: {line}");
        }
        failure.exit
    })
}

/// Prints a line of data. Whoever closes the pipe has seen enough: that is no error.
fn print(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// `println!` that does not panic where nobody reads.
macro_rules! say {
    () => { $crate::cli::print(format_args!("")) };
    ($($argument:tt)*) => { $crate::cli::print(format_args!($($argument)*)) };
}
use say;

/// A runtime for commands that only ask something.
fn small_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failure, error.to_string()))
}
