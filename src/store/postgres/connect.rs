//! Reaching the database: addresses, TLS, pools, and tables that are up to date.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{is_passing, with_cause};
use crate::limits;

/// The tables, as numbered steps that only go forward.
#[allow(missing_docs, reason = "written by the macro")]
mod schema {
    refinery::embed_migrations!("src/store/postgres/migrations");
}

/// Held by whoever brings the tables up to date: "floodgat" in ASCII.
const MIGRATES: i64 = 0x666c_6f6f_6467_6174;

/// Where PostgreSQL listens if an address does not say.
const POSTGRES_PORT: u16 = 5432;

/// A client, and what moves its bytes.
type Reached = (Client, Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>);

/// What a writer's session is set to. Its statements join a batch with tables that grow from nothing to
/// millions of rows under one prepared plan: only the indexes serve at every size.
pub(super) const FOR_WRITER: &str =
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off";
/// What the sessions for buyers are set to.
pub(super) const FOR_ASKED: &str = "";

/// How a store is opened.
#[derive(Clone, Copy)]
pub struct Settings<'s> {
    /// `postgres://…`.
    pub url: &'s str,
    /// The same as a role that may change tables, if the other may not.
    pub migrate_url: Option<&'s str>,
    /// Connections for what buyers and operators ask.
    pub connections: usize,
    /// Whether other gateways write the same books.
    pub shared: bool,
    /// Whether a 201 promises what is stored.
    pub stores_promises: bool,
}

/// Why the books cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address says nothing that can be done.
    #[error("database_url: {0}")]
    Url(String),
    /// Nobody answers there.
    #[error("PostgreSQL cannot be reached: {0}")]
    Unreachable(String),
    /// It does not answer in time, or says itself that it cannot now.
    #[error("PostgreSQL is not ready: {0}")]
    NotReady(String),
    /// It answers, and refuses.
    #[error("PostgreSQL refuses: {0}")]
    Refused(String),
    /// The tables cannot be brought up to date.
    #[error(
        "the tables cannot be brought up to date: {0}; give a role that may as \
         store.migrate_url"
    )]
    Migrations(String),
    /// It does not give what is promised.
    #[error(
        "durability `stored` needs PostgreSQL to sync what it commits, and {setting} is {found}: set \
         it to on"
    )]
    Unfit {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        found: String,
    },
}

impl OpenError {
    pub(super) fn unreachable(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::from(error),
            other @ PoolError::Timeout(_) => Self::NotReady(other.to_string()),
            other @ (PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_)) => Self::Unreachable(other.to_string()),
        }
    }

    pub(super) fn refused(error: Error) -> Self {
        Self::from(error)
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        match error.as_db_error() {
            Some(refusal) if is_passing(&error) => Self::NotReady(refusal.message().to_owned()),
            Some(refusal) => Self::Refused(refusal.message().to_owned()),
            None => Self::Unreachable(with_cause(&error)),
        }
    }
}

/// A database, and how to speak to it.
#[derive(Clone)]
pub(in crate::store) struct Target {
    config: Config,
    tls: MakeRustlsConnect,
}

/// Checks an address without connecting.
///
/// # Errors
/// In words, naming the key.
pub fn check_url(url: &str) -> Result<(), String> {
    Target::of(url).map(drop).map_err(|error| error.to_string())
}

/// What a look at a database finds.
#[derive(Clone, Debug)]
pub struct Looked {
    /// In the server's words.
    pub version: String,
    /// Whether it syncs what it commits.
    pub fsync: bool,
    /// Whether it does so before it answers.
    pub synchronous_commit: bool,
    /// How many connections it takes.
    pub connections: usize,
    /// Whether a gateway has used it.
    pub tables: bool,
    /// Whether this role may make them.
    pub may_create: bool,
}

