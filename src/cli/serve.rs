//! `floodgate serve`: configuration, logs, runtime, gateway, signals, drain. Nothing is bound before
//! the configuration is known to be right.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::arguments::ConfigArguments;
use super::{Exit, Failure, config};
use crate::app::{BooksError, Gateway, StartError};
use crate::config::{Loaded, Settings};
use crate::http::Auth;
use crate::ledger::embedded::OpenError;
use crate::ledger::redis;
use crate::ledger::redis::server::ServerError;
use crate::logs::{self, LogFilter};
use crate::store::postgres;

/// How often the configuration file is looked at for changes.
const WATCH_EVERY: Duration = Duration::from_secs(2);

pub(super) fn run(arguments: &ConfigArguments) -> Result<Exit, Failure> {
    let Loaded { settings, .. } = config::load(arguments)?;
    let logging =
        logs::start(&settings).map_err(|error| Failure::new(Exit::Configuration, error))?;
    if settings.auth == Auth::Insecure {
        warn!("auth is INSECURE: anyone can buy as anyone; for load tests only");
    }
    crate::app::descriptors::raise();
    let runtime = runtime()?;
    let ended = runtime.block_on(serve(arguments, &settings, &logging.filter));
    // What is left are connections that were cut and jobs that nobody waits for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// The runtime of a gateway: a thread for every core but one, which the lanes and the writer keep
/// busy. `TOKIO_WORKER_THREADS` says otherwise.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        builder.worker_threads(cores.saturating_sub(1).max(1));
    }
    Ok(builder.enable_all().build()?)
}

async fn serve(
    arguments: &ConfigArguments,
    settings: &Settings,
    filter: &LogFilter,
) -> Result<Exit, Failure> {
    // Before the ports are bound: whoever sees the port may send a signal at once.
    let mut signals = Signals::new()?;
    let gateway = start(settings).await?;
    if let Some(token) = &gateway.new_token {
        let dir = settings.data_dir.display();
        eprintln!("admin token, kept in {dir}/admin.token: {token}");
    }
    let mut failed = gateway.failed();
    let mut watch = Watch::new(arguments);
    let mut ticks = tokio::time::interval(WATCH_EVERY);
    let exit = loop {
        tokio::select! {
            // Cancel-safe all: a signal or a tick that is missed here is still there next time.
            signal = signals.next() => match signal {
                Asked::Stop => break Exit::Ok,
                Asked::Reload => reload(arguments, filter, &gateway),
            },
            _ = failed.wait_for(|failed| *failed) => {
                error!("a lane has failed; ending, so that the next start recovers");
                break Exit::Failure;
            }
            _ = ticks.tick() => if watch.has_changed() { reload(arguments, filter, &gateway) },
        }
    };
    tokio::select! {
        () = gateway.drain() => Ok(exit),
        () = signals.stop() => {
            warn!("a second signal: ending now");
            Ok(exit)
        }
    }
}

/// Starts a gateway; what hinders it becomes a sentence.
pub(super) async fn start(settings: &Settings) -> Result<Gateway, Failure> {
    Gateway::start(settings).await.map_err(|error| {
        let exit = match &error {
            StartError::Ledger(OpenError::Amnesia { .. }) => Exit::Broken,
            StartError::Redis(
                redis::OpenError::Server(ServerError::Unfit(_)) | redis::OpenError::Foreign(_),
            ) => Exit::Configuration,
            StartError::Store(
                BooksError::Settings(_)
                | BooksError::Foreign { .. }
                | BooksError::Postgres(
                    postgres::OpenError::Url(_) | postgres::OpenError::Unfit { .. },
                ),
            ) => Exit::Configuration,
            StartError::Tls(_) => Exit::Configuration,
            StartError::Redis(_)
            | StartError::Store(BooksError::Postgres(postgres::OpenError::Unreachable(_))) => {
                Exit::Unavailable
            }
            StartError::Ledger(_)
            | StartError::Panicked(_)
            | StartError::Store(_)
            | StartError::Outbox(_)
            | StartError::Token(_)
            | StartError::Books(_)
            | StartError::Listen { .. } => Exit::Failure,
        };
        Failure::new(exit, error.to_string())
    })
}

/// Takes over what can be changed while running: the log filter. A bad file keeps the old one.
fn reload(arguments: &ConfigArguments, filter: &LogFilter, gateway: &Gateway) {
    let reloaded = config::load(arguments)
        .map_err(|failure| failure.message)
        .and_then(|loaded| filter.set(&loaded.settings.log));
    let gauge = gateway.metrics.gauge("floodgate_config_last_reload_successful", &[]);
    match reloaded {
        Ok(()) => {
            gauge.set(1.0);
            info!("configuration reloaded");
        }
        Err(error) => {
            gauge.set(0.0);
            error!(%error, "the configuration was not reloaded; the old one stays");
        }
    }
}

/// The configuration file's last change.
struct Watch {
    file: Option<std::path::PathBuf>,
    changed: Option<std::time::SystemTime>,
}

impl Watch {
    fn new(arguments: &ConfigArguments) -> Self {
        let named = arguments.config.clone();
        let file = named.or_else(|| std::env::var_os("FLOODGATE_CONFIG").map(Into::into));
        let mut watch = Self { file, changed: None };
        watch.has_changed();
        watch
    }

    fn has_changed(&mut self) -> bool {
        let Some(file) = &self.file else { return false };
        let changed = std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
        let before = std::mem::replace(&mut self.changed, changed);
        before != changed
    }
}

/// What a signal asks for.
enum Asked {
    Stop,
    Reload,
}

/// The signals that a gateway answers to.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal. Cancel-safe.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Waits until somebody wants the gateway to end. Cancel-safe.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
