//! The store for many gateways: the books in a PostgreSQL database.
//!
//! Two pools: what buyers ask for must not keep the books from being written. Every wait has a bound: for a
//! connection, for a statement (on the server), and for the answer (here); a connection that did not
//! answer in time is closed, not used again.

mod archive;
mod carts;
pub(super) mod connect;
mod dead;
mod digest;
mod lease;
pub(super) mod log;
mod mend;
mod news;
mod orders;
mod retire;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deadpool_postgres::{Client, Object, Pool, PoolError, TimeoutType};
use serde_json::Value;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

pub use connect::{Looked, OpenError, Settings, check_url, look};
pub use news::{Listener, News};

pub(super) use self::archive::record_of;

use self::connect::Target;
use super::{
    Batch, Claim, DeadLetter, DeadMark, Digested, Holder, Job, Mend, Note, Retried, Store,
    StoreError,
};
use crate::carts::{Cart, CartChange, CartRefusal};
use crate::clock::Millis;
use crate::engine::{Actor, Position};
use crate::limits;
use crate::orders::{Order, OrderMark};
use crate::outbox::Record;
use crate::sale::{ItemId, LaneId, ReservationId, SaleId, UserId};

/// The books in a database.
pub struct PostgresStore {
    target: Target,
    /// For the writer, and for what the product itself asks.
    own: Pool,
    /// For what buyers and operators ask.
    asked: Pool,
    /// Whether what was digested is kept whole, for a ledger that can forget, and other gateways are
    /// told of it: the ledger is shared.
    shared: bool,
}

/// A connection while a job is at it. A job that is given up halfway leaves it in any state: it is closed
/// then, not used again.
struct Lent(Option<Client>);

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

/// Runs one job on a connection of a pool, within bounds.
macro_rules! run {
    ($pool:expr, |$client:ident| $work:expr) => {
        Box::pin(async move {
            let mut lent = Lent(Some(take(&$pool).await?));
            let Some($client) = lent.0.as_mut() else { return Err(StoreError::Overloaded) };
            let answer = bounded($work).await;
            // A connection whose job failed may be in any state, too.
            if !matches!(answer, Err(StoreError::Failed(_) | StoreError::NotReady(_))) {
                drop(lent.0.take());
            }
            answer
        })
    };
}

impl PostgresStore {
    /// Connects, and brings the tables up to date.
    ///
    /// # Errors
    /// [`OpenError`] says what cannot be done, and where something has to be set, what.
    pub async fn open(settings: &Settings<'_>) -> Result<Self, OpenError> {
        let store = Self::open_beside(settings)?;
        store.target.migrate(settings.migrate_url).await?;
        store.check(settings).await?;
        Ok(store)
    }

    /// The books that a gateway may be at: connects when it is asked something, and leaves the tables as
    /// they are.
    ///
    /// # Errors
    /// The address.
    pub fn open_beside(settings: &Settings<'_>) -> Result<Self, OpenError> {
        let target = Target::of(settings.url)?;
        let own = target.pool(limits::STORE_WRITERS, connect::FOR_WRITER)?;
        let asked = target.pool(settings.connections, connect::FOR_ASKED)?;
        Ok(Self { target, own, asked, shared: settings.shared })
    }

    /// Hears what other gateways tell, until the answer is dropped.
    pub fn listen(&self, hear: impl Fn(News) + Send + Sync + 'static) -> Listener {
        news::listen(self.target.clone(), hear)
    }

    async fn check(&self, settings: &Settings<'_>) -> Result<(), OpenError> {
        let client = connect::answered(self.own.get(), OpenError::unreachable).await?;
        if settings.stores_promises {
            for (setting, wrong) in [("fsync", "off"), ("synchronous_commit", "off")] {
                let asked: [&(dyn ToSql + Sync); 1] = [&setting];
                let row = client.query_one("SELECT current_setting($1)", &asked);
                let found: String = connect::answered(row, OpenError::refused).await?.get(0);
                if found == wrong {
                    return Err(OpenError::Unfit { setting, found });
                }
            }
        }
        Ok(())
    }
}

