//! The store, read with the oracle's own SQL.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// How long a reader waits for a lock of the server.
const BUSY_WITHIN: Duration = Duration::from_secs(5);

/// Why the store could not be read.
#[derive(Debug, Error)]
pub enum BooksError {
    /// SQLite says no.
    #[error("store {0}: {1}")]
    Sqlite(PathBuf, rusqlite::Error),
    /// PostgreSQL says no.
    #[error("PostgreSQL: {0}")]
    Postgres(#[from] tokio_postgres::Error),
    /// A row that cannot be what it should.
    #[error("store {0}: order {1}: lines cannot be read: {2}")]
    Lines(PathBuf, String, serde_json::Error),
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BooksAt {
    /// In a file.
    Sqlite(PathBuf),
    /// In a database, by its URL.
    Postgres(String),
}

impl BooksAt {
    /// What it keeps about a sale, read in one transaction; nothing is written to it.
    ///
    /// # Errors
    ///
    /// It cannot be reached or read, or holds lines that are no lines.
    pub async fn read(&self, sale: &str) -> Result<Books, BooksError> {
        match self {
            Self::Sqlite(path) => Books::read_file(path, sale),
            Self::Postgres(url) => super::books_postgres::read(url, sale).await,
        }
    }
}

/// What the store keeps about one sale, read in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Units that one user may take of the whole sale, as the sale was created.
    pub per_user_limit: Option<u64>,
    /// The items of the sale.
    pub items: Vec<StoreItem>,
    /// The orders of the sale.
    pub orders: Vec<Order>,
    /// The cart lines that stand for a reservation of this sale, or for none that is known.
    pub cart_lines: Vec<CartLine>,
    /// Reasons of all dead letters, of any sale.
    pub dead_letters: Vec<String>,
    /// Payments for which money has to be given back.
    pub refunds_needed: Vec<Refund>,
    /// When they were read, in milliseconds since the epoch, by the clock of whoever keeps them. Without it
    /// nobody is late.
    pub read_at_ms: Option<i64>,
}

/// An item's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreItem {
    /// Its id.
    pub item_id: String,
    /// All units.
    pub stock: i64,
    /// Units of orders that are pending or paid, as the store counts them.
    pub allocated: i64,
    /// Its units as the sale was created.
    pub created_stock: Option<i64>,
    /// Units that one user may take of it, as the sale was created.
    pub per_user_limit: Option<u64>,
}

/// An order's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The reservation's id.
    pub order_id: String,
    /// Whose it is.
    pub user_id: String,
    /// `pending_payment`, `paid`, `cancelled` or `expired`.
    pub status: String,
    /// Units by item.
    pub lines: Vec<OrderLine>,
    /// The price of all lines.
    pub total: i64,
    /// The reservation's `held_at`, in milliseconds since the epoch.
    pub created_at_ms: i64,
    /// The end of the hold.
    pub expires_at_ms: i64,
    /// The payment.
    pub payment_ref: Option<String>,
    /// The reservation's: 1 as it was held, and one more with each step from there.
    pub version: i64,
    /// Its last step, by the ledger's clock, in milliseconds since the epoch.
    pub updated_at_ms: i64,
}

/// A payment that came for units that were no longer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// The reservation's id.
    pub order_id: String,
    /// The payment.
    pub payment_ref: String,
    /// Whose it is.
    pub user_id: String,
    /// How much has to go back.
    pub amount: i64,
}

/// A line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OrderLine {
    /// The item.
    pub item_id: String,
    /// Units.
    pub quantity: i64,
    /// Price of a unit.
    #[serde(default)]
    pub unit_price: i64,
}

/// A cart line that stands for a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CartLine {
    /// Whose cart.
    pub user_id: String,
    /// The item.
    pub item_id: String,
    /// The reservation.
    pub reservation_id: String,
    /// Units.
    pub quantity: i64,
}

impl Order {
    /// Whether its units are taken: pending or paid.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.status == "pending_payment" || self.status == "paid"
    }
}

impl StoreItem {
    pub(super) fn of(item_id: String, stock: i64, allocated: i64, definition: &Value) -> Self {
        let all = definition["items"].as_array();
        let defined = all.and_then(|all| all.iter().find(|defined| defined["id"] == *item_id));
        let created_stock = defined.and_then(|defined| defined["stock"].as_i64());
        let per_user_limit = defined.and_then(|defined| defined["per_user_limit"].as_u64());
        Self { item_id, stock, allocated, created_stock, per_user_limit }
    }
}

impl Books {
    /// Reads `<data-dir>/store.db`.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or read, or holds lines that are no lines.
    pub fn read(data_dir: &Path, sale: &str) -> Result<Self, BooksError> {
        Self::read_file(&data_dir.join("store.db"), sale)
    }

