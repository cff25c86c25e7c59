//! One gateway of a run, as a process that is started, told, killed, and asked how it ended.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::history::Level;
use crate::ops::{OpsAccess, OpsClient};

/// A gateway that was asked to end drains for less.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// How long a gateway that listens may take to accept.
const ACCEPTS_WITHIN: Duration = Duration::from_millis(200);
/// The operator's token of every gateway.
const TOKEN: &str = "chaos-chaos-chaos-chaos-chaos-chaos";

/// One gateway, which runs or not.
#[derive(Debug)]
pub struct Gateway {
    program: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    /// How much of its log was looked through.
    looked: u64,
    pub public: SocketAddr,
    ops: SocketAddr,
    redis: String,
    postgres: String,
    pub level: Level,
    /// Seconds by which its clock is off.
    pub skew: i64,
    child: Option<Child>,
    /// Ends that nobody asked for, since they were last taken.
    ends: Vec<ExitStatus>,
}

impl Gateway {
    /// One that does not run yet, with its files in a folder, and the ways to its servers.
    ///
    /// # Errors
    /// Its folder cannot be made.
    pub fn new(
        program: &Path,
        dir: PathBuf,
        redis: SocketAddr,
        postgres: String,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        Ok(Self {
            program: program.to_owned(),
            log: dir.with_extension("log"),
            looked: 0,
            public: free()?,
            ops: free()?,
            redis: format!("redis://{redis}"),
            postgres,
            level: Level::Fsync,
            skew: 0,
            child: None,
            ends: Vec::new(),
            dir,
        })
    }

    /// How its operators reach it.
    pub fn access(&self) -> OpsAccess {
        OpsAccess::new(self.ops, TOKEN)
    }

    /// Where its log is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts it; it is ready later.
    pub fn start(&mut self) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.command()?;
        self.configure("")?;
        command.args(["serve", "--config"]).arg(self.file());
        command.args(["--listen", &self.public.to_string()]);
        command.args(["--ops-listen", &self.ops.to_string()]);
        // A fault is to be seen in each connection, not kept from one address.
        command.args(["--set", "admission.per_user.rate=0", "--set", "admission.per_ip.rate=0"]);
        command.args(["--set", "http.connections_per_address=100000"]);
        // A panic says so where the log goes.
        command.stdout(Stdio::null()).stderr(log);
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

    /// Takes its configuration file away.
    pub fn forget_configuration(&self) -> io::Result<()> {
        std::fs::remove_file(self.file())
    }

    /// The program with this gateway's settings, under its clock.
    fn command(&self) -> io::Result<Command> {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            // What is said to the harness is no configuration.
            if name.to_string_lossy().starts_with("FLOODGATE_") {
                command.env_remove(name);
            }
        }
        if self.skew != 0 {
            // Not through `faketime`, which would be the process that signals and limits go to.
            command.env("LD_PRELOAD", faked_clock()?);
            command.env("FAKETIME", format!("{:+}s", self.skew));
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        }
        command.env("REDIS_URL", &self.redis).env("DATABASE_URL", &self.postgres);
        command.env("FLOODGATE_ADMIN_TOKEN", TOKEN).env("FLOODGATE_DATA_DIR", &self.dir);
        command.env("RUST_LOG", "info").stdin(Stdio::null());
        command.env("FLOODGATE_DURABILITY", self.level.word());
        command.env("FLOODGATE_LEDGER__REPLICAS", "1");
        Ok(command)
    }

    /// The product's own audit, by the books and the ledger; `None`: it is clean.
    pub fn audit(&self) -> io::Result<Option<String>> {
        let output = self.command()?.arg("audit").output()?;
        if output.status.success() {
            return Ok(None);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Some(format!("{}{}{}", output.status, text(&output.stdout), text(&output.stderr))))
    }

    pub async fn is_ready(&self) -> bool {
        OpsClient::new(&self.access()).is_ready().await.unwrap_or(false)
    }

    /// Whether it has started so far that it listens, and so knows its signals.
    pub fn listens(&self) -> bool {
        TcpStream::connect_timeout(&self.public, ACCEPTS_WITHIN).is_ok()
    }

    /// Its process, if it was started and not seen to end.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether it runs. An end that nobody asked for is noted.
    pub fn runs(&mut self) -> bool {
        let Some(child) = &mut self.child else { return false };
        if let Ok(Some(status)) = child.try_wait() {
            self.ends.push(status);
            self.child = None;
        }
        self.child.is_some()
    }

    /// Kills it; whether it ran.
    pub fn kill(&mut self) -> bool {
        let ran = self.runs();
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        ran
    }

    /// Asks it to end, and waits until it has; whether it ran and ended well. One that does not end, or not well, is
    /// noted.
    pub async fn stop(&mut self) -> bool {
        if !self.runs() {
            return false;
        }
        self.signal("-TERM");
        let began = Instant::now();
        // Another start would find the port taken.
        while let Some(child) = &mut self.child {
            let late = began.elapsed() > ENDS_WITHIN;
            if late {
                let _ = child.kill();
            }
            match child.try_wait() {
                Ok(None) => sleep(Duration::from_millis(20)).await,
                Ok(Some(status)) => {
                    self.child = None;
                    if status.success() {
                        return true;
                    }
                    self.ends.push(status);
                }
                Err(_) => self.child = None,
            }
        }
        false
    }

    /// Signals it, if it was started.
    pub fn signal(&self, signal: &str) {
        if let Some(id) = self.id() {
            let mut kill = Command::new("kill");
            // It may be over already.
            let _ = kill.args([signal, &id.to_string()]).stderr(Stdio::null()).status();
        }
    }

    /// Ends that nobody asked for, since the last time.
    pub fn take_ends(&mut self) -> Vec<ExitStatus> {
        // Notes one that has just ended.
        self.runs();
        std::mem::take(&mut self.ends)
    }

    /// Lines of its log that tell of a panic, since the last time.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn take_panics(&mut self) -> io::Result<Vec<String>> {
        let text = self.said_since(self.looked)?;
        self.looked = self.looked.saturating_add(text.len() as u64);
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(text.lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect())
    }

    /// How long its log is.
    pub fn log_bytes(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    /// What its log says behind so many bytes.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn said_since(&self, bytes: u64) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        if self.log.exists() {
            let mut log = File::open(&self.log)?;
            log.seek(SeekFrom::Start(bytes))?;
            log.read_to_end(&mut text)?;
        }
        Ok(text)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The library that gives a process another clock, as `faketime` has it.
fn faked_clock() -> io::Result<String> {
    let asked = Command::new("faketime").args(["-f", "+0s", "printenv", "LD_PRELOAD"]).output()?;
    Ok(String::from_utf8_lossy(&asked.stdout).trim().to_owned())
}

fn free() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
