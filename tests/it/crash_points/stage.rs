//! Where a point is played: a ledger, books, and a gateway that is to die.

use std::any::Any;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use floodgate::crash::LAST_WORDS;
use floodgate_loadtest::buyers::{self, CrowdPlan, Habits};
use floodgate_loadtest::history::{History, Level};
use floodgate_loadtest::ops::{OpsAccess, OpsClient};
use floodgate_loadtest::oracle::{self, BooksAt};
use floodgate_loadtest::postgres_server::PostgresServer;
use floodgate_loadtest::redis_server::{Keeps, RedisServer};
use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::NoTls;

use crate::binary::{Serving, floodgate};
use crate::case::{Case, books_in};
use crate::outages::Lock;
use crate::patience::{PATIENCE, eventually, eventually_blocking};
use crate::shop::{CONSOLE, GAME, SALE};

/// How long a program may take to come to its point.
const DIES_WITHIN: Duration = Duration::from_secs(20);
const USERS_PER_HIT: u64 = 1_000_000;
/// Changes that the books do not have, at least, when they are left behind.
const BEHIND: u64 = 50;
/// Buyers of whom only the books know.
const WIPED: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ledger {
    Embedded,
    Redis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Sqlite,
    Postgres,
}

pub type Place = (Ledger, Store);

/// Where a point can be met, at the least once with each code that has it.
pub fn places(point: &str) -> &'static [Place] {
    const ALONE: Place = (Ledger::Embedded, Store::Sqlite);
    const OVER_REDIS: Place = (Ledger::Redis, Store::Sqlite);
    const SHARED: Place = (Ledger::Redis, Store::Postgres);
    match point.split_once(':') {
        Some(("start" | "lane", _)) => &[ALONE],
        Some(("redis", _)) => &[OVER_REDIS],
        Some(("recovery", _)) => &[OVER_REDIS, SHARED],
        // An embedded journal is kept whole.
        Some(("writer", at)) if at.contains("trim") => &[SHARED],
        Some(_) | None => &[ALONE, SHARED],
    }
}

/// What a point needs.
pub struct Stage {
    dir: tempfile::TempDir,
    redis: Option<RedisServer>,
    /// Where a barrier waits for one.
    replica: Option<RedisServer>,
    postgres: Option<PostgresServer>,
    settings: &'static [&'static str],
}

