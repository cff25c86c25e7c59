//! The embedded store: the books in one SQLite file of the data dir.
//!
//! One thread writes, a few read; WAL lets them work beside each other. `synchronous=FULL`: what was
//! answered has been synced.

pub(crate) mod archive;
mod carts;
mod dead;
mod digest;
#[cfg(test)]
pub(crate) mod inline;
mod lease;
pub(crate) mod log;
mod mend;
mod orders;
mod pool;
mod retire;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use serde_json::Value;

use self::pool::{Pool, Turn};
use super::{
    Batch, Claim, DeadLetter, DeadMark, Digested, Holder, Job, Mend, Note, Retried, Store,
    StoreError,
};
use crate::carts::{Cart, CartChange, CartRefusal};
use crate::engine::{Actor, Position};
use crate::orders::{Order, OrderMark};
use crate::outbox::Record;
use crate::sale::{ItemId, LaneId, ReservationId, SaleId, UserId};
use crate::sqlite::{BUSY, open_reader};

/// The tables, as numbered steps that only go forward.
#[allow(missing_docs, reason = "written by the macro")]
mod schema {
    refinery::embed_migrations!("src/store/sqlite/migrations");
}

/// Buyers first, books right after: when every core is busy the thread that writes the books gets a
/// third of what a thread that answers buyers gets. What then waits is in the outbox, synced and
/// bounded.
const WRITER_NICENESS: i32 = 5;
/// Threads that read.
const READERS: usize = 2;

/// The books of a data dir.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Pool,
    readers: Pool,
    archives: Archives,
}

/// What is done to tables that are older than this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tables {
    BroughtUpToDate,
    AsTheyAre,
}

/// Whether what was digested is kept whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archives {
    /// For a ledger that can forget.
    Yes,
    /// The ledger keeps it.
    No,
}

/// Why the books cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {cause}", path = path.display())]
pub struct OpenError {
    /// Which file.
    pub path: PathBuf,
    /// In the words of SQLite or of the migrations.
    pub cause: String,
}

/// The file in a data dir.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("store.db")
}

impl SqliteStore {
    /// Opens the books in a file, or makes them, and brings their tables up to date.
    ///
    /// # Errors
    /// [`OpenError`] says which file and why.
    pub fn open(path: &Path, archives: Archives) -> Result<Self, OpenError> {
        Self::open_with(path, archives, Tables::BroughtUpToDate)
    }

    /// Opens the books that a gateway may have open, and leaves their tables as they are.
    ///
    /// # Errors
    /// [`OpenError`] says which file and why.
    pub fn open_beside(path: &Path, archives: Archives) -> Result<Self, OpenError> {
        Self::open_with(path, archives, Tables::AsTheyAre)
    }

    fn open_with(path: &Path, archives: Archives, tables: Tables) -> Result<Self, OpenError> {
        let error = |cause: String| OpenError { path: path.to_owned(), cause };
        let mut connection = Connection::open(path).map_err(|cause| error(cause.to_string()))?;
        configure(&connection).map_err(|cause| error(cause.to_string()))?;
        if tables == Tables::BroughtUpToDate {
            schema::migrations::runner()
                .run(&mut connection)
                .map_err(|cause| error(cause.to_string()))?;
        }
        let readers: Result<Vec<_>, _> = (0..READERS).map(|_| open_reader(path)).collect();
        let readers = readers.map_err(|cause| error(cause.to_string()))?;
        let pool = |name, connections, niceness| {
            Pool::start(name, connections, niceness).map_err(|cause| error(cause.to_string()))
        };
        Ok(Self {
            writer: pool("store-writer", vec![connection], WRITER_NICENESS)?,
            readers: pool("store-reader", readers, 0)?,
            archives,
        })
    }
}

impl SqliteStore {
    /// Ends every lease. For whoever holds a lock that keeps other gateways from the file: what leases are
    /// left are of the dead.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_leases(&self) -> Result<(), StoreError> {
        self.writer.run(Turn::First, |connection| Ok(lease::end_all(connection)?)).await
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    // Negative: KiB. Enough for the trees' upper levels and the leaves of a batch; what is beyond
    // comes from the system's cache. A commit walks the cache, so a larger one costs every batch.
    connection.pragma_update(None, "cache_size", -16 * 1024)?;
    connection.pragma_update(None, "wal_autocheckpoint", 8_192)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

impl Store for SqliteStore {
    fn cursor(&self, lane: LaneId) -> Job<'_, Position> {
        self.readers.run(Turn::First, move |connection| Ok(lease::cursor(connection, lane)?))
    }

