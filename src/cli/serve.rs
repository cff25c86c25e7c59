//! `floodgate serve`: configuration, logs, runtime, gateway, signals, drain. Nothing is bound before
//! the configuration is known to be right.

mod reload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, warn};

use self::reload::{Live, Reload};
use super::arguments::ConfigArguments;
use super::{Exit, Failure, config};
use crate::app::{BooksError, Gateway, Handed, StartError};
use crate::config::{Exposed, Loaded, Settings, redis_fault};
use crate::http::Auth;
use crate::ledger::embedded::OpenError;
use crate::ledger::journal::JournalError;
use crate::ledger::redis;
use crate::ledger::redis::server::ServerError;
use crate::logs::{self, LogFilter};
use crate::runtimes::{self, Handles, Runtimes};
use crate::store::postgres;

/// How often files are looked at for changes.
const WATCH_EVERY: Duration = Duration::from_secs(2);

pub(super) fn run(arguments: &ConfigArguments) -> Result<Exit, Failure> {
    let loaded = config::load(arguments)?;
    let settings = &loaded.settings;
    let handed = Handed::take().map_err(|error| Failure::new(Exit::Configuration, error))?;
    let logging =
        logs::start(settings).map_err(|error| Failure::new(Exit::Configuration, error))?;
    warn_of_exposed(&loaded);
    if settings.auth == Auth::Insecure {
        warn!("auth is INSECURE: anyone can buy as anyone; for load tests only");
    }
    crate::app::descriptors::raise();
    let runtimes = runtimes()?;
    let handles = runtimes.handles();
    let ended = runtimes.block_on(serve(arguments, settings, handed, &handles, &logging.filter));
    // What is left are connections that were cut and jobs that nobody waits for.
    runtimes.shutdown(Duration::from_secs(1));
    ended
}

/// Such a gateway starts all the same: what mounts secrets is often not what may change their modes.
fn warn_of_exposed(loaded: &Loaded) {
    for Exposed { file, mode } in loaded.exposed() {
        let (file, mode) = (file.display(), format!("{mode:03o}"));
        warn!(%file, mode, "everybody on this machine can read a file with a secret; chmod 600 it");
    }
}

/// The runtimes of a gateway.
pub(super) fn runtimes() -> Result<Runtimes, Failure> {
    let count = runtimes::wanted().map_err(|error| Failure::new(Exit::Configuration, error))?;
    Ok(Runtimes::start(count)?)
}

async fn serve(
    arguments: &ConfigArguments,
    settings: &Settings,
    handed: Handed,
    runtimes: &Handles,
    filter: &LogFilter,
) -> Result<Exit, Failure> {
    // Before the ports are bound: whoever sees the port may send a signal at once.
    let mut signals = Signals::new()?;
    let dir = settings.data_dir.display();
    let told = |token: &str| eprintln!("admin token, kept in {dir}/admin.token: {token}");
    let gateway = start(settings, handed, runtimes, told).await?;
    let mut failed = gateway.failed();
    let mut reload = Reload::new(
        arguments,
        settings,
        &gateway.metrics,
        gateway.notes.clone(),
        live(filter.clone(), settings, &gateway),
    );
    let mut ticks = tokio::time::interval(WATCH_EVERY);
    let exit = loop {
        tokio::select! {
            // Cancel-safe all: a signal or a tick that is missed here is still there next time.
            signal = signals.next() => match signal {
                Asked::Stop => break Exit::Ok,
                Asked::Reload => reload.reload(),
            },
            _ = failed.wait_for(|failed| *failed) => {
                error!("a lane has failed; ending, so that the next start recovers");
                break Exit::Failure;
            }
            _ = ticks.tick() => reload.look(),
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

/// What can be changed while running, in the order in which it is.
fn live(filter: LogFilter, settings: &Settings, gateway: &Gateway) -> Vec<Live> {
    let buckets = Arc::clone(&gateway.buckets);
    let switches = Arc::clone(&gateway.switches);
    let (tokens, admins) = (gateway.tokens.clone(), Arc::clone(&gateway.admins));
    let certificate = gateway.tls.clone();
    let files = certificate.iter().flat_map(|certificate| certificate.files());
    let files = files.map(PathBuf::from).collect();
    let file = |named: &Option<PathBuf>| named.iter().cloned().collect();
    vec![
        // What is in these files; which files they are takes a restart.
        Live::new("the keys in jwt.keys_file", move |_| {
            tokens.as_ref().map_or(Ok(()), |tokens| tokens.reload())
        })
        .with_files(file(&settings.jwt.keys_file)),
        Live::new("the tokens in admin_tokens_file", move |_| admins.reload())
            .with_files(file(&settings.admin_tokens_file)),
        Live::new("the certificate in tls.cert_file", move |_| {
            certificate.as_ref().map_or(Ok(()), |certificate| certificate.reload())
        })
        .with_files(files),
        Live::new("log", move |settings| filter.set(&settings.log)),
        Live::new("switches", move |settings| {
            switches.apply(settings.switches);
            Ok(())
        }),
        Live::new("admission", move |settings| {
            buckets.reconfigure(&settings.admission);
            Ok(())
        }),
    ]
}

/// Starts a gateway; what hinders it becomes a sentence.
pub(super) async fn start(
    settings: &Settings,
    handed: Handed,
    runtimes: &Handles,
    told: impl FnOnce(&str),
) -> Result<Gateway, Failure> {
    let started = Gateway::start_and_tell(settings, handed, runtimes, told).await;
    started.map_err(|error| {
        let exit = match &error {
            StartError::Ledger(OpenError::Amnesia { .. }) => Exit::Broken,
            // As over Redis: it is the configuration that does not fit what is there.
            StartError::Ledger(OpenError::Journal(JournalError::Mismatch { .. })) => {
                Exit::Configuration
            }
            StartError::Redis(
                redis::OpenError::Server(ServerError::Unfit(_)) | redis::OpenError::Foreign(_),
            )
            | StartError::Identity(_) => Exit::Configuration,
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
            StartError::Store(books) if books.is_passing() => Exit::Unavailable,
            StartError::Ledger(_)
            | StartError::Panicked(_)
            | StartError::Store(_)
            | StartError::Outbox(_)
            | StartError::Token(_)
            | StartError::Listen { .. } => Exit::Failure,
        };
        let message = match (&error, &settings.redis_url) {
            (StartError::Redis(redis::OpenError::Server(fault)), Some(url)) => {
                redis_fault(url, fault)
            }
            _ => error.to_string(),
        };
        Failure::new(exit, message)
    })
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