/// Looks at a database and changes nothing.
///
/// # Errors
/// [`OpenError`].
pub async fn look(url: &str) -> Result<Looked, OpenError> {
    let (client, _task) = Target::of(url)?.connect().await?;
    let row = client
        .query_one(
            "SELECT current_setting('server_version'), current_setting('fsync') <> 'off',
                    current_setting('synchronous_commit') <> 'off',
                    current_setting('max_connections')::int8,
                    to_regclass('refinery_schema_history') IS NOT NULL,
                    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)",
            &[],
        )
        .await?;
    Ok(Looked {
        version: row.get(0),
        fsync: row.get(1),
        synchronous_commit: row.get(2),
        connections: usize::try_from(row.get::<_, i64>(3)).unwrap_or(0),
        tables: row.get(4),
        may_create: row.get(5),
    })
}

impl Target {
    pub(in crate::store) fn of(url: &str) -> Result<Self, OpenError> {
        let (url, ssl) = Ssl::split(url)?;
        let mut config: Config =
            url.parse().map_err(|error: Error| OpenError::Url(with_cause(&error)))?;
        if config.get_hosts().is_empty() {
            return Err(OpenError::Url("it names no host".to_owned()));
        }
        let nearby = config.get_hosts().iter().all(is_nearby);
        let encrypts = ssl.encrypts.unwrap_or(!nearby);
        config.ssl_mode(if encrypts { SslMode::Require } else { SslMode::Disable });
        if config.get_application_name().is_none() {
            config.application_name("floodgate");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_millis(limits::STORE_CONNECT_MS));
        }
        config.keepalives_idle(Duration::from_secs(30));
        config.tcp_user_timeout(Duration::from_millis(limits::STORE_CALL_MS));
        let tls = MakeRustlsConnect::new(ssl.config(encrypts)?);
        Ok(Self { config, tls })
    }

    pub(super) fn pool(
        &self,
        connections: usize,
        session: &'static str,
    ) -> Result<Pool, OpenError> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), recycling);
        let wait = Some(Duration::from_millis(limits::STORE_WAIT_MS));
        let connect = Some(Duration::from_millis(limits::STORE_CONNECT_MS));
        let timeout = limits::STORE_CALL_MS;
        let prepare = format!(
            "SET statement_timeout = {timeout}; SET lock_timeout = {timeout};
             SET idle_in_transaction_session_timeout = {timeout}; {session}"
        );
        let prepare: Arc<str> = prepare.into();
        Pool::builder(manager)
            .max_size(connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(wait)
            .create_timeout(connect)
            .recycle_timeout(connect)
            .post_create(Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
                let prepare = Arc::clone(&prepare);
                Box::pin(
                    async move { client.batch_execute(&prepare).await.map_err(HookError::Backend) },
                )
            }))
            .build()
            .map_err(|error| OpenError::Unreachable(error.to_string()))
    }

    async fn reach(&self) -> Result<Reached, OpenError> {
        let reached = in_time(self.config.connect(self.tls.clone())).await;
        reached.map_err(|error| match error {
            OpenError::Unreachable(what) => {
                OpenError::Unreachable(format!("{}: {what}", self.place()))
            }
            other @ (OpenError::Url(_)
            | OpenError::NotReady(_)
            | OpenError::Refused(_)
            | OpenError::Migrations(_)
            | OpenError::Unfit { .. }) => other,
        })
    }

    /// Hosts and ports, for messages: nobody's name, no password.
    fn place(&self) -> String {
        let ports = self.config.get_ports();
        let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(POSTGRES_PORT);
        let place = |(at, host): (usize, &Host)| match host {
            Host::Tcp(host) => format!("{host}:{}", port(at)),
            Host::Unix(path) => format!("{} port {}", path.display(), port(at)),
        };
        self.config.get_hosts().iter().enumerate().map(place).collect::<Vec<_>>().join(",")
    }

    /// A connection of its own; it lives as long as its task.
    pub(in crate::store) async fn connect(&self) -> Result<(Client, JoinHandle<()>), OpenError> {
        let (client, connection) = self.reach().await?;
        let task = tokio::spawn(async move {
            // Whoever waits for an answer of it is told.
            let _ = connection.await;
        });
        Ok((client, task))
    }

    /// The same; what the server tells unasked goes to `told`.
    pub(super) async fn connect_and_hear(
        &self,
        told: tokio::sync::mpsc::Sender<String>,
    ) -> Result<(Client, JoinHandle<()>), OpenError> {
        let (client, mut connection) = self.reach().await?;
        let task = tokio::spawn(async move {
            while let Some(Ok(message)) =
                std::future::poll_fn(|context| connection.poll_message(context)).await
            {
                if let tokio_postgres::AsyncMessage::Notification(notification) = message
                    && told.send(notification.payload().to_owned()).await.is_err()
                {
                    return;
                }
            }
        });
        Ok((client, task))
    }

    /// Brings the tables up to date, as another role where one is given, which then lets ours use them.
    pub(super) async fn migrate(&self, migrate_url: Option<&str>) -> Result<(), OpenError> {
        let newest =
            schema::migrations::runner().get_migrations().last().map(|step| step.version());
        let (client, task) = self.connect().await?;
        let user = client.query_one("SELECT current_user::text", &[]);
        let user: String = answered(user, OpenError::from).await?.get(0);
        let there = client.query_opt("SELECT max(version) FROM refinery_schema_history", &[]);
        let there = match answered(there, OpenError::from).await {
            Err(slow @ OpenError::NotReady(_)) => return Err(slow),
            found => found.map(|row| row.and_then(|row| row.get::<_, Option<i32>>(0))),
        };
        drop(client);
        // It ends with its client.
        let _ = task.await;
        // Tables of a later version only have more: an older gateway beside newer ones goes on.
        if there.is_ok_and(|there| there.map(i64::from) >= newest.map(i64::from)) {
            return Ok(());
        }
        let owner = match migrate_url {
            Some(url) => Self::of(url)?,
            None => self.clone(),
        };
        let (mut client, task) = owner.connect().await?;
        let failed = |error: Error| OpenError::Migrations(with_cause(&error));
        // Of several gateways that start together one does it; the lock ends with the connection.
        let patience = format!("SET lock_timeout = {}", limits::STORE_MIGRATE_MS);
        client.batch_execute(&patience).await.map_err(failed)?;
        client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATES]).await.map_err(failed)?;
        schema::migrations::runner()
            .run_async(&mut client)
            .await
            .map_err(|error| OpenError::Migrations(causes(&error)))?;
        if migrate_url.is_some() {
            let names = client
                .query_one("SELECT quote_ident($1), quote_ident(current_schema)", &[&user])
                .await?;
            let (user, schema): (&str, &str) = (names.get(0), names.get(1));
            // What was written down stays: those tables are only added to.
            let grants = format!(
                "GRANT USAGE ON SCHEMA {schema} TO {user};
                 GRANT SELECT ON refinery_schema_history TO {user};
                 GRANT SELECT, INSERT ON ledger, sales, refunds_needed, audit_log, archive TO {user};
                 GRANT SELECT, INSERT, UPDATE ON lanes, items, carts TO {user};
                 GRANT SELECT ON all_orders TO {user};
                 GRANT SELECT, INSERT, UPDATE, DELETE
                     ON orders, archived_orders, cart_lines, dead_letters TO {user}"
            );
            client.batch_execute(&grants).await.map_err(failed)?;
        }
        drop(client);
        let _ = task.await;
        Ok(())
    }
}

