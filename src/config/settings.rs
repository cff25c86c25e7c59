//! The keys, their defaults, and what has to be true of them together.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::places::REDIS_FORMS;
use crate::admission::AdmissionSettings;
use crate::http::tls::TlsSettings;
use crate::http::{Auth, ClientAddress, HttpSettings};
use crate::identity::tokens::JwtSettings;
use crate::ledger::Durability;
use crate::ledger::redis::server::Server;
use crate::limits;
use crate::store::{StoreAt, postgres};
use crate::switches::SwitchSettings;

/// Every key of the configuration.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where buyers connect.
    pub listen: SocketAddr,
    /// Where operators, probes and Prometheus connect.
    pub ops_listen: SocketAddr,
    /// Ledger, books and admin token of the embedded default.
    pub data_dir: PathBuf,
    /// A Redis ledger instead of the embedded one.
    pub redis_url: Option<String>,
    /// Another store than the data dir's.
    pub database_url: Option<String>,
    /// How buyers are told apart.
    pub auth: Auth,
    /// Peers whose `X-User-Id` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Which header of theirs names the client.
    pub client_address: ClientAddress,
    /// What a 201 promises.
    pub durability: Durability,
    /// Who may operate; made once and kept in the data dir where none is given.
    pub admin_token: Option<String>,
    /// Others who may see or operate, by the hashes of their tokens.
    pub admin_tokens_file: Option<PathBuf>,
    /// Buyers' tokens.
    pub jwt: JwtSettings,
    /// Signs tokens.
    pub secret: Option<String>,
    /// Log filter, as `RUST_LOG` has it.
    pub log: String,
    /// Form of the log.
    pub log_format: LogFormat,
    /// Takes `auth = "insecure"` on an address that others can reach.
    pub i_know_this_is_insecure: bool,
    /// The ledger, embedded or in Redis.
    pub ledger: LedgerSettings,
    /// The books, in SQLite or PostgreSQL.
    pub store: StoreSettings,
    /// Who may ask how often.
    pub admission: AdmissionSettings,
    /// Every public connection begins with a header of the PROXY protocol, which a trusted proxy
    /// sends.
    pub proxy_protocol: bool,
    /// The listeners.
    pub http: HttpSettings,
    /// TLS of the public listener.
    pub tls: TlsSettings,
    /// What to do without.
    pub switches: SwitchSettings,
}

/// Keys of the books.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// With PostgreSQL: connections for what buyers and operators ask.
    pub connections: usize,
    /// With PostgreSQL: the same database as a role that may change tables, if the other may not.
    pub migrate_url: Option<String>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { connections: 8, migrate_url: None }
    }
}

/// Keys of the ledger.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSettings {
    /// Lanes, fixed when the data dir is made: sales in different lanes do not wait for each other.
    pub lanes: u16,
    /// New reservations are refused while the disk has fewer bytes free.
    pub disk_reserve_bytes: u64,
    /// With Redis: calls of a lane that may be under way at once.
    pub in_flight: usize,
    /// With Redis: commands in one call.
    pub batch_max: usize,
    /// With Redis: replicas that must have what is promised as `replicated`.
    pub replicas: usize,
    /// With Redis: what the books have digested stays in the outbox for so long.
    pub retention_seconds: u64,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self {
            lanes: 4,
            disk_reserve_bytes: 64 * 1024 * 1024,
            in_flight: 2,
            batch_max: 128,
            replicas: 1,
            retention_seconds: 900,
        }
    }
}

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            ops_listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            data_dir: PathBuf::from("./floodgate-data"),
            redis_url: None,
            database_url: None,
            auth: Auth::Header,
            trusted_proxies: loopback(),
            client_address: ClientAddress::Auto,
            durability: Durability::Fsync,
            admin_token: None,
            admin_tokens_file: None,
            jwt: JwtSettings::default(),
            secret: None,
            log: "info".to_owned(),
            log_format: LogFormat::Auto,
            i_know_this_is_insecure: false,
            ledger: LedgerSettings::default(),
            store: StoreSettings::default(),
            admission: AdmissionSettings::default(),
            proxy_protocol: false,
            http: HttpSettings::default(),
            tls: TlsSettings::default(),
            switches: SwitchSettings::default(),
        }
    }
}

fn loopback() -> Vec<IpNet> {
    ["127.0.0.0/8", "::1/128"].iter().filter_map(|network| network.parse().ok()).collect()
}

