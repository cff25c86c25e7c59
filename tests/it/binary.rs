//! The real program as a process: started on free ports, watched through its log, killed when the
//! test is over.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use floodgate_loadtest::ops::OpsAccess;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::patience::{eventually, eventually_blocking};
use crate::shop::Shop;

/// A `floodgate serve` that is ready.
pub struct Serving {
    shop: Shop,
    process: Process,
}

/// A `floodgate serve`, killed when dropped.
struct Process {
    child: Child,
    log: Log,
}

impl Deref for Serving {
    type Target = Shop;

    fn deref(&self) -> &Shop {
        &self.shop
    }
}

/// What a process has written to its standard error, line by line.
#[derive(Clone)]
pub struct Log(Arc<Mutex<Vec<String>>>);

/// The program, with nothing in its environment that configures it.
pub fn floodgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floodgate"));
    command.args(arguments).stdin(Stdio::null());
    unconfigured(command)
}

/// What is said to the tests, or to whoever runs them, is no configuration.
fn unconfigured(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let configures = name.starts_with("FLOODGATE_")
            || ["REDIS_URL", "DATABASE_URL", "RUST_LOG"]
                .iter()
                .any(|known| name.starts_with(known));
        if configures {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> Output {
    floodgate(arguments).output().unwrap()
}

/// Runs the program to its end, which has to have this exit code: what it printed.
#[track_caller]
pub fn run_to(code: i32, arguments: &[&str]) -> (String, String) {
    let output = run(arguments);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{stdout}\n{stderr}");
    (stdout, stderr)
}

/// Audits a data dir with the program, which must find nothing wrong and nothing missing.
#[track_caller]
pub fn audit(dir: &Path) -> Value {
    audit_with(dir, &[])
}

/// With further arguments.
#[track_caller]
pub fn audit_with(dir: &Path, more: &[&str]) -> Value {
    let arguments = [&["audit", "--json", "--data-dir", dir.to_str().unwrap()], more].concat();
    let (report, _) = run_to(0, &arguments);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["ok"], &report["undigested"]), (&true.into(), &0.into()), "{report}");
    report
}

impl Log {
    /// Collects what `child` writes; the thread ends with the process.
    fn of(child: &mut Child) -> Self {
        let log = Self(Arc::default());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::clone(&log.0);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        log
    }

    pub fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    /// The first entry with this message.
    fn find(&self, message: &str) -> Option<Value> {
        let lines = self.0.lock().unwrap();
        let mut entries = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        entries.find(|entry| entry["message"] == message)
    }

    /// Waits for an entry with this message.
    #[track_caller]
    pub fn wait_for(&self, message: &str) -> Value {
        eventually_blocking(&format!("the log says {message:?}"), || self.find(message))
    }
}

impl Process {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::of(&mut child);
        Self { child, log }
    }

    /// Where it serves, once it does.
    async fn address(&mut self) -> (SocketAddr, SocketAddr) {
        let serving = eventually("the gateway serves", async || {
            if let Some(ended) = self.child.try_wait().unwrap() {
                panic!("it ended with {ended}");
            }
            self.log.find("serving")
        })
        .await;
        let address = |name: &str| serving[name].as_str().unwrap().parse().unwrap();
        (address("public_address"), address("ops_address"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail where it has ended and been waited for, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- floodgate serve ---\n{}", self.log.text());
        }
    }
}

/// No limits for users.
const UNLIMITED: [(&str, &str); 2] = [
    ("FLOODGATE_ADMISSION__PER_USER__RATE", "0"),
    ("FLOODGATE_ADMISSION__READS__PER_USER__RATE", "0"),
];

