//! Real gateways inside the test: own data dir, free ports, and books that are audited at the end.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;

use floodgate::admission::AdmissionSettings;
use floodgate::app::{self, Gateway, Handed};
use floodgate::audit::{self, LedgerAt};
use floodgate::config::Settings;
use floodgate::runtimes::Handles;
use floodgate::store::StoreAt;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::shop::Shop;

/// A gateway that runs in this process.
pub struct TestGateway {
    shop: Shop,
    gateway: Gateway,
    settings: Settings,
    dir: TempDir,
}

impl Deref for TestGateway {
    type Target = Shop;

    fn deref(&self) -> &Shop {
        &self.shop
    }
}

impl TestGateway {
    /// With the default settings, but for the limits on requests: who asks how often is not what most
    /// tests are about.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With other settings, limits on requests among them.
    pub async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut settings = Settings {
            listen: any_port,
            ops_listen: any_port,
            data_dir: dir.path().to_owned(),
            admission: AdmissionSettings::unlimited(),
            ..Settings::default()
        };
        change(&mut settings);
        Self::run(settings, dir).await
    }

    async fn run(settings: Settings, dir: TempDir) -> Self {
        let gateway =
            Gateway::start(&settings, Handed::default(), &Handles::current()).await.unwrap();
        let shop = Shop {
            public: gateway.public_address,
            ops: gateway.ops_address,
            token: app::read_token(dir.path()).unwrap(),
        };
        Self { shop, gateway, settings, dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Has it read keys and lists once more.
    pub fn reload_identity(&self) -> Result<(), String> {
        let tokens = self.gateway.tokens.as_ref().map_or(Ok(()), |tokens| tokens.reload());
        tokens.and(self.gateway.admins.reload())
    }

    /// Takes the gateway down in good order and calls `meanwhile` while nothing runs; then another
    /// gateway takes over the data dir.
    pub async fn restart(self, meanwhile: impl AsyncFnOnce()) -> Self {
        let Self { gateway, settings, dir, .. } = self;
        gateway.drain().await;
        meanwhile().await;
        Self::run(settings, dir).await
    }

    /// Begins to drain, and goes on in the background until the end.
    pub fn drain(self) -> Draining {
        let Self { gateway, dir, .. } = self;
        Draining { task: tokio::spawn(gateway.drain()), dir }
    }

    /// Takes the gateway down and proves its books, which must be complete.
    pub async fn close(self) {
        drop(self.drain().done().await);
    }

    /// The same, and keeps a copy of the data dir.
    pub async fn close_into(self, copied: &Path) {
        let dir = self.drain().done().await;
        copy(dir.path(), copied);
    }
}

/// A gateway that is on its way out.
pub struct Draining {
    task: tokio::task::JoinHandle<()>,
    dir: TempDir,
}

impl Draining {
    /// Waits for the end and proves the books, which must be complete.
    pub async fn done(self) -> TempDir {
        self.task.await.unwrap();
        prove_books(self.dir.path());
        self.dir
    }
}

/// Audits a data dir without a gateway: every check holds and nothing is on its way.
pub fn prove_books(dir: &Path) {
    let store = StoreAt::of(None, dir).unwrap();
    let report = audit::run(dir, LedgerAt::DataDir, &store, None).unwrap();
    let broken: Vec<_> = report.checks.iter().filter(|check| !check.ok).collect();
    assert!(report.ok, "{broken:#?}");
    assert_eq!(report.undigested, 0, "the books are complete after a drain");
}

/// The books of a data dir, to be read only.
pub fn books(dir: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let books = Connection::open_with_flags(dir.join("store.db"), flags).unwrap();
    books.pragma_update(None, "query_only", true).unwrap();
    books
}

/// How many rows a table of the books has.
pub fn rows(dir: &Path, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    books(dir).query_row(&sql, [], |row| row.get(0)).unwrap()
}

/// Copies the files of a data dir that nobody has open.
pub fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