    fn bind(&self, ledger: String) -> Job<'_, String> {
        self.writer.run(Turn::First, move |connection| Ok(lease::bind(connection, &ledger)?))
    }

    fn claim(&self, lane: LaneId, holder: Holder) -> Job<'_, Claim> {
        self.writer.run(Turn::First, move |connection| lease::claim(connection, lane, holder))
    }

    fn release(&self, lane: LaneId, holder: Holder) -> Job<'_, ()> {
        self.writer.run(Turn::First, move |connection| lease::release(connection, lane, holder))
    }

    fn digest(&self, batch: Arc<Batch>) -> Job<'_, Digested> {
        let archives = self.archives;
        self.writer.run(Turn::First, move |books| digest::digest(books, &batch, archives))
    }

    fn archive(&self, lane: LaneId, seq: u64, max: usize) -> Job<'_, Vec<Record>> {
        self.readers
            .run(Turn::First, move |connection| Ok(archive::read(connection, lane, seq, max)?))
    }

    fn order(&self, user: UserId, id: ReservationId) -> Job<'_, Option<Order>> {
        self.readers.run(Turn::Later, move |connection| Ok(orders::order(connection, &user, id)?))
    }

    fn orders(&self, user: UserId, after: Option<OrderMark>, max: usize) -> Job<'_, Vec<Order>> {
        self.readers
            .run(Turn::Later, move |connection| Ok(orders::page(connection, &user, after, max)?))
    }

    fn cart(&self, user: UserId) -> Job<'_, Cart> {
        self.readers.run(Turn::Later, move |connection| Ok(carts::read(connection, &user)?))
    }

    fn change_cart(
        &self,
        user: UserId,
        expected: Option<u64>,
        change: CartChange,
    ) -> Job<'_, Result<Cart, CartRefusal>> {
        self.writer.run(Turn::Later, move |connection| {
            Ok(carts::change(connection, &user, expected, &change)?)
        })
    }

    fn merge_carts(
        &self,
        guest: UserId,
        user: UserId,
        expected: Option<u64>,
    ) -> Job<'_, Result<Cart, CartRefusal>> {
        self.writer.run(Turn::Later, move |books| Ok(carts::merge(books, &guest, &user, expected)?))
    }

    fn carts_with(&self, items: Vec<ItemId>, max: usize) -> Job<'_, Vec<(UserId, Cart)>> {
        self.readers.run(Turn::Later, move |books| Ok(carts::with_items(books, &items, max)?))
    }

    fn dead_letters(
        &self,
        after: Option<DeadMark>,
        max: usize,
    ) -> Job<'_, Vec<(LaneId, DeadLetter)>> {
        self.readers.run(Turn::First, move |books| Ok(dead::page(books, after, max)?))
    }

    fn retry_dead_letter(&self, mark: DeadMark, actor: Actor) -> Job<'_, Option<Retried>> {
        self.writer.run(Turn::Later, move |books| dead::retry(books, mark, &actor))
    }

    fn drop_dead_letter(&self, mark: DeadMark, actor: Actor) -> Job<'_, bool> {
        self.writer.run(Turn::Later, move |books| dead::drop(books, mark, &actor))
    }

    fn mend(&self, mends: Arc<[Mend]>, mended: u64) -> Job<'_, u64> {
        self.writer.run(Turn::Later, move |books| mend::mend(books, &mends, mended))
    }

    fn archive_orders(&self, sale: SaleId, max: usize, actor: Actor) -> Job<'_, u64> {
        self.writer.run(Turn::Later, move |books| retire::archive(books, &sale, max, &actor))
    }

    fn note(&self, note: Note) -> Job<'_, ()> {
        self.writer.run(Turn::First, move |books| log::add_note(books, &note))
    }

    fn audit_log(&self, skip: usize, max: usize) -> Job<'_, Vec<Value>> {
        self.readers.run(Turn::Later, move |connection| Ok(log::page(connection, skip, max)?))
    }

    fn ping(&self) -> Job<'_, ()> {
        self.readers.run(Turn::First, |connection| {
            Ok(connection.query_row("SELECT count(*) FROM lanes", [], |_| Ok(()))?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open() -> (Arc<dyn Store>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Arc::new(SqliteStore::open(&path(dir.path()), Archives::No).unwrap()), dir)
    }

    crate::store::contract::store_contract!(open);

    /// See the suite.
    #[tokio::test]
    async fn a_database_that_refuses() {
        let (store, dir) = open().await;
        let refuse = async || {
            let books = Connection::open(path(dir.path())).unwrap();
            let trigger =
                "CREATE TRIGGER refuse BEFORE INSERT ON orders WHEN new.user_id = 'user-2'
                           BEGIN SELECT raise(ABORT, 'no'); END";
            books.execute_batch(trigger).unwrap();
        };
        crate::store::contract::a_database_that_refuses(store, refuse).await;
    }

    /// Books that were closed are what they were when they are opened again.
    #[tokio::test]
    async fn books_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let user = UserId::parse("u").unwrap();
        let item = crate::sale::ItemId::parse("i").unwrap();
        let store = SqliteStore::open(&path(dir.path()), Archives::No).unwrap();
        let change = CartChange::Put { item, quantity: 1 };
        let cart = store.change_cart(user.clone(), None, change).await.unwrap().unwrap();
        drop(store);
        let store = SqliteStore::open(&path(dir.path()), Archives::No).unwrap();
        assert_eq!(store.cart(user).await.unwrap(), cart);
    }
}
