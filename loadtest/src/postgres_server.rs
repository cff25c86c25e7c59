//! A PostgreSQL of one's own: a real server on a free port, in a temporary folder, that ends with its
//! owner.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to answer.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// What to do where it is not installed.
const HINT: &str = "PostgreSQL is not installed (Debian: apt-get install postgresql)";

/// A running server. Killed when dropped; its folder goes with it.
#[derive(Debug)]
pub struct PostgresServer {
    bin: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    more: Vec<String>,
    dir: TempDir,
    child: Option<Child>,
}

impl PostgresServer {
    /// Makes a cluster, starts its server and waits until it answers. It syncs what it commits.
    ///
    /// # Errors
    /// There is no PostgreSQL, or it does not come up.
    pub fn start() -> io::Result<Self> {
        Self::start_with(&[])
    }

    /// The same with further settings, such as `fsync=off`.
    ///
    /// # Errors
    /// As [`PostgresServer::start`].
    pub fn start_with(more: &[&str]) -> io::Result<Self> {
        let bin = find_bin()?;
        let dir = tempfile::Builder::new().prefix("floodgate-postgres-").tempdir()?;
        let user = unprivileged()?;
        if let Some((uid, gid)) = user {
            chown(dir.path(), Some(uid), Some(gid))?;
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let more = more.iter().map(|&setting| setting.to_owned()).collect();
        let mut server = Self { bin, user, port, more, dir, child: None };
        let mut init = server.command("initdb");
        init.arg("-D").arg(server.data()).args(["-U", "postgres", "-A", "trust", "--no-sync"]);
        init.args(["-E", "UTF8", "--locale", "C.UTF-8"]);
        let made = init.stdin(Stdio::null()).output()?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(io::Error::other(format!("initdb: {said}")));
        }
        server.run()?;
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Its database, as its superuser.
    #[must_use]
    pub fn url(&self) -> String {
        url_at(self.address())
    }

    /// Its process, if it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its folder of data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Gives a file to the server's user, for its eyes only: as keys have to be.
    ///
    /// # Errors
    /// It is not there.
    pub fn entrust(&self, file: &Path) -> io::Result<()> {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))?;
        match self.user {
            Some((uid, gid)) => chown(file, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// Starts it again with further settings, which may name files of its [`data`](Self::data).
    ///
    /// # Errors
    /// It does not come up.
    pub fn run_with(&mut self, more: &[&str]) -> io::Result<()> {
        self.more.extend(more.iter().map(|&setting| setting.to_owned()));
        self.run()
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended already cannot be killed, and need not be.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port and files, with its settings. After a kill that takes until the
    /// last of its processes has seen that its parent is gone.
    ///
    /// # Errors
    /// It does not come up.
    pub fn run(&mut self) -> io::Result<()> {
        self.kill();
        let began = Instant::now();
        loop {
            self.spawn()?;
            while !self.answers()? {
                if began.elapsed() > STARTS_WITHIN {
                    return Err(io::Error::other(format!(
                        "PostgreSQL does not come up: {}",
                        std::fs::read_to_string(self.log()).unwrap_or_default()
                    )));
                }
                if self.has_ended()? {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            if self.child.is_some() {
                return Ok(());
            }
        }
    }

    fn spawn(&mut self) -> io::Result<()> {
        let mut server = self.command("postgres");
        let port = self.port.to_string();
        server.arg("-D").arg(self.data()).args(["-p", &port, "-h", "127.0.0.1", "-k"]);
        server.arg(self.dir.path());
        for setting in &self.more {
            server.args(["-c", setting]);
        }
        let log = std::fs::File::options().create(true).append(true).open(self.log())?;
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(server.spawn()?);
        Ok(())
    }

    /// Whether the server has ended by itself, as one does that finds its folder in use.
    fn has_ended(&mut self) -> io::Result<bool> {
        let ended = match &mut self.child {
            Some(child) => child.try_wait()?.is_some(),
            None => true,
        };
        if ended {
            self.child = None;
        }
        Ok(ended)
    }

    fn answers(&self) -> io::Result<bool> {
        let mut ready = self.command("pg_isready");
        ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres"]);
        Ok(ready.status()?.success())
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(self.dir.path()).env("LC_ALL", "C.UTF-8");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // Its children end, too, where it is told to: "immediate shutdown".
        let pid = child.id().to_string();
        let told = Command::new("kill").args(["-QUIT", &pid]).status();
        if told.is_ok_and(|status| status.success()) {
            let _ = child.wait();
        }
        self.kill();
    }
}

/// The superuser's database behind an address: the server's own, or a proxy's.
#[must_use]
pub fn url_at(address: SocketAddr) -> String {
    format!("postgres://postgres@{address}/postgres")
}

/// Where the server's programs are: Debian keeps them out of the path, by version.
fn find_bin() -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<_> = versions.flatten().map(|version| version.path()).collect();
        versions.sort();
        found.extend(versions.into_iter().rev().map(|version| version.join("bin")));
    }
    let programs = ["initdb", "postgres", "pg_isready"];
    let there = found.into_iter().find(|bin| programs.iter().all(|name| bin.join(name).is_file()));
    there.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, HINT))
}

/// Whether this program may do what root may.
pub(crate) fn is_root() -> io::Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    Ok(uids.split_whitespace().nth(1) == Some("0"))
}

/// The user that the server runs as where we are root, which it refuses to be.
fn unprivileged() -> io::Result<Option<(u32, u32)>> {
    if !is_root()? {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let user = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = user.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let ids = ids("postgres").or_else(|| ids("nobody"));
    ids.map(Some).ok_or_else(|| io::Error::other("there is no user to run PostgreSQL as"))
}