impl Settings {
    /// A shorter secret can be guessed.
    pub const SECRET_BYTES_MIN: usize = 16;
    /// Keys whose values are never shown.
    pub const SECRETS: [&str; 6] =
        ["admin_token", "secret", "jwt.secret", "redis_url", "database_url", "store.migrate_url"];
    /// Keys whose values are text, whatever they look like.
    pub(super) const TEXTS: [&str; 16] = [
        "admin_token",
        "admin_tokens_file",
        "jwt.secret",
        "jwt.keys_file",
        "jwt.issuer",
        "jwt.audience",
        "secret",
        "redis_url",
        "database_url",
        "store.migrate_url",
        "log",
        "listen",
        "ops_listen",
        "data_dir",
        "tls.cert_file",
        "tls.key_file",
    ];

    /// What is wrong with the keys together; empty where nothing is.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1..=limits::LANES_MAX).contains(&self.ledger.lanes) {
            faults.push(format!("ledger.lanes must be 1 to {}", limits::LANES_MAX));
        }
        let ledger = &self.ledger;
        if !(1..=limits::REDIS_IN_FLIGHT_MAX).contains(&ledger.in_flight) {
            faults.push(format!("ledger.in_flight must be 1 to {}", limits::REDIS_IN_FLIGHT_MAX));
        }
        if !(1..=limits::LANE_BATCH_MAX).contains(&ledger.batch_max) {
            faults.push(format!("ledger.batch_max must be 1 to {}", limits::LANE_BATCH_MAX));
        }
        if ledger.replicas == 0 {
            faults.push("ledger.replicas must be at least 1".to_owned());
        }
        if let Some(Err(error)) = self.redis_url.as_deref().map(Server::of) {
            faults.push(format!("{error}; its forms are {REDIS_FORMS}"));
        }
        if let Err(error) = self.store_at() {
            faults.push(error);
        }
        if let Some(Err(error)) = self.store.migrate_url.as_deref().map(postgres::check_url) {
            faults.push(error.replace("database_url", "store.migrate_url"));
        }
        if !(1..=limits::STORE_CONNECTIONS_MAX).contains(&self.store.connections) {
            faults
                .push(format!("store.connections must be 1 to {}", limits::STORE_CONNECTIONS_MAX));
        }
        if self.durability == Durability::Replicated && self.redis_url.is_none() {
            faults.push(
                "durability: the embedded ledger has no replicas; set `fsync` or `stored`"
                    .to_owned(),
            );
        }
        if self.admin_token.as_ref().is_some_and(|token| token.len() < Self::SECRET_BYTES_MIN) {
            faults.push(format!(
                "admin_token must be at least {} bytes long",
                Self::SECRET_BYTES_MIN
            ));
        }
        if self.secret.as_ref().is_some_and(|secret| secret.len() < Self::SECRET_BYTES_MIN) {
            faults.push(format!("secret must be at least {} bytes long", Self::SECRET_BYTES_MIN));
        }
        faults.extend(self.jwt.faults(self.auth == Auth::Jwt));
        if self.auth == Auth::Insecure
            && !self.listen.ip().is_loopback()
            && !self.i_know_this_is_insecure
        {
            faults.push(format!(
                "auth = \"insecure\" lets anyone be anyone, and {} is not a loopback address; use \
                 another mode, or say --i-know-this-is-insecure",
                self.listen
            ));
        }
        faults.extend(self.admission.faults());
        faults.extend(self.http.faults());
        faults.extend(self.tls.faults());
        if let Err(error) = self.log.parse::<tracing_subscriber::EnvFilter>() {
            faults.push(format!("log: {error}"));
        }
        faults
    }

    /// Where the books are.
    ///
    /// # Errors
    /// In words that name the key.
    pub fn store_at(&self) -> Result<StoreAt, String> {
        StoreAt::of(self.database_url.as_deref(), &self.data_dir)
    }

    /// What is really promised: the embedded ledger always syncs a reservation before it is told.
    pub fn promised(&self) -> Durability {
        match self.redis_url {
            Some(_) => self.durability,
            None => self.durability.max(Durability::Fsync),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "***");
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("ops_listen", &self.ops_listen)
            .field("data_dir", &self.data_dir)
            .field("redis_url", &hidden(&self.redis_url))
            .field("database_url", &hidden(&self.database_url))
            .field("auth", &self.auth)
            .field("trusted_proxies", &self.trusted_proxies)
            .field("client_address", &self.client_address)
            .field("durability", &self.durability)
            .field("admin_token", &hidden(&self.admin_token))
            .field("admin_tokens_file", &self.admin_tokens_file)
            .field("jwt.secret", &hidden(&self.jwt.secret))
            .field("jwt.keys_file", &self.jwt.keys_file)
            .field("jwt.issuer", &self.jwt.issuer)
            .field("jwt.audience", &self.jwt.audience)
            .field("jwt.leeway_seconds", &self.jwt.leeway_seconds)
            .field("secret", &hidden(&self.secret))
            .field("log", &self.log)
            .field("log_format", &self.log_format)
            .field("i_know_this_is_insecure", &self.i_know_this_is_insecure)
            .field("ledger", &self.ledger)
            .field("store.connections", &self.store.connections)
            .field("store.migrate_url", &hidden(&self.store.migrate_url))
            .field("admission", &self.admission)
            .field("proxy_protocol", &self.proxy_protocol)
            .field("http", &self.http)
            .field("tls", &self.tls)
            .field("switches", &self.switches)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing prints a secret.
    #[test]
    fn secrets_are_masked() {
        let canary = "canary-in-the-coal-mine".to_owned();
        let settings = Settings {
            admin_token: Some(canary.clone()),
            secret: Some(canary.clone()),
            jwt: JwtSettings { secret: Some(canary.clone()), ..JwtSettings::default() },
            redis_url: Some(canary.clone()),
            database_url: Some(canary.clone()),
            store: StoreSettings { migrate_url: Some(canary.clone()), ..StoreSettings::default() },
            ..Settings::default()
        };
        assert!(!format!("{settings:?}").contains(&canary));
    }

    /// The defaults are fine, and each combination that is not names its key.
    #[test]
    fn faults_name_their_keys() {
        assert_eq!(Settings::default().faults(), Vec::<String>::new());
        let bad = Settings {
            listen: SocketAddr::from(([0, 0, 0, 0], 80)),
            auth: Auth::Insecure,
            redis_url: Some("http://there".into()),
            database_url: Some("mysql://there".into()),
            store: StoreSettings { connections: 0, migrate_url: Some("postgres://".into()) },
            admin_token: Some("short".into()),
            ledger: LedgerSettings {
                lanes: 0,
                in_flight: 0,
                batch_max: 0,
                replicas: 0,
                ..LedgerSettings::default()
            },
            ..Settings::default()
        };
        let faults = bad.faults();
        for key in [
            "ledger.lanes",
            "ledger.in_flight",
            "ledger.batch_max",
            "ledger.replicas",
            "redis_url",
            "database_url",
            "store.connections",
            "store.migrate_url",
            "admin_token",
            "insecure",
        ] {
            assert!(faults.iter().any(|fault| fault.contains(key)), "{key}: {faults:?}");
        }
        let jwt = |jwt| Settings { auth: Auth::Jwt, jwt, ..Settings::default() }.faults();
        let none = JwtSettings::default();
        let long = || Some("s".repeat(32));
        let file = || Some(PathBuf::from("keys.pem"));
        assert_eq!(jwt(JwtSettings { secret: long(), ..none.clone() }), Vec::<String>::new());
        assert_eq!(jwt(JwtSettings { keys_file: file(), ..none.clone() }), Vec::<String>::new());
        let many = JwtSettings {
            secret: Some("short".into()),
            issuer: Some(String::new()),
            audience: Some(String::new()),
            leeway_seconds: 301,
            ..none.clone()
        };
        for (settings, keys) in [
            (none.clone(), &["jwt.secret"][..]),
            (JwtSettings { secret: long(), keys_file: file(), ..none }, &["contradict"]),
            (many, &["jwt.secret", "jwt.issuer", "jwt.audience", "jwt.leeway_seconds"]),
        ] {
            let faults = jwt(settings);
            assert_eq!(faults.len(), keys.len(), "{faults:?}");
            assert!(faults.iter().zip(keys).all(|(fault, key)| fault.contains(key)), "{faults:?}");
        }
        let alone = Settings { durability: Durability::Replicated, ..Settings::default() };
        assert!(alone.faults()[0].contains("durability"), "the embedded ledger has no replicas");
        let aware = Settings { i_know_this_is_insecure: true, ..bad };
        assert_eq!(aware.faults().len(), faults.len() - 1);
    }
}