/// Serves a data dir on free ports.
fn serve(dir: &Path) -> [&str; 7] {
    let dir = dir.to_str().unwrap();
    ["serve", "--data-dir", dir, "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]
}

/// As a supervisor starts it that keeps listeners open: with so many in `LISTEN_FDS`, of which the first is this.
fn handed(dir: &Path, count: &str, socket: Option<OwnedFd>, more: &[&str]) -> Command {
    let mut command = unconfigured(Command::new("sh"));
    // A process is given descriptors from 3 on by a shell only; what it has as its input is moved there.
    let script = r#"exec 3<&0 0</dev/null && LISTEN_PID=$$ exec "$0" "$@""#;
    command.args(["-c", script, env!("CARGO_BIN_EXE_floodgate")]).args(serve(dir)).args(more);
    command.envs(UNLIMITED).env("LISTEN_FDS", count);
    command.stdin(socket.map_or_else(Stdio::null, Stdio::from));
    command
}

/// Runs such a process to its end, which comes by itself: exit code and what it said.
pub fn run_handed(dir: &Path, count: &str, socket: Option<OwnedFd>) -> (Option<i32>, String) {
    let output = handed(dir, count, socket, &[]).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

impl Serving {
    /// Serves a data dir on a listener that others hold as well, and waits until it is ready.
    pub async fn start_handed(dir: &Path, listener: &TcpListener, more: &[&str]) -> Self {
        let socket = listener.try_clone().unwrap();
        Self::of(dir, Process::spawn(handed(dir, "1", Some(socket.into()), more))).await
    }

    /// Serves a data dir on free ports, and waits until it is ready.
    pub async fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[]).await
    }

    /// With further arguments.
    pub async fn start_with(dir: &Path, more: &[&str]) -> Self {
        Self::start_in(dir, more, &[]).await
    }

    /// As a process that may have so many descriptors and no more.
    pub async fn start_confined(dir: &Path, descriptors: usize) -> Self {
        let mut confined = unconfigured(Command::new("prlimit"));
        confined.arg(format!("--nofile={descriptors}:{descriptors}"));
        confined.arg(env!("CARGO_BIN_EXE_floodgate")).args(serve(dir)).stdin(Stdio::null());
        confined.envs(UNLIMITED);
        Self::of(dir, Process::spawn(confined)).await
    }

    /// In an environment with these variables. Without limits for users: who asks how often is not
    /// what most tests are about.
    pub async fn start_in(dir: &Path, more: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_limited(dir, more, &[variables, &UNLIMITED].concat()).await
    }

    /// The same with the limits of its configuration.
    pub async fn start_limited(dir: &Path, more: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = floodgate(&serve(dir));
        command.args(more).envs(variables.iter().copied());
        Self::of(dir, Process::spawn(command)).await
    }

    /// In such an environment, on a given port, with a log that nobody reads: it ends with the
    /// returned pipe.
    pub async fn start_unread(
        dir: &Path,
        variables: &[(&str, &str)],
    ) -> (Self, std::process::ChildStderr) {
        // Where it serves stands in the log, which nobody reads.
        let free = || {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            socket.local_addr().unwrap()
        };
        let (public, ops) = (free(), free());
        let mut command = floodgate(&["serve", "--data-dir", dir.to_str().unwrap()]);
        command.args(["--listen", &public.to_string(), "--ops-listen", &ops.to_string()]);
        command.envs(UNLIMITED).envs(variables.iter().copied());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let unread = child.stderr.take().unwrap();
        let process = Process { child, log: Log(Arc::default()) };
        let token = eventually("there is a token", async || floodgate::app::read_token(dir).ok());
        let shop = Shop { public, ops, token: token.await };
        (Self::ready(shop, process).await, unread)
    }

    async fn of(dir: &Path, mut process: Process) -> Self {
        let (public, ops) = process.address().await;
        let token = floodgate::app::read_token(dir).unwrap();
        Self::ready(Shop { public, ops, token }, process).await
    }

    async fn ready(shop: Shop, process: Process) -> Self {
        eventually("the gateway is ready", async || {
            let ready = shop.stranger("GET", "/readyz").try_send().await?;
            (ready.status == 200).then_some(())
        })
        .await;
        Self { shop, process }
    }

    pub fn log(&self) -> &Log {
        &self.process.log
    }

    /// For the crowd and the oracle.
    pub fn access(&self) -> OpsAccess {
        OpsAccess::new(self.ops, self.token.clone())
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.process.child)
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.process.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.process.child;
        eventually_blocking("the process ends", || child.try_wait().unwrap())
    }

    /// Ends it as an operator would; it must end well.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log().text());
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }
}
