//! A Redis of one's own: a real `redis-server` on a free port, in a temporary folder, that ends with its
//! owner.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to answer.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// What it keeps over its death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Every write, synced before it is answered.
    Everything,
    /// Nothing.
    Nothing,
}

/// A running server. Killed when dropped; its folder goes with it.
#[derive(Debug)]
pub struct RedisServer {
    keeps: Keeps,
    port: u16,
    dir: TempDir,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// There is no `redis-server` (Debian: `apt-get install redis-server`), or it does not come up.
    pub fn start(keeps: Keeps) -> io::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let dir = tempfile::Builder::new().prefix("floodgate-redis-").tempdir()?;
        let mut server = Self { keeps, port, dir, child: None };
        server.run()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The same as an address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended already cannot be killed, and need not be.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port and files.
    ///
    /// # Errors
    /// It does not come up.
    pub fn run(&mut self) -> io::Result<()> {
        self.kill();
        let appends = if self.keeps == Keeps::Everything { "yes" } else { "no" };
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", appends, "--appendfsync", "always", "--dir"]);
        command.arg(self.dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|cause| {
            let hint = "cannot start redis-server (Debian: apt-get install redis-server)";
            io::Error::new(cause.kind(), format!("{hint}: {cause}"))
        })?;
        self.child = Some(child);
        let began = Instant::now();
        while !self.answers() {
            if began.elapsed() > STARTS_WITHIN {
                return Err(io::Error::other("redis-server does not answer"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts it again with nothing in it.
    ///
    /// # Errors
    /// It does not come up.
    pub fn run_empty(&mut self) -> io::Result<()> {
        self.kill();
        for entry in std::fs::read_dir(self.dir.path())? {
            let path = entry?.path();
            if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
        }
        self.run()
    }

    /// Whether it has loaded its data and answers.
    fn answers(&self) -> bool {
        let ping = || -> io::Result<bool> {
            let mut stream =
                TcpStream::connect_timeout(&self.address(), Duration::from_millis(200))?;
            stream.set_read_timeout(Some(Duration::from_millis(500)))?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 7];
            stream.read_exact(&mut answer)?;
            Ok(&answer == b"+PONG\r\n")
        };
        ping().unwrap_or(false)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
