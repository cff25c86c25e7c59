//! A server in a process of its own, for one measurement.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use floodgate_loadtest::limits::READY_WITHIN;
use floodgate_loadtest::ops::{OpsAccess, OpsClient, SaleSpec};
use tempfile::TempDir;
use tokio::time::interval;

use crate::cli::Failure;

/// The sale that is measured.
pub const SALE: &str = "bench";
/// Its item.
pub const ITEM: &str = "sku-1";

/// How often a starting server is asked whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Killed when it is dropped; its data directory goes with it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    addr: SocketAddr,
    ops: Option<OpsAccess>,
    _data: Option<TempDir>,
}

impl Server {
    /// This very program, as the bare server.
    pub async fn bare(threads: usize) -> Result<Self, Failure> {
        let addr = free_address()?;
        let mut command = Command::new(std::env::current_exe().map_err(Failure::failed)?);
        command.args(["bare", "--until-stdin-closes", "--threads", &threads.to_string()]);
        command.args(["--listen", &addr.to_string()]);
        let child = spawn(&mut command)?;
        let mut server = Self { child, addr, ops: None, _data: None };
        server.wait_for(async || tokio::net::TcpStream::connect(addr).await.is_ok()).await?;
        Ok(server)
    }

    /// `floodgate serve` on an empty data directory, with an open sale of `stock` units.
    pub async fn floodgate(
        binary: &Path,
        root: Option<&Path>,
        arguments: &[String],
        stock: u64,
    ) -> Result<Self, Failure> {
        let data = match root {
            Some(root) => TempDir::with_prefix_in("floodgate-bench-", root),
            None => TempDir::with_prefix("floodgate-bench-"),
        }
        .map_err(Failure::failed)?;
        let (addr, ops_addr) = (free_address()?, free_address()?);
        let mut command = Command::new(binary);
        command.args(["serve", "--auth", "header", "--listen", &addr.to_string()]);
        command.args(["--ops-listen", &ops_addr.to_string()]);
        command.arg("--data-dir").arg(data.path()).args(arguments);
        // What is set around us is not what is measured.
        for (name, _) in std::env::vars_os() {
            let ours = name.to_string_lossy().starts_with("FLOODGATE_");
            if ours || name == "REDIS_URL" || name == "DATABASE_URL" {
                command.env_remove(name);
            }
        }
        let child = spawn(&mut command)?;
        let mut server = Self { child, addr, ops: None, _data: None };
        let mut probe = OpsClient::new(&OpsAccess::new(ops_addr, ""));
        server.wait_for(async || probe.is_ready().await.unwrap_or(false)).await?;
        let ops = OpsAccess::from_data_dir(ops_addr, data.path()).map_err(Failure::failed)?;
        let mut client = OpsClient::new(&ops);
        client.create_sale(&SaleSpec::single(SALE, ITEM, stock, Some(1))).await?;
        client.transition(SALE, "open").await?;
        (server.ops, server._data) = (Some(ops), Some(data));
        Ok(server)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its ops listener, if it has one.
    pub fn ops(&self) -> Option<&OpsAccess> {
        self.ops.as_ref()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    async fn wait_for(&mut self, mut ready: impl AsyncFnMut() -> bool) -> Result<(), Failure> {
        let began = Instant::now();
        let mut looks = interval(LOOK_EVERY);
        while began.elapsed() < READY_WITHIN {
            looks.tick().await;
            if let Some(status) = self.child.try_wait().map_err(Failure::failed)? {
                return Err(Failure::Unavailable(format!("the server ended: {status}")));
            }
            if ready().await {
                return Ok(());
            }
        }
        Err(Failure::Unavailable(format!("the server is not ready after {READY_WITHIN:?}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(command: &mut Command) -> Result<Child, Failure> {
    // Standard input stays open as long as this process lives: the bare server watches it.
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    if std::env::var_os("FLOODGATE_BENCH_VERBOSE").is_none() {
        command.stderr(Stdio::null());
    }
    let name = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|bad| Failure::Failed(format!("{name}: {bad}")))
}

/// An address that was free a moment ago.
fn free_address() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Failure::failed)?;
    listener.local_addr().map_err(Failure::failed)
}
