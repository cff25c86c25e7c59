//! Wires a gateway together, and takes it apart again: the order of starting and of draining.
//!
//! Start: data dir → books → lanes → writer → gate → listeners. Nothing listens before what it stands
//! on works. Drain: not ready → no new connections → one more answer each → no new reservations →
//! requests under way → lanes → writer → ops. What was promised to somebody is durable at every point
//! of both.

mod books;
pub mod descriptors;
mod ends;
mod token;
mod warm;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use governor::Quota;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use crate::admission::{Buckets, Guard};
use crate::carts::CartCache;
use crate::catalog::Catalog;
use crate::clock::{Clock, SystemClock};
use crate::config::{LedgerSettings, Settings};
use crate::crash;
use crate::engine::Position;
use crate::gate::{self, Gate};
use crate::http::ops::{self, Ops, State};
use crate::http::public::{self, Public};
use crate::http::tls::Tls;
use crate::http::{Auth, Identity, Tuning, serve};
use crate::identity::admins::Admins;
use crate::identity::tokens::Tokens;
use crate::ledger::embedded::{self, DataDirLock, Owners};
use crate::ledger::redis;
use crate::ledger::redis::server::Server;
use crate::ledger::{Durability, Ledger};
use crate::limits;
use crate::metrics::Metrics;
use crate::notes::Notes;
use crate::outbox::{Outbox, OutboxError, OutboxStream, OutboxTable};
use crate::reconcile::Books;
use crate::runtimes::Handles;
use crate::sale::LaneId;
use crate::store::postgres::Listener;
use crate::switches::Switches;
use crate::writer::{Progress, Underway, Writer};

pub use books::{BooksError, open_books};
use ends::Ends;
pub use ends::Handed;
pub use token::{TokenError, read as read_token};

