//! The processes of a run.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::disk::Disk;
use super::{ChaosError, Plan};
use crate::fault_proxy::FaultProxy;
use crate::history::Level;
use crate::ops::{OpsAccess, OpsClient};
use crate::postgres_server::{PostgresServer, url_at};
use crate::redis_server::{Keeps, RedisServer};

/// A gateway that was asked to end drains for less.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// The operator's token of every gateway.
const TOKEN: &str = "chaos-chaos-chaos-chaos-chaos-chaos";
/// How long everything may take to work again once nothing is wrong.
pub const REVIVES_WITHIN: Duration = Duration::from_secs(30);

/// Redis, PostgreSQL, the ways to them, and the gateways.
#[derive(Debug)]
pub struct Rig {
    pub redis: RedisServer,
    /// Has what Redis has, a moment later; or not.
    pub replica: RedisServer,
    pub postgres: PostgresServer,
    pub to_redis: FaultProxy,
    pub to_postgres: FaultProxy,
    pub gateways: Vec<Gateway>,
    /// Where Redis's files are. Last, for it goes when they are gone.
    pub disk: Disk,
}

/// One gateway, which runs or not.
#[derive(Debug)]
pub struct Gateway {
    program: PathBuf,
    pub dir: PathBuf,
    log: PathBuf,
    pub public: SocketAddr,
    pub ops: SocketAddr,
    redis: String,
    postgres: String,
    level: Level,
    /// Seconds by which its clock is off.
    skew: i64,
    child: Option<Child>,
}

impl Rig {
    /// Starts the servers; gateways come with the first round.
    ///
    /// # Errors
    /// One of them does not come up.
    pub fn start(plan: &Plan) -> io::Result<Self> {
        std::fs::create_dir_all(&plan.dir)?;
        let disk = Disk::at(plan.dir.join("disk"))?;
        let redis = RedisServer::start_in(disk.dir(), Keeps::Everything, &[])?;
        let replica = redis.start_replica(Keeps::Nothing)?;
        let postgres = PostgresServer::start()?;
        let to_redis = FaultProxy::start(redis.address())?;
        let to_postgres = FaultProxy::start(postgres.address())?;
        let gateway = |number: usize| -> io::Result<Gateway> {
            let dir = plan.dir.join(format!("gateway-{number}"));
            std::fs::create_dir_all(&dir)?;
            Ok(Gateway {
                program: plan.floodgate.clone(),
                log: plan.dir.join(format!("gateway-{number}.log")),
                public: free()?,
                ops: free()?,
                redis: format!("redis://{}", to_redis.address()),
                postgres: url_at(to_postgres.address()),
                level: Level::Fsync,
                skew: 0,
                child: None,
                dir,
            })
        };
        let gateways = (0..plan.gateways).map(gateway).collect::<io::Result<_>>()?;
        Ok(Self { redis, replica, postgres, to_redis, to_postgres, gateways, disk })
    }

