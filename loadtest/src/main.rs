//! `floodgate-loadtest`: buyers, load and the oracle on the command line.

mod bench;
mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::run(cli::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("floodgate-loadtest: {failure}");
            failure.exit_code()
        }
    }
}
