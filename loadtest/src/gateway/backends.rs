//! What a gateway stands on: nothing, or a Redis and a PostgreSQL of its own.

use std::path::Path;
use std::time::Duration;

use super::GatewayError;
use crate::fault_proxy::FaultProxy;
use crate::oracle::BooksAt;
use crate::postgres_server::{self, PostgresServer};
use crate::redis_server::{Keeps, RedisServer};

/// What a Redis keeps, and so what a 201 promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// Nothing is synced.
    Memory,
    /// Every write is synced before it is answered.
    Fsync,
}

impl Durable {
    /// As the gateway's key `durability` says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Fsync => "fsync",
        }
    }

    fn keeps(self) -> Keeps {
        match self {
            Self::Memory => Keeps::Nothing,
            Self::Fsync => Keeps::Everything,
        }
    }
}

/// Servers that live as long as this.
#[derive(Debug, Default)]
pub struct Backends {
    /// The ledger's, if it is not embedded.
    pub redis: Option<RedisServer>,
    /// What its writes are worth.
    durable: Option<Durable>,
    /// The books', if they are not SQLite's.
    pub postgres: Option<PostgresServer>,
    /// What makes it slow.
    slow: Option<FaultProxy>,
}

impl Backends {
    /// Starts what is wanted.
    ///
    /// # Errors
    /// A program is missing (the error says what to install), or does not come up.
    pub fn start(redis: Option<Durable>, postgres: bool) -> Result<Self, GatewayError> {
        let server = redis.map(|durable| RedisServer::start(durable.keeps())).transpose();
        let redis_server = server.map_err(|bad| {
            GatewayError::Io("redis-server (Debian: apt-get install redis-server)".to_owned(), bad)
        })?;
        let postgres = if postgres { Some(PostgresServer::start()) } else { None };
        let postgres = postgres.transpose();
        let postgres = postgres.map_err(|bad| GatewayError::Io("PostgreSQL".to_owned(), bad))?;
        Ok(Self { redis: redis_server, durable: redis, postgres, slow: None })
    }

    /// Makes every answer of PostgreSQL so much later.
    ///
    /// # Errors
    /// There is no PostgreSQL.
    pub fn slow_down(&mut self, by: Duration) -> Result<(), GatewayError> {
        let missing = || std::io::Error::other("a slow store needs --postgres");
        let of = |bad| GatewayError::Io("slow store".to_owned(), bad);
        let postgres = self.postgres.as_ref().ok_or_else(missing).map_err(of)?;
        let proxy = FaultProxy::start(postgres.address()).map_err(of)?;
        proxy.delay(by);
        self.slow = Some(proxy);
        Ok(())
    }

    /// Where the books are.
    #[must_use]
    pub fn books(&self, data_dir: &Path) -> BooksAt {
        match &self.postgres {
            Some(server) => BooksAt::Postgres(server.url()),
            None => BooksAt::Sqlite(data_dir.join("store.db")),
        }
    }

    /// The flags by which the product finds all this.
    pub(super) fn arguments(&self, data_dir: &Path) -> Vec<String> {
        let mut arguments = vec!["--data-dir".to_owned(), data_dir.to_string_lossy().into_owned()];
        if let Some(redis) = &self.redis {
            arguments.extend(["--redis-url".to_owned(), redis.url()]);
            let durability = self.durable.map_or("fsync", Durable::name);
            arguments.extend(["--set".to_owned(), format!("durability={durability}")]);
        }
        let store = match (&self.slow, &self.postgres) {
            (Some(proxy), _) => Some(postgres_server::url_at(proxy.address())),
            (None, Some(server)) => Some(server.url()),
            (None, None) => None,
        };
        arguments.extend(store.into_iter().flat_map(|url| ["--database-url".to_owned(), url]));
        arguments
    }
}
