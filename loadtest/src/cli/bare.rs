//! `bare`: the baseline as a process of its own.

use std::net::{SocketAddr, TcpListener};

use clap::Args;

use super::{Failure, address};

#[derive(Debug, Args)]
pub struct BareOptions {
    /// Where to listen
    #[arg(long, value_name = "ADDR", value_parser = address, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Threads, each with a runtime of its own
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// End when standard input closes: with the process that started this one
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

pub fn run(options: &BareOptions) -> Result<(), Failure> {
    let listener = TcpListener::bind(options.listen)
        .map_err(|bad| Failure::Failed(format!("{}: {bad}", options.listen)))?;
    let addr = listener.local_addr().map_err(Failure::failed)?;
    eprintln!("bare server on http://{addr}");
    let shutdown = shutdown(options.until_stdin_closes);
    floodgate_loadtest::bare::serve(listener, shutdown, options.threads).map_err(Failure::failed)
}

async fn shutdown(until_stdin_closes: bool) {
    if until_stdin_closes {
        // A byte or the end: both mean that it is over.
        let read = || std::io::Read::read(&mut std::io::stdin(), &mut [0]);
        drop(tokio::task::spawn_blocking(read).await);
    } else {
        drop(tokio::signal::ctrl_c().await);
    }
}
