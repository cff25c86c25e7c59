//! The books as one instant has them, read directly: for the audit, which trusts no API.
//!
//! Blocks. Everything is read in one transaction, beside whoever writes.

use std::future::Future;

use rusqlite::{Connection, OptionalExtension, Row};
use tokio::runtime::Runtime;
use tokio_postgres::Client;

use super::StoreAt;
use super::chain::LogRow;
use super::postgres::connect::Target;
use super::postgres::{self, millis, number, record_of, whole};
use super::sqlite::{self, archive};
use crate::outbox::Record;
use crate::sale::LaneId;
use crate::sqlite::{as_sql, from_sql, open_reader};

/// Rows of a large table that are in memory at once, with PostgreSQL.
const PAGE: usize = 5_000;

/// One instant of the books.
pub struct Snapshot(Kind);

enum Kind {
    Sqlite(Connection),
    Postgres(Box<Database>),
}

/// A database, and what its connection runs on.
struct Database {
    client: Client,
    runtime: Runtime,
}

/// An order, as its row has it. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "columns of the books")]
pub struct OrderRow {
    pub user: String,
    pub id: String,
    pub sale: String,
    pub status: String,
    pub version: i64,
    pub lines: String,
    pub total: i64,
    pub created_at: i64,
    pub expires_at: i64,
    pub payment: Option<String>,
}

/// An item's numbers.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "columns of the books")]
pub struct ItemRow {
    pub sale: String,
    pub item: String,
    pub stock: i64,
    pub allocated: i64,
}

/// A line that a reservation put into a cart.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "columns of the books")]
pub struct LineRow {
    pub user: String,
    pub item: String,
    pub reservation: String,
    pub quantity: i64,
}

/// The books cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There are none.
    #[error("there are no books at {0}")]
    Nothing(String),
    /// They do not answer.
    #[error("the books: {0}")]
    Unreachable(String),
    /// They answer with something else.
    #[error("the books cannot be read: {0}")]
    Unreadable(String),
}

impl From<rusqlite::Error> for SnapshotError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<tokio_postgres::Error> for SnapshotError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refusal) => Self::Unreadable(refusal.message().to_owned()),
            None => Self::Unreachable(error.to_string()),
        }
    }
}