/// An answer to one of the first questions, within the time for any.
pub(super) async fn answered<T, E>(
    asked: impl Future<Output = Result<T, E>>,
    failed: impl FnOnce(E) -> OpenError,
) -> Result<T, OpenError> {
    let within = Duration::from_millis(limits::STORE_CONNECT_MS + limits::STORE_CALL_MS);
    match tokio::time::timeout(within, asked).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(OpenError::NotReady("no answer in time".to_owned())),
    }
}

/// The crate bounds the socket, not what is said first on it.
async fn in_time<T>(connect: impl Future<Output = Result<T, Error>>) -> Result<T, OpenError> {
    // A host that does not take the connection is told by the crate, before this.
    let within = Duration::from_millis(limits::STORE_CONNECT_MS + limits::STORE_GREETING_MS);
    match tokio::time::timeout(within, connect).await {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(OpenError::NotReady("it does not greet in time".to_owned())),
    }
}

/// An error in its own words and those of everything behind it: the last say what the server said.
fn causes(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !said.contains(&words) {
            said.push_str(": ");
            said.push_str(&words);
        }
        cause = error.source();
    }
    said
}

fn is_nearby(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            let address: Option<std::net::IpAddr> = name.parse().ok();
            name == "localhost" || address.is_some_and(|address| address.is_loopback())
        }
    }
}

