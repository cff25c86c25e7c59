//! A Redis of one's own: a real `redis-server` on a free port, in a temporary folder, that ends with its
//! owner.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
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
    /// Every write, synced once a second.
    EverySecond,
    /// Nothing.
    Nothing,
}

impl Keeps {
    /// Whether it writes a file of all writes, and when it syncs it; as its settings have it.
    fn settings(self) -> (&'static str, &'static str) {
        match self {
            Self::Everything => ("yes", "always"),
            Self::EverySecond => ("yes", "everysec"),
            Self::Nothing => ("no", "always"),
        }
    }
}

/// A running server. Killed when dropped; its folder goes with it.
#[derive(Debug)]
pub struct RedisServer {
    keeps: Keeps,
    more: Vec<String>,
    /// The port of the primary that it watches, if it is a sentinel.
    watches: Option<u16>,
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
        Self::start_with(keeps, &[])
    }

    /// The same with further arguments.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn start_with(keeps: Keeps, more: &[&str]) -> io::Result<Self> {
        Self::start_in(&std::env::temp_dir(), keeps, more)
    }

    /// Starts a replica of this one, which takes over what is there already.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn start_replica(&self, keeps: Keeps) -> io::Result<Self> {
        Self::start_with(keeps, &["--replicaof", &format!("127.0.0.1 {}", self.port)])
    }

    /// The same with its files in a folder of this one.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn start_in(parent: &Path, keeps: Keeps, more: &[&str]) -> io::Result<Self> {
        let mut server = Self::new_in(parent, keeps)?;
        server.more = more.iter().map(|&word| word.to_owned()).collect();
        server.run()?;
        Ok(server)
    }

    /// Starts a sentinel that watches the primary on a port under the name `main`.
    fn start_sentinel(primary: u16) -> io::Result<Self> {
        let mut server = Self::new(Keeps::Nothing)?;
        server.watches = Some(primary);
        server.run()?;
        Ok(server)
    }

    fn new(keeps: Keeps) -> io::Result<Self> {
        Self::new_in(&std::env::temp_dir(), keeps)
    }

    fn new_in(parent: &Path, keeps: Keeps) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("floodgate-redis-").tempdir_in(parent)?;
        Ok(Self { keeps, more: Vec::new(), watches: None, port: free_port()?, dir, child: None })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The same as an address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Its process, if it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// From now on, while it runs on and over its next death, it keeps this. What it holds already is kept as well.
    ///
    /// # Errors
    /// It does not run, or does not get done.
    pub fn keep(&mut self, keeps: Keeps) -> io::Result<()> {
        if self.keeps == keeps {
            return Ok(());
        }
        let (appends, syncs) = keeps.settings();
        for setting in [format!("appendfsync {syncs}"), format!("appendonly {appends}")] {
            let said = self.ask(&format!("CONFIG SET {setting}"))?;
            if said != "+OK\r\n" {
                return Err(io::Error::other(format!("CONFIG SET {setting}: {said}")));
            }
        }
        self.keeps = keeps;
        // A file that is begun is none before all that is there already has been written to it.
        wait_for("the append-only file is whole", || {
            let info = self.ask("INFO persistence").unwrap_or_default();
            info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
        })
    }

    /// What it keeps over its death.
    pub fn keeps(&self) -> Keeps {
        self.keeps
    }

    /// Whether it runs: it may have ended by itself.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended already cannot be killed, and need not be.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it where it stands, as a machine that hangs would be: connections stay, and nothing is said.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self) -> io::Result<()> {
        self.signal("-STOP")
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        let child = self.child.as_ref().ok_or_else(|| io::Error::other("it does not run"))?;
        let told = Command::new("kill").args([signal, &child.id().to_string()]).status()?;
        if told.success() { Ok(()) } else { Err(io::Error::other("kill failed")) }
    }

    /// Starts it again on the same port and files.
    ///
    /// # Errors
    /// It does not come up.
    pub fn run(&mut self) -> io::Result<()> {
        self.kill();
        let mut command = Command::new("redis-server");
        match self.watches {
            None => self.configure(&mut command),
            Some(primary) => self.configure_sentinel(primary, &mut command)?,
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
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

    fn configure(&self, command: &mut Command) {
        let (appends, syncs) = self.keeps.settings();
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", appends, "--appendfsync", syncs, "--dir"]);
        // A replica that comes waits for no others.
        command.arg(self.dir.path()).args(["--repl-diskless-sync-delay", "0"]).args(&self.more);
    }

    /// A sentinel keeps what it learns in its file.
    fn configure_sentinel(&self, primary: u16, command: &mut Command) -> io::Result<()> {
        let file = self.dir.path().join("sentinel.conf");
        if !file.exists() {
            let text = format!(
                "port {}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
                self.port,
                self.dir.path().display()
            );
            std::fs::write(&file, text)?;
        }
        command.arg(file).arg("--sentinel");
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

    /// Its answer to a short question, as it came.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask(&self, question: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address(), Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(format!("{question}\r\n").as_bytes())?;
        // The server hangs up on whoever has no more to say, and the answer has an end.
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Replicas that have everything that it has written, or are a moment behind.
    pub fn replicas(&self) -> usize {
        self.ask("INFO replication").unwrap_or_default().matches("state=online").count()
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

/// One primary, two replicas, and three sentinels that watch them.
#[derive(Debug)]
pub struct Sentinels {
    /// The servers; the first was the primary at the beginning.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl Sentinels {
    /// Starts all of them, and waits until the sentinels know each other and the replicas.
    ///
    /// # Errors
    /// As [`RedisServer::start`], or they do not find each other.
    pub fn start() -> io::Result<Self> {
        let primary = RedisServer::start(Keeps::Everything)?;
        let port = primary.port;
        let [one, other] = [(); 2].map(|()| primary.start_replica(Keeps::Everything));
        let mut rig = Self { servers: vec![primary, one?, other?], sentinels: Vec::new() };
        for _ in 0..3 {
            rig.sentinels.push(RedisServer::start_sentinel(port)?);
        }
        wait_for("the sentinels know everybody", || {
            rig.sentinels.iter().all(|sentinel| {
                let known = sentinel.ask("SENTINEL MASTER main").unwrap_or_default();
                let says = |name: &str, value: &str| {
                    known.contains(&format!("{name}\r\n${}\r\n{value}\r\n", value.len()))
                };
                says("num-slaves", "2") && says("num-other-sentinels", "2")
            })
        })?;
        wait_for("the replicas follow", || rig.servers[0].replicas() == 2)?;
        Ok(rig)
    }

    /// Where the sentinels are.
    pub fn url(&self) -> String {
        let address = |sentinel: &RedisServer| sentinel.address().to_string();
        let all: Vec<_> = self.sentinels.iter().map(address).collect();
        format!("redis+sentinel://{}/main", all.join(","))
    }

    /// The server that is the primary now, if there is one.
    pub fn primary(&mut self) -> Option<&mut RedisServer> {
        let leads = |server: &&mut RedisServer| {
            server.ask("ROLE").is_ok_and(|role| role.contains("master"))
        };
        self.servers.iter_mut().find(leads)
    }
}

/// Three masters with a replica each.
#[derive(Debug)]
pub struct Cluster {
    /// All six.
    pub servers: Vec<RedisServer>,
}

impl Cluster {
    /// Starts them, makes a cluster of them, and waits until it works.
    ///
    /// # Errors
    /// As [`RedisServer::start`], or `redis-cli` does not make a cluster of them.
    pub fn start() -> io::Result<Self> {
        let node = |_| {
            // By default it would be 10000 above the other port, which may be none.
            let bus = free_port()?.to_string();
            let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
            let arguments = [&arguments[..], &["--cluster-port", &bus]].concat();
            RedisServer::start_with(Keeps::Everything, &arguments)
        };
        let servers = (0..6).map(node).collect::<io::Result<Vec<_>>>()?;
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]);
        create.args(servers.iter().map(|server| server.address().to_string()));
        create.args(["--cluster-replicas", "1", "--cluster-yes"]).stdout(Stdio::null());
        if !create.status()?.success() {
            return Err(io::Error::other("redis-cli made no cluster"));
        }
        let works = |server: &RedisServer| {
            server.ask("CLUSTER INFO").is_ok_and(|info| {
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6")
            })
        };
        wait_for("the cluster works", || servers.iter().all(works))?;
        let follows = |server: &&RedisServer| {
            server
                .ask("ROLE")
                .is_ok_and(|role| role.contains("slave") && role.contains("connected"))
        };
        wait_for("replicas follow", || servers.iter().filter(follows).count() == 3)?;
        Ok(Self { servers })
    }

    /// Its masters, as the contract writes a cluster.
    pub fn url(&self) -> String {
        self.servers.iter().map(RedisServer::url).collect::<Vec<_>>().join(",")
    }

    /// The master that has a key.
    pub fn owner(&mut self, key: &str) -> Option<&mut RedisServer> {
        let has = |server: &&mut RedisServer| {
            let there = server.ask(&format!("EXISTS {key}")).is_ok_and(|answer| answer == ":1\r\n");
            there && server.ask("ROLE").is_ok_and(|role| role.contains("master"))
        };
        self.servers.iter_mut().find(has)
    }
}

/// A port that nobody listens on. Below those that the kernel gives to connections: one of these would be taken by
/// somebody's connection before the server is up, or while it is down for a test.
fn free_port() -> io::Result<u16> {
    let mut taken = io::Error::other("no port is free");
    for _ in 0..100 {
        let port = fastrand::u16(10_240..32_768);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(cause) => taken = cause,
        }
    }
    Err(taken)
}

fn wait_for(what: &str, mut happened: impl FnMut() -> bool) -> io::Result<()> {
    let began = Instant::now();
    while !happened() {
        if began.elapsed() > STARTS_WITHIN {
            return Err(io::Error::other(format!("never happened: {what}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
