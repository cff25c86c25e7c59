//! A gateway of one's own, in a process of its own, with the servers that it needs: for scenarios and
//! measurements.

mod backends;

pub use backends::{Backends, Durable};

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use thiserror::Error;
use tokio::time::interval;

use crate::limits::READY_WITHIN;
use crate::ops::{OpsAccess, OpsClient, OpsError};

/// How often a starting server is asked whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why there is no gateway.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// Something of the machine's.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// It ended by itself.
    #[error("{0} ended: {1}{2}")]
    Ended(String, ExitStatus, String),
    /// It runs, and is not ready.
    #[error("{0} is not ready after {READY_WITHIN:?}")]
    NotReady(String),
    /// The ops API.
    #[error(transparent)]
    Ops(#[from] OpsError),
}

/// A server in a process of its own. Killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    addr: SocketAddr,
    log: Option<PathBuf>,
    /// It is asked to end, rather than killed: others of its own would outlive it.
    asked: bool,
}

impl Process {
    /// Starts a program that will listen on `addr`. Its standard input stays open as long as this
    /// process lives; what it says goes to `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        mut command: Command,
        addr: SocketAddr,
        log: Option<PathBuf>,
    ) -> Result<Self, GatewayError> {
        let name = command.get_program().to_string_lossy().into_owned();
        let of = |bad| GatewayError::Io(name.clone(), bad);
        let said = match &log {
            Some(log) => Stdio::from(std::fs::File::create(log).map_err(of)?),
            None => Stdio::null(),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(said);
        let child = command.spawn().map_err(of)?;
        Ok(Self { name, child, addr, log, asked: false })
    }

    /// It will be asked to end, with SIGTERM, rather than killed.
    #[must_use]
    pub fn ends_when_asked(mut self) -> Self {
        self.asked = true;
        self
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It ends before, or takes too long.
    pub async fn wait_for(
        &mut self,
        mut ready: impl AsyncFnMut() -> bool,
    ) -> Result<(), GatewayError> {
        let began = Instant::now();
        let mut looks = interval(LOOK_EVERY);
        while began.elapsed() < READY_WITHIN {
            looks.tick().await;
            let ended = self.child.try_wait();
            if let Some(status) = ended.map_err(|bad| GatewayError::Io(self.name.clone(), bad))? {
                return Err(GatewayError::Ended(self.name.clone(), status, self.said()));
            }
            if ready().await {
                return Ok(());
            }
        }
        Err(GatewayError::NotReady(self.name.clone()))
    }

    /// Waits until it takes connections.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    pub async fn wait_for_port(&mut self) -> Result<(), GatewayError> {
        let addr = self.addr;
        self.wait_for(async || tokio::net::TcpStream::connect(addr).await.is_ok()).await
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its log, if it has one; a line before it.
    fn said(&self) -> String {
        let text = self.log.as_ref().and_then(|log| std::fs::read_to_string(log).ok());
        text.map(|text| format!("\n{}", text.trim_end())).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.asked {
            let told = Command::new("kill").arg(self.child.id().to_string()).status();
            if told.is_ok_and(|status| status.success()) {
                drop(self.child.wait());
            }
        }
        // It may have ended by itself; then there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `floodgate serve` with its backends and a folder of its own.
#[derive(Debug)]
pub struct Gateway {
    // Dropped in this order: the gateway before what it stands on.
    process: Process,
    ops: OpsAccess,
    binary: PathBuf,
    data: TempDir,
    backends: Backends,
}

impl Gateway {
    /// Starts it on empty backends, and waits until it is ready.
    ///
    /// # Errors
    /// Whatever keeps it from being ready.
    pub async fn start(
        binary: &Path,
        backends: Backends,
        root: Option<&Path>,
        arguments: &[String],
    ) -> Result<Self, GatewayError> {
        let data = match root {
            Some(root) => TempDir::with_prefix_in("floodgate-load-", root),
            None => TempDir::with_prefix("floodgate-load-"),
        }
        .map_err(|bad| GatewayError::Io("data directory".to_owned(), bad))?;
        let (addr, ops_addr) = (free_address()?, free_address()?);
        let mut command = product(binary);
        command.args(["serve", "--listen", &addr.to_string()]);
        command.args(["--ops-listen", &ops_addr.to_string()]);
        command.args(backends.arguments(data.path())).args(arguments);
        // As in production; and a build that counts what it does writes it down at its end.
        let mut process =
            Process::start(command, addr, Some(data.path().join("log")))?.ends_when_asked();
        let mut probe = OpsClient::new(&OpsAccess::new(ops_addr, ""));
        process.wait_for(async || probe.is_ready().await.unwrap_or(false)).await?;
        let ops = OpsAccess::from_data_dir(ops_addr, data.path());
        let ops = ops.map_err(|bad| GatewayError::Io("admin.token".to_owned(), bad))?;
        Ok(Self { process, ops, binary: binary.to_owned(), data, backends })
    }

    /// Where buyers connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.process.addr()
    }

    /// Its ops listener.
    #[must_use]
    pub fn ops(&self) -> &OpsAccess {
        &self.ops
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its folder.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// What it stands on.
    #[must_use]
    pub fn backends(&self) -> &Backends {
        &self.backends
    }

    /// `floodgate audit` over its ledger and books: whether they are proven, and what it said.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn audit(&self) -> Result<(bool, String), GatewayError> {
        let mut audit = product(&self.binary);
        audit.arg("audit").args(self.backends.arguments(self.data.path()));
        let done = audit.output().map_err(|bad| GatewayError::Io("audit".to_owned(), bad))?;
        let mut said = String::from_utf8_lossy(&done.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&done.stderr));
        Ok((done.status.success(), said))
    }
}

/// The product, without what is set around us.
fn product(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        let ours = name.to_string_lossy().starts_with("FLOODGATE_");
        if ours || name == "REDIS_URL" || name == "DATABASE_URL" {
            command.env_remove(name);
        }
    }
    command
}

/// An address that was free a moment ago.
///
/// # Errors
/// There is none.
pub fn free_address() -> Result<SocketAddr, GatewayError> {
    let found = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    found.map_err(|bad| GatewayError::Io("no free port".to_owned(), bad))
}