impl Stage {
    pub fn set(point: &str, (ledger, store): Place) -> Self {
        let redis =
            (ledger == Ledger::Redis).then(|| RedisServer::start(Keeps::Everything).unwrap());
        let replica = redis.as_ref().filter(|_| point.contains("barrier")).map(|primary| {
            let replica = primary.start_replica(Keeps::Nothing).unwrap();
            eventually_blocking("the replica is there", || (primary.replicas() > 0).then_some(()));
            replica
        });
        // The machine lives on: what is written is there.
        let postgres =
            (store == Store::Postgres).then(|| PostgresServer::start_with(&["fsync=off"]).unwrap());
        let settings: &[&str] = match point {
            "redis: before the barrier" => &["durability=replicated", "ledger.replicas=1"],
            "writer: before the trim" | "writer: trimmed" => &["ledger.retention_seconds=1"],
            _ => &[],
        };
        Self { dir: tempfile::tempdir().unwrap(), redis, replica, postgres, settings }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What a 201 promises.
    pub fn level(&self) -> Level {
        if self.replica.is_some() { Level::Replicated } else { Level::Fsync }
    }

    pub fn books(&self) -> BooksAt {
        match &self.postgres {
            Some(server) => BooksAt::Postgres(server.url()),
            None => books_in(self.dir()),
        }
    }

    pub fn arguments(&self) -> Vec<String> {
        let redis = self.redis.iter().map(|server| ("--redis-url", server.url()));
        let books = self.postgres.iter().map(|server| ("--database-url", server.url()));
        let settings = self.settings.iter().map(|setting| ("--set", (*setting).to_owned()));
        let all = redis.chain(books).chain(settings);
        all.flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    pub async fn serve(&self) -> Serving {
        let arguments = self.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Serving::start_with(self.dir(), &arguments).await
    }

    /// Ends a gateway, starts one that is to die at the point under load, and another one after it, where
    /// everybody learns what became of their requests. Whether it did die there.
    pub async fn hit(
        &mut self,
        gateway: Serving,
        point: &str,
        number: u64,
        case: &mut Case,
    ) -> (Serving, bool) {
        let mut seen = self.prepare(gateway, point, number, case).await;
        let mut doomed = self.doomed(point, passage(point, &mut case.rng));
        if doomed.serves().await {
            let plan = self.crowd(doomed.public, Some(doomed.ops), number * 2 + 1, case.seed);
            let control = case.control();
            let stop = control.stop.clone();
            let buys = tokio::spawn(async move { buyers::run(&plan, control).await });
            if point.starts_with("drain:") {
                tokio::time::sleep(Duration::from_millis(100)).await;
                kill_process(Pid::from_child(&doomed.child), Signal::TERM).unwrap();
            }
            while doomed.lives() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stop.set();
            let report = buys.await.unwrap().unwrap();
            assert_eq!(report.anomalies, Vec::<String>::new(), "{point}");
            seen.append(report.history);
        }
        let died = doomed.died_at(point);
        let gateway = self.serve().await;
        let plan = self.crowd(gateway.public, Some(gateway.ops), 0, case.seed);
        case.resolve(seen, &plan).await;
        oracle::wait_drained(&gateway.access(), SALE, PATIENCE).await.unwrap();
        (gateway, died)
    }

    /// Ends the gateway, and leaves what the next one is to find: where a recovery is played, in turn a Redis
    /// that was wiped and one that is ahead of the books. What buyers saw meanwhile.
    async fn prepare(
        &mut self,
        gateway: Serving,
        point: &str,
        number: u64,
        case: &mut Case,
    ) -> History {
        let recovers = point.starts_with("recovery:");
        if !recovers && !point.starts_with("start:") {
            gateway.stop();
            return History::new();
        }
        let plan = self.crowd(gateway.public, Some(gateway.ops), number * 2, case.seed);
        let wiped = number.is_multiple_of(2) == self.postgres.is_none();
        if recovers && wiped {
            let plan = CrowdPlan { users: WIPED, ..plan };
            let report = buyers::run(&plan, case.control()).await.unwrap();
            assert_eq!(report.anomalies, Vec::<String>::new());
            // The books get all of it, or nobody would have it.
            gateway.stop();
            self.redis.as_mut().unwrap().run_empty().unwrap();
            return report.history;
        }
        let seen = self.fall_behind(gateway, plan, case).await;
        if let Some(redis) = &mut self.redis {
            redis.run().unwrap();
            // A lane that is whole is opened as it is. This is one as a recovery leaves it that died.
            if point.ends_with("written") || case.rng.bool() {
                for lane in 0..4 {
                    redis.ask(&format!("HDEL {{fg:{lane}}}:meta format")).unwrap();
                }
            }
        }
        seen
    }

    /// Lets a gateway die ahead of its books.
    async fn fall_behind(&self, gateway: Serving, plan: CrowdPlan, case: &Case) -> History {
        let lock = self.lock_books().await;
        let control = case.control();
        let buys = tokio::spawn(async move { buyers::run(&plan, control).await });
        let access = gateway.access();
        eventually("the books are behind", async || {
            let sale = OpsClient::new(&access).sale(SALE).await.unwrap();
            (sale.outbox_length >= BEHIND).then_some(())
        })
        .await;
        gateway.kill();
        let report = buys.await.unwrap().unwrap();
        assert_eq!(report.anomalies, Vec::<String>::new());
        drop(lock);
        report.history
    }

    /// Nothing comes into the books as long as the answer lives.
    async fn lock_books(&self) -> Box<dyn Any> {
        let Some(server) = &self.postgres else {
            return Box::new(Lock::take(self.dir(), "store.db"));
        };
        let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await.unwrap();
        Box::new(client)
    }

    /// Buyers whom nobody has seen, until the program is gone.
    fn crowd(
        &self,
        public: SocketAddr,
        ops: Option<SocketAddr>,
        crowd: u64,
        seed: u64,
    ) -> CrowdPlan {
        let access = |ops| OpsAccess::from_data_dir(ops, self.dir()).unwrap();
        CrowdPlan {
            ops: ops.map(access),
            first_user: crowd * USERS_PER_HIT,
            seed: seed ^ crowd,
            connections: 24,
            habits: Habits { cancel_ratio: 0.2, confirm_ratio: 0.6, ..Habits::default() },
            settle: false,
            stop_on_disconnect: true,
            ..CrowdPlan::new(public, SALE, &[CONSOLE, GAME], USERS_PER_HIT)
        }
    }

    /// A program that dies at the `nth` passage of the point.
    fn doomed(&self, point: &str, nth: u32) -> Doomed {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (public, ops) = (free(), free());
        let mut command = floodgate(&["serve", "--data-dir", self.dir().to_str().unwrap()]);
        command.args(["--listen", &public.to_string(), "--ops-listen", &ops.to_string()]);
        command.args(self.arguments());
        command.env("CRASH_AT", format!("{point}:{nth}"));
        command.env("FLOODGATE_ADMISSION__PER_USER__RATE", "0");
        command.env("FLOODGATE_ADMISSION__PER_IP__RATE", "0");
        let said = self.dir().join("doomed.log");
        let log = File::create(&said).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Doomed { child, public, ops, said, began: Instant::now() }
    }
}

/// The passage of a point at which it counts. At a start there are as many as lanes, or a few.
fn passage(point: &str, rng: &mut fastrand::Rng) -> u32 {
    match point {
        "drain: begun" => 1,
        "writer: before the trim" | "writer: trimmed" => rng.u32(1..4),
        "recovery: half written" | "start: half rebuilt" => rng.u32(1..6),
        // Each lane looks what is due while nobody calls.
        "redis: before the call" | "redis: answered" => rng.u32(20..400),
        start if start.starts_with("start:") || start.starts_with("recovery:") => rng.u32(1..=4),
        _ => rng.u32(1..40),
    }
}

/// A program that is to die.
struct Doomed {
    child: Child,
    public: SocketAddr,
    ops: SocketAddr,
    /// Its standard error.
    said: PathBuf,
    began: Instant,
}

impl Doomed {
    /// Whether it runs, and has time left.
    fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none() && self.began.elapsed() < DIES_WITHIN
    }

    /// Whether it serves at all: it may die before.
    async fn serves(&mut self) -> bool {
        while self.lives() {
            if tokio::net::TcpStream::connect(self.public).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    /// Whether it died by the point. It may not have come there, and is killed then; it may not have ended in
    /// any other way.
    fn died_at(mut self, point: &str) -> bool {
        let Some(ended) = self.child.try_wait().unwrap() else {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
            return false;
        };
        let said = std::fs::read_to_string(&self.said).unwrap();
        let by_the_point = is_by(point, ended, &said);
        assert!(by_the_point, "{point}: it ended otherwise, with {ended}\n{said}");
        true
    }
}

/// Whether a program that ended so was ended by the point.
fn is_by(point: &str, ended: ExitStatus, said: &str) -> bool {
    let last = format!("{LAST_WORDS}{point}");
    ended.signal() == Some(Signal::ABORT.as_raw()) && said.lines().any(|line| line == last)
}

/// Proves that nothing but an abort with the point's name is taken for a hit.
#[test]
fn other_ends_are_no_hit() {
    let abort = ExitStatus::from_raw(Signal::ABORT.as_raw());
    let said = format!("some log\n{LAST_WORDS}lane: told\n");
    assert!(is_by("lane: told", abort, &said));
    assert!(!is_by("lane: told", abort, "some log\nlane: told"));
    assert!(!is_by("lane: swept", abort, &said));
    for other in [Signal::KILL.as_raw(), Signal::SEGV.as_raw(), 0, 1 << 8] {
        assert!(!is_by("lane: told", ExitStatus::from_raw(other), &said));
    }
}