/// A connection of a pool, or word that too many wait for one.
async fn take(pool: &Pool) -> Result<Client, StoreError> {
    if pool.status().waiting >= limits::STORE_QUEUE {
        return Err(StoreError::Overloaded);
    }
    // The pool bounds each of its steps but the session's settings.
    let within = Duration::from_millis(limits::STORE_WAIT_MS + limits::STORE_CONNECT_MS);
    let taken = tokio::time::timeout(within, pool.get()).await;
    let taken = taken.map_err(|_| StoreError::NotReady("no connection in time".to_owned()))?;
    taken.map_err(|error| match error {
        PoolError::Timeout(TimeoutType::Wait) => StoreError::Overloaded,
        PoolError::Backend(error) => StoreError::from(error),
        PoolError::Timeout(_) => StoreError::NotReady(error.to_string()),
        PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            StoreError::Failed(error.to_string())
        }
    })
}

async fn bounded<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(Duration::from_millis(limits::STORE_CALL_MS), work).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::NotReady("no answer in time".to_owned())),
    }
}

impl Store for PostgresStore {
    fn cursor(&self, lane: LaneId) -> Job<'_, Position> {
        run!(self.own, |client| lease::cursor(client, lane))
    }

    fn bind(&self, ledger: String) -> Job<'_, String> {
        run!(self.own, |client| lease::bind(client, &ledger))
    }

    fn claim(&self, lane: LaneId, holder: Holder) -> Job<'_, Claim> {
        run!(self.own, |client| lease::claim(client, lane, holder))
    }

    fn release(&self, lane: LaneId, holder: Holder) -> Job<'_, ()> {
        run!(self.own, |client| lease::release(client, lane, holder))
    }

    fn digest(&self, batch: Arc<Batch>) -> Job<'_, Digested> {
        run!(self.own, |client| digest::digest(client, &batch, self.shared))
    }

    fn archive(&self, lane: LaneId, seq: u64, max: usize) -> Job<'_, Vec<Record>> {
        run!(self.own, |client| archive::read(client, lane, seq, max))
    }

    fn order(&self, user: UserId, id: ReservationId) -> Job<'_, Option<Order>> {
        run!(self.asked, |client| orders::order(client, &user, id))
    }

    fn orders(&self, user: UserId, after: Option<OrderMark>, max: usize) -> Job<'_, Vec<Order>> {
        run!(self.asked, |client| orders::page(client, &user, after, max))
    }

    fn cart(&self, user: UserId) -> Job<'_, Cart> {
        run!(self.asked, |client| carts::read(client, &user))
    }

    fn change_cart(
        &self,
        user: UserId,
        expected: Option<u64>,
        change: CartChange,
    ) -> Job<'_, Result<Cart, CartRefusal>> {
        let shared = self.shared;
        run!(self.asked, |client| carts::change(client, &user, expected, &change, shared))
    }

    fn merge_carts(
        &self,
        guest: UserId,
        user: UserId,
        expected: Option<u64>,
    ) -> Job<'_, Result<Cart, CartRefusal>> {
        let shared = self.shared;
        run!(self.asked, |client| carts::merge(client, &guest, &user, expected, shared))
    }

    fn carts_with(&self, items: Vec<ItemId>, max: usize) -> Job<'_, Vec<(UserId, Cart)>> {
        run!(self.asked, |client| carts::with_items(client, &items, max))
    }

    fn dead_letters(
        &self,
        after: Option<DeadMark>,
        max: usize,
    ) -> Job<'_, Vec<(LaneId, DeadLetter)>> {
        run!(self.own, |client| dead::page(client, after, max))
    }

    fn retry_dead_letter(&self, mark: DeadMark, actor: Actor) -> Job<'_, Option<Retried>> {
        run!(self.own, |client| dead::retry(client, mark, &actor, self.shared))
    }

    fn drop_dead_letter(&self, mark: DeadMark, actor: Actor) -> Job<'_, bool> {
        run!(self.own, |client| dead::drop(client, mark, &actor))
    }

    fn mend(&self, mends: Arc<[Mend]>, mended: u64) -> Job<'_, u64> {
        run!(self.asked, |client| mend::mend(client, &mends, mended, self.shared))
    }

    fn archive_orders(&self, sale: SaleId, max: usize, actor: Actor) -> Job<'_, u64> {
        run!(self.asked, |client| retire::archive(client, &sale, max, &actor))
    }

    fn note(&self, note: Note) -> Job<'_, ()> {
        run!(self.asked, |client| log::add_note(client, &note))
    }

    fn audit_log(&self, skip: usize, max: usize) -> Job<'_, Vec<Value>> {
        run!(self.asked, |client| log::page(client, skip, max))
    }

    fn ping(&self) -> Job<'_, ()> {
        run!(self.own, |client| async {
            client.query("SELECT FROM lanes LIMIT 1", &[]).await?;
            Ok(())
        })
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let Some(refusal) = error.as_db_error() else {
            return StoreError::NotReady(with_cause(&error));
        };
        let text = match refusal.detail() {
            Some(detail) => format!("{} ({detail})", refusal.message()),
            None => refusal.message().to_owned(),
        };
        // Data exceptions, constraints, limits of a program, and what PostgreSQL itself did not expect: it may
        // be the data. Everything else passes with time, or with an operator.
        match refusal.code().code().get(..2) {
            Some("22" | "23" | "54" | "XX") => StoreError::Rejected(text),
            _ if *refusal.code() == SqlState::UNTRANSLATABLE_CHARACTER => {
                StoreError::Rejected(text)
            }
            _ if is_passing(&error) => StoreError::NotReady(text),
            _ => StoreError::Failed(text),
        }
    }
}