    /// Nothing is wrong any more: servers run, ways are open, gateways are up and ready.
    pub async fn heal(&mut self) -> Result<(), ChaosError> {
        for proxy in [&self.to_redis, &self.to_postgres] {
            proxy.swallow_all(false);
            proxy.swallow_every(0);
            proxy.swallow_commits(0);
            proxy.delay(Duration::ZERO);
        }
        self.disk.empty();
        let _ = self.redis.thaw();
        for server in [&mut self.redis, &mut self.replica] {
            if !server.runs() {
                server.run()?;
            }
        }
        for gateway in &mut self.gateways {
            gateway.signal("-CONT");
            if !gateway.runs() || gateway.skew != 0 {
                gateway.kill();
                gateway.skew = 0;
                gateway.start()?;
            }
        }
        let began = Instant::now();
        for gateway in &mut self.gateways {
            while !gateway.is_ready().await {
                if began.elapsed() > REVIVES_WITHIN {
                    let said = OpsClient::new(&gateway.access()).readiness().await;
                    let (said, log) = (said.unwrap_or_default(), gateway.log.display());
                    let what = format!("a gateway is not ready: {said} {log}");
                    return Err(ChaosError::Liveness(what));
                }
                if !gateway.runs() {
                    gateway.start()?;
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Starts all gateways anew with what they are to promise.
    pub fn promise(&mut self, level: Level) -> io::Result<()> {
        for gateway in &mut self.gateways {
            if gateway.level != level || !gateway.runs() {
                gateway.kill();
                gateway.level = level;
                gateway.start()?;
            }
        }
        Ok(())
    }
}

impl Gateway {
    /// How its operators reach it.
    pub fn access(&self) -> OpsAccess {
        OpsAccess::new(self.ops, TOKEN)
    }

    /// Starts it; it is ready later.
    pub fn start(&mut self) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.command();
        self.configure("")?;
        command.args(["serve", "--config"]).arg(self.file());
        command.args(["--listen", &self.public.to_string()]);
        command.args(["--ops-listen", &self.ops.to_string()]);
        // A fault is to be seen in each connection, not kept from one address.
        command.args(["--set", "admission.per_user.rate=0", "--set", "admission.per_ip.rate=0"]);
        command.args(["--set", "http.connections_per_address=100000"]);
        command.stdout(Stdio::null()).stderr(log);
        // `faketime` stays, as the program's parent: whatever one of them gets, the other gets, too.
        command.process_group(0);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    fn file(&self) -> PathBuf {
        self.dir.join("floodgate.toml")
    }

    /// Writes its configuration file.
    pub fn configure(&self, text: &str) -> io::Result<()> {
        std::fs::write(self.file(), text)
    }

    /// The program with this gateway's settings, under its clock.
    fn command(&self) -> Command {
        let mut command = if self.skew == 0 {
            Command::new(&self.program)
        } else {
            let mut faked = Command::new("faketime");
            faked.args(["-f", &format!("{:+}s", self.skew)]).arg(&self.program);
            faked.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
            faked
        };
        for (name, _) in std::env::vars_os() {
            // What is said to the harness is no configuration.
            if name.to_string_lossy().starts_with("FLOODGATE_") {
                command.env_remove(name);
            }
        }
        command.env("REDIS_URL", &self.redis).env("DATABASE_URL", &self.postgres);
        command.env("FLOODGATE_ADMIN_TOKEN", TOKEN).env("FLOODGATE_DATA_DIR", &self.dir);
        command.env("RUST_LOG", "info").stdin(Stdio::null());
        let word = self.level.word();
        command.env("FLOODGATE_DURABILITY", word).env("FLOODGATE_LEDGER__REPLICAS", "1");
        command
    }

    /// The product's own audit, by the books and the ledger; `None`: it is clean.
    pub fn audit(&self) -> io::Result<Option<String>> {
        let output = self.command().arg("audit").output()?;
        if output.status.success() {
            return Ok(None);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Some(format!("{}{}{}", output.status, text(&output.stdout), text(&output.stderr))))
    }

    pub async fn is_ready(&self) -> bool {
        OpsClient::new(&self.access()).is_ready().await.unwrap_or(false)
    }

    /// From the next start on its clock is off by so many seconds.
    pub fn skew(&mut self, seconds: i64) {
        self.skew = seconds;
    }

    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal_group(&child, "-KILL");
            let _ = child.wait();
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
            let began = Instant::now();
            while signal_group(&child, "-0") && began.elapsed() < ENDS_WITHIN {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    pub fn signal(&self, signal: &str) {
        if let Some(child) = &self.child {
            signal_group(child, signal);
        }
    }

    /// Leaves it so many descriptors.
    pub fn descriptors(&self, most: u32) {
        if let Some(child) = &self.child {
            let limit = format!("--nofile={most}:");
            let _ =
                Command::new("prlimit").args(["--pid", &child.id().to_string(), &limit]).status();
        }
    }
}

/// `false`: none of them is left.
fn signal_group(leader: &Child, signal: &str) -> bool {
    let mut kill = Command::new("kill");
    kill.args([signal, "--", &format!("-{}", leader.id())]).stderr(Stdio::null());
    kill.status().is_ok_and(|status| status.success())
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.signal("-CONT");
        self.kill();
    }
}

fn free() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Copies the files of a folder.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
