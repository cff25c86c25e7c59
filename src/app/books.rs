//! Opening the books, and knowing that they are this ledger's.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tracing::warn;

use crate::carts::CartCache;
use crate::config::Settings;
use crate::engine::Position;
use crate::ledger::Durability;
use crate::ledger::name::{self, Foreign};
use crate::limits;
use crate::sale::LaneId;
use crate::store::postgres::{self, Listener, News, PostgresStore};
use crate::store::sqlite::{self, Archives, SqliteStore};
use crate::store::{Holder, Store, StoreAt, StoreError};
use crate::writer::Progress;

/// The books of a running gateway.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    /// The same, where other gateways write them as well.
    shared: Option<Arc<PostgresStore>>,
    /// Held as long as the books are open: a file is one process's.
    pub(super) lock: Option<File>,
    /// How far they have each lane.
    pub(super) digested: Vec<Position>,
}

/// Why the books cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// The configuration says nothing that can be done.
    #[error("{0}")]
    Settings(String),
    /// The file.
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// The database.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    /// The file is used by another process, or cannot be locked.
    #[error("{path}: {cause}", path = path.display())]
    Locked {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// They do not answer.
    #[error("the books do not answer: {0}")]
    Silent(#[from] StoreError),
    /// They are another ledger's.
    #[error(transparent)]
    Foreign(#[from] Foreign),
}

impl BooksError {
    /// Whether it may be otherwise in a moment.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Silent(StoreError::NotReady(_))
                | Self::Postgres(postgres::OpenError::NotReady(_))
        )
    }
}

impl Opened {
    /// Opens the books that the settings name. A database that has just been started may not be ready: it is
    /// asked again for a while.
    pub(super) async fn open(settings: &Settings) -> Result<Self, BooksError> {
        let until = Instant::now() + Duration::from_millis(limits::STORE_START_MS);
        loop {
            match Self::try_open(settings).await {
                Err(problem) if problem.is_passing() && Instant::now() < until => {
                    warn!(%problem, "the books are not ready; asking again");
                    tokio::time::sleep(Duration::from_millis(limits::STORE_START_RETRY_MS)).await;
                }
                opened => return opened,
            }
        }
    }

    async fn try_open(settings: &Settings) -> Result<Self, BooksError> {
        let shared = settings.redis_url.is_some();
        let mut opened = match settings.store_at().map_err(BooksError::Settings)? {
            StoreAt::File(path) => {
                // The data dir is locked as a whole.
                let elsewhere = settings.database_url.is_some();
                let lock = elsewhere.then(|| lock(&path)).transpose()?;
                let store = Arc::new(SqliteStore::open(&path, archives(shared))?);
                store.end_leases().await?;
                Self { store, shared: None, lock, digested: Vec::new() }
            }
            StoreAt::Postgres(url) => {
                let database = database(settings, &url, shared);
                let store = Arc::new(PostgresStore::open(&database).await?);
                let shared = shared.then(|| Arc::clone(&store));
                Self { store, shared, lock: None, digested: Vec::new() }
            }
        };
        check_ledger(opened.store.as_ref(), settings).await?;
        for lane in (0..settings.ledger.lanes).map(LaneId) {
            opened.digested.push(opened.store.cursor(lane).await?);
        }
        Ok(opened)
    }

    /// Hears what other gateways do to the same books.
    pub(super) fn listen(
        &self,
        carts: &Arc<CartCache>,
        progress: &Progress,
        own: Holder,
    ) -> Option<Listener> {
        let (carts, progress) = (Arc::clone(carts), progress.clone());
        let store = self.shared.as_ref()?;
        carts.set_told(false);
        Some(store.listen(move |news| match news {
            News::Digested(lane, holder) if holder != own => progress.heard(lane),
            News::Digested(..) => {}
            News::Carts(keys) => carts.forget(&keys),
            News::Heard => carts.set_told(true),
            News::Unheard => carts.set_told(false),
        }))
    }
}

/// Events of another ledger under the same numbers would be taken for ours.
async fn check_ledger(store: &dyn Store, settings: &Settings) -> Result<(), BooksError> {
    let own = if settings.redis_url.is_some() {
        name::redis(settings.ledger.lanes)
    } else if settings.database_url.is_none() {
        name::EMBEDDED.to_owned()
    } else {
        name::elsewhere(&gateway_id(&settings.data_dir)?)
    };
    let found = store.bind(own.clone()).await?;
    if found == own { Ok(()) } else { Err(Foreign { found, own }.into()) }
}

/// Opens the books beside a gateway that may run.
///
/// # Errors
/// [`BooksError`].
pub async fn open_books(settings: &Settings) -> Result<Arc<dyn Store>, BooksError> {
    let shared = settings.redis_url.is_some();
    let store: Arc<dyn Store> = match settings.store_at().map_err(BooksError::Settings)? {
        StoreAt::File(path) => Arc::new(SqliteStore::open_beside(&path, archives(shared))?),
        StoreAt::Postgres(url) => {
            Arc::new(PostgresStore::open_beside(&database(settings, &url, shared))?)
        }
    };
    check_ledger(store.as_ref(), settings).await?;
    Ok(store)
}

/// Whether what was digested is kept: for a ledger that can forget.
fn archives(shared: bool) -> Archives {
    if shared { Archives::Yes } else { Archives::No }
}

fn database<'s>(settings: &'s Settings, url: &'s str, shared: bool) -> postgres::Settings<'s> {
    postgres::Settings {
        url,
        migrate_url: settings.store.migrate_url.as_deref(),
        connections: settings.store.connections,
        shared,
        stores_promises: settings.promised() == Durability::Stored,
    }
}

/// Keeps other processes from a file of books.
fn lock(path: &Path) -> Result<File, BooksError> {
    let path = path.with_extension("lock");
    let error = |cause: io::Error| BooksError::Locked { path: path.clone(), cause };
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(error)?;
    file.try_lock().map_err(|busy| error(busy.into()))?;
    Ok(file)
}

/// The name in leases of the gateway of a data dir: the same after a restart, so that it goes on at once.
pub(super) fn holder(settings: &Settings) -> Result<Holder, BooksError> {
    if settings.database_url.is_none() {
        return Ok(Holder::random());
    }
    let digest = Sha256::digest(gateway_id(&settings.data_dir)?);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    Ok(Holder(u64::from_be_bytes(bytes)))
}

/// The name of the gateway of a data dir, made when it is first needed.
fn gateway_id(dir: &Path) -> Result<String, BooksError> {
    let path = name::id_file(dir);
    let error = |cause: io::Error| BooksError::Locked { path: path.clone(), cause };
    match std::fs::read_to_string(&path) {
        Ok(id) => Ok(id.trim().to_owned()),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            let id = uuid::Uuid::new_v4().to_string();
            let made = dir.join("gateway.id.new");
            let write = || {
                let mut file = File::create(&made)?;
                io::Write::write_all(&mut file, id.as_bytes())?;
                file.sync_all()?;
                std::fs::rename(&made, &path)?;
                File::open(dir)?.sync_all()
            };
            write().map_err(error)?;
            Ok(id)
        }
        Err(cause) => Err(error(cause)),
    }
}