impl Database {
    /// Waits for the database on a thread of its own: the caller's may have a runtime, which must not be
    /// blocked within itself.
    fn wait<'d, T: Send, F>(&'d self, ask: impl FnOnce(&'d Client) -> F) -> Result<T, SnapshotError>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>> + Send,
    {
        let asked = ask(&self.client);
        Ok(wait(&self.runtime, asked)?)
    }
}

fn wait<T: Send>(runtime: &Runtime, future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| runtime.block_on(future));
        // A panic there is one here.
        waits.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Snapshot {
    /// The books as they are now.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn open(at: &StoreAt) -> Result<Self, SnapshotError> {
        match at {
            StoreAt::File(path) => {
                if !path.exists() {
                    return Err(SnapshotError::Nothing(path.display().to_string()));
                }
                let connection = open_reader(path)?;
                connection.execute_batch("BEGIN; SELECT count(*) FROM lanes;")?;
                Ok(Self(Kind::Sqlite(connection)))
            }
            StoreAt::Postgres(url) => {
                let unreachable = |error: String| SnapshotError::Unreachable(error);
                let target = Target::of(url).map_err(|error| unreachable(error.to_string()))?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| unreachable(error.to_string()))?;
                let client = wait(&runtime, async {
                    let (client, _task) =
                        target.connect().await.map_err(|error| unreachable(error.to_string()))?;
                    let there = "SELECT to_regclass('refinery_schema_history') IS NOT NULL";
                    if !client.query_one(there, &[]).await?.get::<_, bool>(0) {
                        let nothing = "this database: no gateway has used it".to_owned();
                        return Err(SnapshotError::Nothing(nothing));
                    }
                    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
                    Ok(client)
                })?;
                Ok(Self(Kind::Postgres(Box::new(Database { client, runtime }))))
            }
        }
    }

    /// The ledger whose books these are, if they were ever used.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn ledger(&self) -> Result<Option<String>, SnapshotError> {
        let query = "SELECT name FROM ledger";
        match &self.0 {
            Kind::Sqlite(books) => Ok(books.query_row(query, [], |row| row.get(0)).optional()?),
            Kind::Postgres(books) => {
                let row = books.wait(|client| client.query_opt(query, &[]))?;
                Ok(row.map(|row| row.get(0)))
            }
        }
    }

    /// How many lanes the ledger has, as far as the books have had anything to do with them: none before
    /// its first event, and a gateway that gets there has opened them all.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn lanes(&self) -> Result<u16, SnapshotError> {
        let query = "SELECT coalesce(max(lane) + 1, 0) FROM lanes";
        match &self.0 {
            Kind::Sqlite(books) => Ok(books.query_row(query, [], |row| row.get(0))?),
            Kind::Postgres(books) => {
                let row = books.wait(|client| client.query_one(query, &[]))?;
                Ok(u16::try_from(row.get::<_, i32>(0)).unwrap_or(u16::MAX))
            }
        }
    }

    /// How far the books have digested a lane.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn cursor(&self, lane: LaneId) -> Result<u64, SnapshotError> {
        match &self.0 {
            Kind::Sqlite(books) => {
                let mut query = books.prepare("SELECT cursor FROM lanes WHERE lane = ?1")?;
                let cursor: Option<i64> = query.query_row([lane.0], |row| row.get(0)).optional()?;
                Ok(from_sql(cursor.unwrap_or(0)))
            }
            Kind::Postgres(books) => {
                let lane = i32::from(lane.0);
                let row = books.wait(|client| async move {
                    client.query_opt("SELECT cursor FROM lanes WHERE lane = $1", &[&lane]).await
                })?;
                Ok(row.map_or(0, |row| whole(row.get(0))))
            }
        }
    }

    /// Every order.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn orders(&self, mut each: impl FnMut(OrderRow)) -> Result<(), SnapshotError> {
        match &self.0 {
            Kind::Sqlite(books) => {
                let mut query = books.prepare(
                    "SELECT user_id, order_id, sale_id, status, version, lines, total, created_at,
                            expires_at, payment_ref FROM all_orders",
                )?;
                let read = |row: &Row<'_>| {
                    Ok(OrderRow {
                        user: row.get(0)?,
                        id: row.get(1)?,
                        sale: row.get(2)?,
                        status: row.get(3)?,
                        version: row.get(4)?,
                        lines: row.get(5)?,
                        total: row.get(6)?,
                        created_at: row.get(7)?,
                        expires_at: row.get(8)?,
                        payment: row.get(9)?,
                    })
                };
                for row in query.query_map([], read)? {
                    each(row?);
                }
                Ok(())
            }
            Kind::Postgres(books) => {
                let at = |row: &tokio_postgres::Row, column| as_sql(millis(row.get(column)).0);
                let query = "SELECT user_id, order_id::text, sale_id, status, version::int8,
                                    lines::text, total, created_at, expires_at, payment_ref
                             FROM all_orders";
                books.page(query, |row| {
                    each(OrderRow {
                        user: row.get(0),
                        id: row.get(1),
                        sale: row.get(2),
                        status: row.get(3),
                        version: row.get(4),
                        lines: row.get(5),
                        total: row.get(6),
                        created_at: at(row, 7),
                        expires_at: at(row, 8),
                        payment: row.get(9),
                    });
                })
            }
        }
    }

    /// Every item.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn items(&self, mut each: impl FnMut(ItemRow)) -> Result<(), SnapshotError> {
        let query = "SELECT sale_id, item_id, stock, allocated FROM items";
        match &self.0 {
            Kind::Sqlite(books) => {
                let mut query = books.prepare(query)?;
                let read = |row: &Row<'_>| {
                    let (sale, item) = (row.get(0)?, row.get(1)?);
                    Ok(ItemRow { sale, item, stock: row.get(2)?, allocated: row.get(3)? })
                };
                for row in query.query_map([], read)? {
                    each(row?);
                }
                Ok(())
            }
            Kind::Postgres(books) => books.page(query, |row| {
                let (sale, item) = (row.get(0), row.get(1));
                each(ItemRow { sale, item, stock: row.get(2), allocated: row.get(3) });
            }),
        }
    }

    /// Every line that a reservation put into a cart.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn reserved_lines(&self, mut each: impl FnMut(LineRow)) -> Result<(), SnapshotError> {
        match &self.0 {
            Kind::Sqlite(books) => {
                let mut query = books.prepare(
                    "SELECT user_id, item_id, reservation_id, quantity FROM cart_lines
                     WHERE reservation_id <> ''",
                )?;
                let read = |row: &Row<'_>| {
                    let (user, item) = (row.get(0)?, row.get(1)?);
                    Ok(LineRow { user, item, reservation: row.get(2)?, quantity: row.get(3)? })
                };
                for row in query.query_map([], read)? {
                    each(row?);
                }
                Ok(())
            }
            Kind::Postgres(books) => {
                let query =
                    "SELECT user_id, item_id, reservation_id::text, quantity FROM cart_lines
                             WHERE reservation_id <> '00000000-0000-0000-0000-000000000000'";
                books.page(query, |row| {
                    let (user, item) = (row.get(0), row.get(1));
                    each(LineRow { user, item, reservation: row.get(2), quantity: row.get(3) });
                })
            }
        }
    }

    /// How many letters are dead.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn dead_letters(&self) -> Result<i64, SnapshotError> {
        let query = "SELECT count(*) FROM dead_letters";
        match &self.0 {
            Kind::Sqlite(books) => Ok(books.query_row(query, [], |row| row.get(0))?),
            Kind::Postgres(books) => {
                let row = books.wait(|client| client.query_one(query, &[]))?;
                Ok(row.get(0))
            }
        }
    }

    /// Every entry of the audit log: lane by lane, what stands in front of a chain first, then its links.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn audit_log(&self, mut each: impl FnMut(LogRow)) -> Result<(), SnapshotError> {
        match &self.0 {
            Kind::Sqlite(books) => Ok(sqlite::log::read_all(books, each)?),
            Kind::Postgres(books) => {
                books.page(&postgres::log::all(), |row| each(postgres::log::row_of(row)))
            }
        }
    }

    /// How often the books were mended, or dead letters settled.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn mended(&self) -> Result<u64, SnapshotError> {
        let query = "SELECT coalesce(max(seq), 0) FROM audit_log WHERE lane = -1";
        match &self.0 {
            Kind::Sqlite(books) => Ok(from_sql(books.query_row(query, [], |row| row.get(0))?)),
            Kind::Postgres(books) => {
                let row = books.wait(|client| client.query_one(query, &[]))?;
                Ok(whole(row.get(0)))
            }
        }
    }

    /// What was digested of a lane after `seq`, in order, at most `max` records.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn archive(
        &self,
        lane: LaneId,
        seq: u64,
        max: usize,
    ) -> Result<Vec<Record>, SnapshotError> {
        match &self.0 {
            Kind::Sqlite(books) => Ok(archive::read(books, lane, seq, max)?),
            Kind::Postgres(books) => {
                let (lane, seq, max) = (i32::from(lane.0), number(seq), number(max as u64));
                let rows = books.wait(|client| async move {
                    let query = "SELECT epoch, seq, events, at, payload, crc FROM archive
                                 WHERE lane = $1 AND seq > $2 ORDER BY seq LIMIT $3";
                    client.query(query, &[&lane, &seq, &max]).await
                })?;
                Ok(rows.iter().map(record_of).collect())
            }
        }
    }
}

impl Database {
    /// Reads a whole table by a cursor.
    fn page(
        &self,
        query: &str,
        mut each: impl FnMut(&tokio_postgres::Row),
    ) -> Result<(), SnapshotError> {
        let declare = format!("DECLARE page NO SCROLL CURSOR FOR {query}");
        self.wait(|client| client.batch_execute(&declare))?;
        let fetch = format!("FETCH {PAGE} FROM page");
        loop {
            let rows = self.wait(|client| client.query(&fetch, &[]))?;
            if rows.is_empty() {
                return self.wait(|client| client.batch_execute("CLOSE page"));
            }
            rows.iter().for_each(&mut each);
        }
    }
}
