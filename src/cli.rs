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

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use clap::{CommandFactory, Parser};

pub use arguments::{Arguments, Command};
pub use exit::{Exit, Failure};

/// Runs the command that the process was started with.
pub fn run() -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => return tell(&told),
    };
    let json = arguments.json;
    let is_asked = !matches!(arguments.command, Command::Serve { .. });
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
    let exit = ended.unwrap_or_else(|failure| {
        for line in failure.message.lines() {
            eprintln!("floodgate: {line}");
        }
        if json && is_asked {
            say!("{}", failure.as_json());
        }
        failure.exit
    });
    end(exit)
}

/// Prints help, the version or what is wrong with the command line, in clap's words.
fn tell(told: &clap::Error) -> Exit {
    if let Err(error) = told.print() {
        keep(error);
    }
    end(if told.use_stderr() { Exit::Usage } else { Exit::Ok })
}

/// Ends with this code, unless data was lost: what was found counts for more than that.
fn end(exit: Exit) -> Exit {
    let Some(error) = unwritten() else { return exit };
    eprintln!("floodgate: standard output: {error}");
    if exit == Exit::Ok { Exit::Failure } else { exit }
}

/// The first line of data that could not be written, if there was one.
static UNWRITTEN: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints a line of data. That it cannot be written is told at the end.
fn print(line: std::fmt::Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout(), "{line}") {
        keep(error);
    }
}

/// Whoever closes the pipe has seen enough: that is no error. Anything else is data that was lost.
fn keep(error: io::Error) {
    if error.kind() != io::ErrorKind::BrokenPipe {
        UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

fn unwritten() -> Option<io::Error> {
    if let Err(error) = io::stdout().flush() {
        keep(error);
    }
    UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner).take()
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
