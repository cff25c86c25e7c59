//! Wires a gateway together, and takes it apart again: the order of starting and of draining.
//!
//! Start: data dir → books → lanes → writer → gate → listeners. Nothing listens before what it stands
//! on works. Drain: not ready → no new reservations → no new connections → requests under way → lanes
//! → writer → ops. What was promised to somebody is durable at every point of both.

mod token;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use crate::catalog::Catalog;
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::engine::Position;
use crate::gate::{self, Gate};
use crate::http::ops::{self, Ops, Secret, State};
use crate::http::public::Public;
use crate::http::{Identity, Tuning, bind, serve};
use crate::ledger::Ledger;
use crate::ledger::embedded::{self, Owners};
use crate::limits;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, OutboxError, OutboxTable};
use crate::sale::LaneId;
use crate::store::Store;
use crate::store::sqlite::{self, SqliteStore};
use crate::writer::{Progress, Writer};

pub use token::{TokenError, read as read_token};

/// A running gateway. Dropping it without [`Gateway::drain`] leaves it running until the process ends.
pub struct Gateway {
    /// Where buyers connect.
    pub public_address: SocketAddr,
    /// Where operators connect.
    pub ops_address: SocketAddr,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The admin token, if it was made just now.
    pub new_token: Option<String>,
    public: Arc<Public>,
    state: watch::Sender<State>,
    failed: watch::Receiver<bool>,
    stop_public: watch::Sender<bool>,
    stop_writer: watch::Sender<bool>,
    stop_ops: watch::Sender<bool>,
    listener: tokio::task::JoinHandle<()>,
    upkeep: tokio::task::JoinHandle<()>,
    writer: JoinSet<()>,
    owners: Owners,
    ops: JoinHandle<()>,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] embedded::OpenError),
    /// The books.
    #[error(transparent)]
    Store(#[from] sqlite::OpenError),
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The admin token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The ledger has forgotten what the books know: selling on would oversell.
    #[error(
        "lane {lane} has forgotten: the books in {dir} have digested event {digested}, the ledger \
         ends at {head}; restore the ledger files that belong to these books", dir = dir.display()
    )]
    Amnesia {
        /// Which lane.
        lane: LaneId,
        /// Which data dir.
        dir: PathBuf,
        /// How far the books are.
        digested: u64,
        /// How far the ledger is.
        head: u64,
    },
    /// The books do not answer.
    #[error("the books do not answer: {0}")]
    Books(#[from] crate::store::StoreError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// In the system's words.
        cause: io::Error,
    },
}