    /// Reads a store by its path; nothing is written to it.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub fn read_file(path: &Path, sale: &str) -> Result<Self, BooksError> {
        let mut connection =
            open(path).map_err(|error| BooksError::Sqlite(path.to_owned(), error))?;
        Self::read_connection(&mut connection, path, sale)
    }

    /// Reads a store through a connection; `path` is its name in errors.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub fn read_connection(
        connection: &mut Connection,
        path: &Path,
        sale: &str,
    ) -> Result<Self, BooksError> {
        let sqlite = |error| BooksError::Sqlite(path.to_owned(), error);
        let snapshot =
            connection.transaction_with_behavior(TransactionBehavior::Deferred).map_err(sqlite)?;
        let raw = raw_orders(&snapshot, sale).map_err(sqlite)?;
        let orders = raw
            .into_iter()
            .map(|(mut order, lines)| match serde_json::from_str(&lines) {
                Ok(lines) => {
                    order.lines = lines;
                    Ok(order)
                }
                Err(bad) => Err(BooksError::Lines(path.to_owned(), order.order_id, bad)),
            })
            .collect::<Result<_, _>>()?;
        let definition = definition(&snapshot, sale).map_err(sqlite)?;
        Ok(Self {
            per_user_limit: definition["per_user_limit"].as_u64(),
            items: items(&snapshot, sale, &definition).map_err(sqlite)?,
            orders,
            cart_lines: cart_lines(&snapshot, sale).map_err(sqlite)?,
            dead_letters: dead_letters(&snapshot).map_err(sqlite)?,
            refunds_needed: refunds(&snapshot, sale).map_err(sqlite)?,
            read_at_ms: Some(now_ms(&snapshot).map_err(sqlite)?),
        })
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WITHIN)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// The sale as it was created; null if there is none, or none that can be read.
fn definition(db: &Transaction<'_>, sale: &str) -> rusqlite::Result<Value> {
    let sql = "SELECT definition FROM sales WHERE sale_id = ?1";
    let text: Option<String> = db.query_row(sql, [sale], |row| row.get(0)).optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

fn items(db: &Transaction<'_>, sale: &str, definition: &Value) -> rusqlite::Result<Vec<StoreItem>> {
    let mut rows = db.prepare(
        "SELECT item_id, stock, allocated FROM items WHERE sale_id = ?1 ORDER BY item_id",
    )?;
    let rows = rows.query_map([sale], |row| {
        Ok(StoreItem::of(row.get(0)?, row.get(1)?, row.get(2)?, definition))
    })?;
    rows.collect()
}

fn raw_orders(db: &Transaction<'_>, sale: &str) -> rusqlite::Result<Vec<(Order, String)>> {
    let mut rows = db.prepare(
        "SELECT order_id, user_id, status, total, created_at, expires_at, payment_ref, version,
                updated_at, lines
         FROM orders WHERE sale_id = ?1 ORDER BY order_id, user_id",
    )?;
    let rows = rows.query_map([sale], |row| {
        let order = Order {
            order_id: row.get(0)?,
            user_id: row.get(1)?,
            status: row.get(2)?,
            lines: Vec::new(),
            total: row.get(3)?,
            created_at_ms: row.get(4)?,
            expires_at_ms: row.get(5)?,
            payment_ref: row.get(6)?,
            version: row.get(7)?,
            updated_at_ms: row.get(8)?,
        };
        Ok((order, row.get(9)?))
    })?;
    rows.collect()
}

/// Lines of this sale's orders, and orphans: a line whose reservation nobody knows belongs to no
/// sale, so it is everybody's fault.
fn cart_lines(db: &Transaction<'_>, sale: &str) -> rusqlite::Result<Vec<CartLine>> {
    let mut rows = db.prepare(
        "SELECT c.user_id, c.item_id, c.reservation_id, c.quantity
         FROM cart_lines AS c
         LEFT JOIN orders AS o ON o.user_id = c.user_id AND o.order_id = c.reservation_id
         WHERE c.reservation_id <> '' AND (o.sale_id = ?1 OR o.sale_id IS NULL)
         ORDER BY c.reservation_id, c.item_id, c.user_id",
    )?;
    let rows = rows.query_map([sale], |row| {
        Ok(CartLine {
            user_id: row.get(0)?,
            item_id: row.get(1)?,
            reservation_id: row.get(2)?,
            quantity: row.get(3)?,
        })
    })?;
    rows.collect()
}

fn refunds(db: &Transaction<'_>, sale: &str) -> rusqlite::Result<Vec<Refund>> {
    let mut rows = db.prepare(
        "SELECT order_id, payment_ref, user_id, amount FROM refunds_needed WHERE sale_id = ?1
         ORDER BY order_id, payment_ref",
    )?;
    let rows = rows.query_map([sale], |row| {
        Ok(Refund {
            order_id: row.get(0)?,
            payment_ref: row.get(1)?,
            user_id: row.get(2)?,
            amount: row.get(3)?,
        })
    })?;
    rows.collect()
}

fn dead_letters(db: &Transaction<'_>) -> rusqlite::Result<Vec<String>> {
    let mut rows = db.prepare("SELECT reason FROM dead_letters")?;
    let rows = rows.query_map([], |row| row.get(0))?;
    rows.collect()
}

fn now_ms(db: &Transaction<'_>) -> rusqlite::Result<i64> {
    let sql = "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)";
    db.query_row(sql, [], |row| row.get(0))
}