/// A running gateway. Dropping it without [`Gateway::drain`] leaves it running until the process ends.
pub struct Gateway {
    /// Where buyers connect.
    pub public_address: SocketAddr,
    /// Where operators connect.
    pub ops_address: SocketAddr,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who may ask how often; can be changed while running.
    pub buckets: Arc<Buckets>,
    /// What buyers' tokens are verified by, where that is how they are known.
    pub tokens: Option<Arc<Tokens>>,
    /// Who operates.
    pub admins: Arc<Admins>,
    /// The certificate of the public listener, to be reloaded when its files change.
    pub tls: Option<Arc<Tls>>,
    /// What is switched off; for whoever reads the configuration again.
    pub switches: Arc<Switches>,
    /// What is changed about it, on its way into the audit log.
    pub notes: Notes,
    public: Arc<Public>,
    state: watch::Sender<State>,
    failed: watch::Receiver<bool>,
    stop_public: watch::Sender<bool>,
    stop_writer: watch::Sender<bool>,
    stop_ops: watch::Sender<bool>,
    listener: tokio::task::JoinHandle<()>,
    scribe: tokio::task::JoinHandle<()>,
    upkeep: tokio::task::JoinHandle<()>,
    warm: tokio::task::JoinHandle<()>,
    sweep: tokio::task::JoinHandle<()>,
    writer: JoinSet<()>,
    decides: Decides,
    ops: JoinHandle<()>,
    /// What other gateways tell; ends with this.
    news: Option<Listener>,
    /// The books' file, if it is not in the data dir.
    books_lock: Option<File>,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The embedded ledger.
    #[error(transparent)]
    Ledger(#[from] embedded::OpenError),
    /// The ledger in Redis.
    #[error(transparent)]
    Redis(#[from] redis::OpenError),
    /// A part of it panicked.
    #[error("the gateway does not start: {0}")]
    Panicked(#[from] io::Error),
    /// The books.
    #[error(transparent)]
    Store(#[from] BooksError),
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The admin token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Keys of buyers' tokens, or hashes of operators'.
    #[error("{0}")]
    Identity(String),
    /// The certificate or its key.
    #[error("{0}")]
    Tls(String),
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
    /// Starts a gateway on the ledger that the settings name, with the books of `settings.data_dir`, and on
    /// listeners that it was handed instead of the settings' addresses. Within the first of these runtimes.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(
        settings: &Settings,
        handed: Handed,
        runtimes: &Handles,
    ) -> Result<Self, StartError> {
        Self::start_and_tell(settings, handed, runtimes, |_| ()).await
    }

    /// The same. An admin token that is made is told at once: what fails afterwards leaves it in its file, and
    /// no later start makes one.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start_and_tell(
        settings: &Settings,
        handed: Handed,
        runtimes: &Handles,
        told: impl FnOnce(&str),
    ) -> Result<Self, StartError> {
        let dir = &settings.data_dir;
        let metrics = Arc::new(Metrics::new());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let catalog = Arc::new(Catalog::default());
        let tokens = tokens(settings, &clock)?;
        let failures = metrics.counter("floodgate_admin_auth_failures_total", &[]);
        let admins = Admins::new(settings.admin_tokens_file.clone(), failures);
        let admins = admins.map_err(StartError::Identity)?;
        let tls = Tls::open(&settings.tls, &metrics).map_err(StartError::Tls)?;
        let lock = embedded::lock_data_dir(dir)?;
        let token = token::load(settings, told)?;
        let admins = Arc::new(admins.with_own(&token));
        let books = books::Opened::open(settings).await?;
        let store = Arc::clone(&books.store);
        let (failed_sender, failed) = watch::channel(false);
        let around = embedded::Surroundings {
            catalog: Arc::clone(&catalog),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            failed: failed_sender,
            runtimes: runtimes.clone(),
        };
        let underway = Underway::new(settings.ledger.lanes);
        let holder = books::holder(settings)?;
        let buckets = Arc::new(Buckets::new(&settings.admission, &metrics));
        let LedgerSide { ledger, outbox, decides } = match &settings.redis_url {
            None => LedgerSide::embedded(settings, lock, &books.digested, &around)?,
            Some(url) => {
                let recall = Books::new(Arc::clone(&store), underway.clone(), holder);
                LedgerSide::redis(settings, url, lock, recall, buckets.shared_quota(), &around)
                    .await?
            }
        };
        let ends = match Ends::open(settings, handed) {
            Ok(ends) => ends,
            Err(error) => {
                // Joining threads is nothing for the runtime.
                drop(tokio::task::spawn_blocking(move || decides.stop()).await);
                return Err(error);
            }
        };
        let (public_address, ops_address) = (ends.public_address, ends.ops_address);
        let share = descriptors::share(settings);
        let progress = Progress::new(&books.digested);
        let carts = Arc::new(CartCache::new(&metrics));
        let news = books.listen(&carts, &progress, holder);
        let warm = warm::keep_warm(
            Arc::clone(&catalog),
            Arc::clone(&clock),
            Arc::clone(&store),
            Arc::clone(&carts),
        );
        let gate = Arc::new(Gate::new(gate::Parts {
            ledger,
            catalog,
            clock: Arc::clone(&clock),
            progress: progress.clone(),
            metrics: Arc::clone(&metrics),
            durability: settings.promised(),
            buckets: Arc::clone(&buckets),
        }));
        let (stop_writer, writer_stops) = watch::channel(false);
        let writer = Writer {
            outbox,
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            progress: progress.clone(),
            gathers: settings.promised() != Durability::Stored,
            carts: Arc::clone(&carts),
            holder,
            underway,
        };
        let writer = writer.spawn(&writer_stops);
        let store_guard = Guard::new("store", "store".to_owned(), Arc::clone(&clock), &metrics);
        let store_guard = Arc::new(store_guard);
        let (notes, scribe) = Notes::new(Arc::clone(&store), writer_stops.clone());
        let scribe = tokio::spawn(scribe.run());
        let switches =
            Switches::new(settings.switches, Arc::clone(&clock), &metrics, notes.clone());
        let switches = Arc::new(switches);
        let (state, state_receiver) = watch::channel(State::Serving);
        let ops = Arc::new(Ops::new(ops::Parts {
            gate: Arc::clone(&gate),
            store: Arc::clone(&store),
            store_guard: Arc::clone(&store_guard),
            switches: Arc::clone(&switches),
            carts: Arc::clone(&carts),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            admins: Arc::clone(&admins),
            progress,
            state: state_receiver,
            failed: failed.clone(),
        }));
        let (stop_ops, ops_stops) = watch::channel(false);
        let tuning = Tuning::ops(&settings.http, share.ops, &metrics);
        let ops = ends::serve_ops(ends.ops, ops, tuning, ops_stops)?;
        let identity = Identity {
            auth: settings.auth,
            trusted_proxies: settings.trusted_proxies.clone(),
            tokens: tokens.clone(),
        };
        let public = Arc::new(Public::new(public::Parts {
            gate,
            store,
            store_guard,
            switches: Arc::clone(&switches),
            carts,
            clock,
            identity,
            client_address: settings.client_address,
            buckets: Arc::clone(&buckets),
            http: settings.http.clone(),
            metrics: Arc::clone(&metrics),
        }));
        let (stop_public, public_stops) = watch::channel(false);
        let trusted = settings.trusted_proxies.clone();
        let tuning = Tuning {
            proxy_protocol: settings.proxy_protocol,
            tls: tls.clone(),
            ..Tuning::public(&settings.http, trusted, share.public, &metrics)
        };
        let (service, runtimes) = (Arc::clone(&public), runtimes.clone());
        let listener = tokio::spawn(serve(ends.public, service, tuning, runtimes, public_stops));
        let upkeep = tokio::spawn(keep_up(Arc::clone(&metrics)));
        let warm = tokio::spawn(warm);
        let sweep = tokio::spawn(Arc::clone(&buckets).keep_swept());
        info!(%public_address, %ops_address, "serving");
        Ok(Self {
            public_address,
            ops_address,
            metrics,
            buckets,
            tokens,
            admins,
            tls,
            switches,
            notes,
            public,
            state,
            failed,
            stop_public,
            stop_writer,
            stop_ops,
            listener,
            scribe,
            upkeep,
            warm,
            sweep,
            writer,
            decides,
            ops,
            news,
            books_lock: books.lock,
        })
    }

    /// Becomes true when a lane cannot go on: drain, end, and let the next start recover.
    pub fn failed(&self) -> watch::Receiver<bool> {
        self.failed.clone()
    }

    /// Stops serving in good order: whoever is being served is answered, whoever keeps a connection once more,
    /// and what was promised is handed to the books as far as the time for it goes.
    pub async fn drain(self) {
        info!("draining");
        crash::point("drain: begun");
        self.state.send_replace(State::Draining);
        let mut listener = self.listener;
        self.stop_public.send_replace(true);
        let public = self.public;
        let linger = Duration::from_millis(limits::DRAIN_LINGER_MS);
        tokio::select! {
            // A listener that panicked has nothing left to wait for.
            _ = &mut listener => {}
            () = tokio::time::sleep(linger) => {
                public.drain();
                let _ = listener.await;
            }
        }
        let decides = self.decides;
        let lock = tokio::task::spawn_blocking(move || decides.stop()).await;
        self.stop_writer.send_replace(true);
        let mut writer = self.writer;
        while writer.join_next().await.is_some() {}
        let _ = self.scribe.await;
        self.stop_ops.send_replace(true);
        let ops = self.ops;
        let _ = tokio::task::spawn_blocking(move || ops.join()).await;
        self.upkeep.abort();
        self.warm.abort();
        self.sweep.abort();
        drop((self.news, self.books_lock));
        // Nothing writes to the data dir any more.
        drop(lock);
        info!("drained");
    }
}

/// How buyers' tokens are verified, if they are what buyers are known by.
fn tokens(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Option<Arc<Tokens>>, StartError> {
    match settings.auth {
        Auth::Header | Auth::Insecure => Ok(None),
        Auth::Jwt => {
            let tokens = Tokens::new(&settings.jwt, Arc::clone(clock));
            Ok(Some(Arc::new(tokens.map_err(StartError::Identity)?)))
        }
    }
}

/// What is wrong with the files of keys, tokens and certificates that the settings name: read as a start
/// reads them, and let go.
pub fn file_faults(settings: &Settings) -> Vec<String> {
    let metrics = Metrics::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let failures = metrics.counter("floodgate_admin_auth_failures_total", &[]);
    let keys = tokens(settings, &clock).err().map(|error| error.to_string());
    let admins = Admins::new(settings.admin_tokens_file.clone(), failures).err();
    let certificate = Tls::open(&settings.tls, &metrics).err();
    [keys, admins, certificate].into_iter().flatten().collect()
}

async fn keep_up(metrics: Arc<Metrics>) {
    let mut every = tokio::time::interval(Metrics::UPKEEP_EVERY);
    loop {
        every.tick().await;
        metrics.upkeep();
        give_back();
    }
}

/// mimalloc gives memory back to the system that was freed more than a second ago, and does so only when
/// something large comes or goes. A crowd that has just gone silent leaves nothing of that.
fn give_back() {
    const LARGE: usize = 1 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
}

/// The ledger of a gateway, and what is read of it.
struct LedgerSide {
    ledger: Arc<dyn Ledger>,
    outbox: Arc<dyn Outbox>,
    decides: Decides,
}

/// The threads of the ledger. The data dir is this process's as long as they run.
enum Decides {
    Embedded(Owners),
    Redis {
        workers: redis::Workers,
        lock: DataDirLock,
        /// Never raised: a lane that cannot go on is opened anew. Kept, for without it nobody could.
        _failed: watch::Sender<bool>,
    },
}

impl LedgerSide {
    fn embedded(
        settings: &Settings,
        lock: DataDirLock,
        digested: &[Position],
        around: &embedded::Surroundings,
    ) -> Result<Self, StartError> {
        let dir = &settings.data_dir;
        let LedgerSettings { lanes, disk_reserve_bytes, .. } = settings.ledger;
        let lanes = embedded::Settings { lanes, disk_reserve_bytes };
        let (ledger, owners) = embedded::open(dir, lock, lanes, digested, around)?;
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        match OutboxTable::open(dir, heads(ledger.as_ref())) {
            Ok(outbox) => {
                Ok(Self { ledger, outbox: Arc::new(outbox), decides: Decides::Embedded(owners) })
            }
            Err(error) => {
                drop(owners.stop());
                Err(error.into())
            }
        }
    }

    async fn redis(
        settings: &Settings,
        url: &str,
        lock: DataDirLock,
        recall: Books,
        user_quota: watch::Receiver<Option<Quota>>,
        around: &embedded::Surroundings,
    ) -> Result<Self, StartError> {
        let LedgerSettings { lanes, in_flight, batch_max, replicas, retention_seconds, .. } =
            settings.ledger;
        let promise = redis::Promise { durability: settings.promised(), replicas };
        let lanes = redis::Settings { lanes, in_flight, batch_max, promise };
        let server = Arc::new(Server::of(url).map_err(redis::OpenError::from)?);
        let failed = around.failed.clone();
        let around = redis::Around {
            catalog: Arc::clone(&around.catalog),
            metrics: Arc::clone(&around.metrics),
            recall: Arc::new(recall),
            user_quota,
            runtimes: around.runtimes.clone(),
        };
        let opened = tokio::task::spawn_blocking({
            let server = Arc::clone(&server);
            move || redis::open(&server, lanes, &around)
        });
        // A panic there is one here.
        let (ledger, workers) =
            opened.await.map_err(|panic| io::Error::other(panic.to_string()))??;
        let retention = Duration::from_secs(retention_seconds);
        let outbox = OutboxStream::new(&server, heads(&ledger), retention);
        let decides = Decides::Redis { workers, lock, _failed: failed };
        Ok(Self { ledger: Arc::new(ledger), outbox: Arc::new(outbox), decides })
    }
}

impl Decides {
    /// Lets every lane serve what waits. The lock is the caller's then.
    fn stop(self) -> DataDirLock {
        match self {
            Decides::Embedded(owners) => owners.stop(),
            Decides::Redis { workers, lock, .. } => {
                workers.stop();
                lock
            }
        }
    }
}

fn heads(ledger: &dyn Ledger) -> Vec<watch::Receiver<Position>> {
    (0..ledger.lanes()).map(|lane| ledger.head(LaneId(lane))).collect()
}