impl Gateway {
    /// Starts a gateway on the embedded ledger and store of `settings.data_dir`. Within a runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(settings: &Settings) -> Result<Self, StartError> {
        let dir = &settings.data_dir;
        let metrics = Arc::new(Metrics::new());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let catalog = Arc::new(Catalog::default());
        let lock = embedded::lock_data_dir(dir)?;
        let (token, new_token) = token::load(settings)?;
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(dir)?);
        let (failed_sender, failed) = watch::channel(false);
        let around = embedded::Surroundings {
            catalog: Arc::clone(&catalog),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            failed: failed_sender,
        };
        let lanes = settings.ledger;
        let lanes =
            embedded::Settings { lanes: lanes.lanes, disk_reserve_bytes: lanes.disk_reserve_bytes };
        let (ledger, owners) = embedded::open(dir, lock, lanes, &around)?;
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        let heads = (0..ledger.lanes()).map(|lane| ledger.head(LaneId(lane))).collect();
        let started = Self::start_on(settings, heads, &store, &ledger).await;
        let (outbox, public_listener, ops_listener) = match started {
            Ok(parts) => parts,
            Err(error) => {
                owners.stop();
                return Err(error);
            }
        };
        let progress = Progress::new(ledger.lanes());
        let gate = Arc::new(Gate::new(gate::Parts {
            ledger,
            catalog,
            clock: Arc::clone(&clock),
            progress: progress.clone(),
            metrics: Arc::clone(&metrics),
            durability: settings.promised(),
        }));
        let (stop_writer, writer_stops) = watch::channel(false);
        let writer = Writer {
            outbox,
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            progress,
        };
        let writer = writer.spawn(&writer_stops);
        let (state, state_receiver) = watch::channel(State::Serving);
        let public_address = address_of(&public_listener, settings.listen)?;
        let ops_address = local_address(&ops_listener, settings.ops_listen)?;
        let ops = Arc::new(Ops::new(ops::Parts {
            gate: Arc::clone(&gate),
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            token: Secret::new(token),
            state: state_receiver,
            failed: failed.clone(),
        }));
        let (stop_ops, ops_stops) = watch::channel(false);
        let ops = spawn_ops(ops_listener, ops, ops_stops, ops_address)?;
        let identity =
            Identity { auth: settings.auth, trusted_proxies: settings.trusted_proxies.clone() };
        let public = Arc::new(Public::new(gate, store, clock, identity, &metrics));
        let (stop_public, public_stops) = watch::channel(false);
        let tuning = Tuning {
            connections_max: limits::CONNECTIONS_MAX,
            drain: Duration::from_millis(limits::DRAIN_MS),
        };
        let listener =
            tokio::spawn(serve(public_listener, Arc::clone(&public), tuning, public_stops));
        let upkeep = tokio::spawn(keep_up(Arc::clone(&metrics)));
        info!(%public_address, %ops_address, "serving");
        Ok(Self {
            public_address,
            ops_address,
            metrics,
            new_token,
            public,
            state,
            failed,
            stop_public,
            stop_writer,
            stop_ops,
            listener,
            upkeep,
            writer,
            owners,
            ops,
        })
    }

    /// What may still fail once the lanes run.
    async fn start_on(
        settings: &Settings,
        heads: Vec<watch::Receiver<Position>>,
        store: &Arc<dyn Store>,
        ledger: &Arc<dyn Ledger>,
    ) -> Result<(Arc<dyn Outbox>, tokio::net::TcpListener, std::net::TcpListener), StartError> {
        let dir = &settings.data_dir;
        let outbox: Arc<dyn Outbox> = Arc::new(OutboxTable::open(dir, heads)?);
        for lane in (0..ledger.lanes()).map(LaneId) {
            let digested = store.cursor(lane).await?.seq;
            let head = ledger.head(lane).borrow().seq;
            if digested > head {
                return Err(StartError::Amnesia { lane, dir: dir.clone(), digested, head });
            }
        }
        let listen = |address| bind(address).map_err(|cause| StartError::Listen { address, cause });
        let public = tokio::net::TcpListener::from_std(listen(settings.listen)?)
            .map_err(|cause| StartError::Listen { address: settings.listen, cause })?;
        Ok((outbox, public, listen(settings.ops_listen)?))
    }

    /// Becomes true when a lane cannot go on: drain, end, and let the next start recover.
    pub fn failed(&self) -> watch::Receiver<bool> {
        self.failed.clone()
    }

    /// Stops serving in good order: whoever is being served is answered, and what was promised is
    /// handed to the books as far as the time for it goes.
    pub async fn drain(self) {
        info!("draining");
        self.state.send_replace(State::Draining);
        self.public.drain();
        self.stop_public.send_replace(true);
        // A listener that panicked has nothing left to wait for.
        let _ = self.listener.await;
        let owners = self.owners;
        let _ = tokio::task::spawn_blocking(move || owners.stop()).await;
        self.stop_writer.send_replace(true);
        let mut writer = self.writer;
        while writer.join_next().await.is_some() {}
        self.stop_ops.send_replace(true);
        let ops = self.ops;
        let _ = tokio::task::spawn_blocking(move || ops.join()).await;
        self.upkeep.abort();
        info!("drained");
    }
}

async fn keep_up(metrics: Arc<Metrics>) {
    let mut every = tokio::time::interval(Metrics::UPKEEP_EVERY);
    loop {
        every.tick().await;
        metrics.upkeep();
    }
}

fn address_of(
    listener: &tokio::net::TcpListener,
    address: SocketAddr,
) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|cause| StartError::Listen { address, cause })
}

fn local_address(
    listener: &std::net::TcpListener,
    address: SocketAddr,
) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|cause| StartError::Listen { address, cause })
}

/// Runs the ops listener on a thread and runtime of its own, so that health and metrics answer when
/// the public listener has every other thread busy.
fn spawn_ops(
    listener: std::net::TcpListener,
    ops: Arc<Ops>,
    stop: watch::Receiver<bool>,
    address: SocketAddr,
) -> Result<JoinHandle<()>, StartError> {
    let failed = |cause| StartError::Listen { address, cause };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let tuning =
        Tuning { connections_max: limits::OPS_CONNECTIONS_MAX, drain: Duration::from_secs(1) };
    let run = move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => serve(listener, ops, tuning, stop).await,
                Err(error) => tracing::error!(%error, "the ops listener does not start"),
            }
        });
    };
    std::thread::Builder::new().name("ops".to_owned()).spawn(run).map_err(failed)
}