/// What an address says of TLS, in libpq's words. There is no encryption without verification here:
/// whoever can read the traffic of a peer that is not verified can also answer for it.
struct Ssl {
    encrypts: Option<bool>,
    roots: Option<String>,
}

impl Ssl {
    /// Takes `sslmode` and `sslrootcert` out of an address.
    fn split(url: &str) -> Result<(String, Self), OpenError> {
        let mut ssl = Self { encrypts: None, roots: None };
        let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), ssl)) };
        let mut rest = Vec::new();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("sslmode", mode)) => {
                    ssl.encrypts = Some(match mode {
                        "disable" => false,
                        "require" | "verify-ca" | "verify-full" => true,
                        other => {
                            return Err(OpenError::Url(format!(
                                "sslmode={other}: must be disable, require, verify-ca or verify-full"
                            )));
                        }
                    });
                }
                Some(("sslrootcert", file)) => ssl.roots = Some(file.replace("%2F", "/")),
                _ => rest.push(pair),
            }
        }
        let joined = rest.join("&");
        let mark = if joined.is_empty() { "" } else { "?" };
        Ok((format!("{base}{mark}{joined}"), ssl))
    }

    fn config(&self, encrypts: bool) -> Result<ClientConfig, OpenError> {
        let roots = if encrypts { self.roots()? } else { RootCertStore::empty() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| OpenError::Url(error.to_string()))?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }

    fn roots(&self) -> Result<RootCertStore, OpenError> {
        let mut roots = RootCertStore::empty();
        match &self.roots {
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
            }
            Some(file) => {
                let bad = |error: String| OpenError::Url(format!("sslrootcert={file}: {error}"));
                let certificates =
                    CertificateDer::pem_file_iter(file).map_err(|error| bad(error.to_string()))?;
                for certificate in certificates {
                    let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                    roots.add(certificate).map_err(|error| bad(error.to_string()))?;
                }
            }
        }
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message says where a database is, and not who logs in.
    #[test]
    fn places() {
        let place = |url: &str| Target::of(url).unwrap().place();
        assert_eq!(place("postgres://a:canary@127.0.0.1/x"), "127.0.0.1:5432");
        assert_eq!(place("postgres://a:canary@h:1,i:2/x?sslmode=disable"), "h:1,i:2");
        assert_eq!(place("postgres:///x?host=/run/pg&password=canary"), "/run/pg port 5432");
    }

    /// What an address says of TLS is taken out of it, and nearby databases need none.
    #[test]
    fn addresses() {
        let mode = |url: &str| Target::of(url).map(|target| target.config.get_ssl_mode());
        assert_eq!(mode("postgres://a@127.0.0.1/x").unwrap(), SslMode::Disable);
        assert_eq!(mode("postgres://a@localhost/x?sslmode=require").unwrap(), SslMode::Require);
        assert_eq!(mode("postgres://a@db.example/x").unwrap(), SslMode::Require);
        assert_eq!(mode("postgres://a@db.example/x?sslmode=disable").unwrap(), SslMode::Disable);
        for bad in [
            "postgres://a@h/x?sslmode=prefer",
            "postgres://a@h/x?sslmode=require&sslrootcert=/nowhere",
            "postgres://",
            "postgres://a@h/x?unknown=1",
        ] {
            let error = mode(bad).unwrap_err().to_string();
            assert!(error.contains("database_url"), "{bad}: {error}");
        }
    }
}