/// Whether the server says that it cannot do it now: it is starting, ending, full, or waits for somebody
/// else's lock.
fn is_passing(error: &Error) -> bool {
    let passing = [
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
    ];
    error.code().is_some_and(|code| passing.contains(code))
}

/// tokio-postgres keeps what happened in the source of its errors.
fn with_cause(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// PostgreSQL's integers are signed. None of ours comes near the sign.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// See [`number`].
pub(super) fn whole(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn id(reservation: ReservationId) -> uuid::Uuid {
    uuid::Uuid::from_bytes(*reservation.as_bytes())
}

/// An instant as a column takes it; at most about the year 37,000.
fn instant(at: Millis) -> SystemTime {
    let latest = Duration::from_secs(u64::MAX >> 24);
    UNIX_EPOCH + Duration::from_millis(at.0).min(latest)
}

pub(super) fn millis(at: SystemTime) -> Millis {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Columns keep microseconds; ours are whole milliseconds.
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use floodgate_loadtest::postgres_server::PostgresServer;

    use super::*;

    async fn open() -> (Arc<dyn Store>, PostgresServer) {
        let server = PostgresServer::start_with(&["fsync=off"]).unwrap();
        let store = open_at(&server.url()).await.unwrap();
        (Arc::new(store), server)
    }

    async fn open_at(url: &str) -> Result<PostgresStore, OpenError> {
        let settings = Settings {
            url,
            migrate_url: None,
            connections: 8,
            shared: true,
            stores_promises: false,
        };
        PostgresStore::open(&settings).await
    }

    crate::store::contract::store_contract!(open);

    /// See the suite.
    #[tokio::test]
    async fn a_database_that_refuses() {
        let (store, server) = open().await;
        let refuse = async || {
            let url = server.url();
            let (client, _task) = Target::of(&url).unwrap().connect().await.unwrap();
            let check = "ALTER TABLE orders ADD CHECK (user_id <> 'user-2')";
            client.batch_execute(check).await.unwrap();
        };
        crate::store::contract::a_database_that_refuses(store, refuse).await;
    }
}
