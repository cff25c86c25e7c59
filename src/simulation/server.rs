//! A model Redis: the product's scripts over keys in memory, behind a network, with everything that can go
//! wrong with a server.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use redis::{ConnectionLike, RedisError, RedisResult, Value};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::keyspace::{Answer, Keyspace};
use super::network::Network;
use super::scripting::Scripting;
use super::yarn;
use crate::clock::made::BEGINNING_MS;
use crate::ledger::redis::Dial;
use crate::ledger::redis::scripts::{FENCE, LANE, LANE_SOURCE, REOPEN, RESTORE};
use crate::limits;
use crate::sale::LaneId;

/// Earlier states that are kept, to go back to.
const KEPT: usize = 40;

thread_local! {
    /// Compiled once a thread.
    static SCRIPTS: RefCell<Scripting> = RefCell::new(Scripting::new());
}

/// Shared by whoever is connected.
#[derive(Clone)]
pub struct Server(Arc<Mutex<Inner>>);

struct Inner {
    rng: Rng,
    keys: Keyspace,
    /// What it was after each of the last writes, the oldest first.
    before: VecDeque<Keyspace>,
    /// What the replica has.
    replica: Keyspace,
    up: bool,
    /// Another one after each start.
    run: u64,
    clients: BTreeSet<i64>,
    next_client: i64,
    loaded: BTreeSet<String>,
    frozen_until: Instant,
    /// The server's clock, beside the simulation's.
    skew_ms: i64,
    full: bool,
    /// The share of `WAIT`s for which the replica is too late.
    waits_in_vain: f32,
    beginning: Instant,
    appends: &'static str,
}

impl Server {
    pub fn new(seed: u64, syncs: bool) -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(Inner {
            rng: Rng::with_seed(seed),
            keys: Keyspace::default(),
            before: VecDeque::new(),
            replica: Keyspace::default(),
            up: true,
            run: 1,
            clients: BTreeSet::new(),
            next_client: 1,
            loaded: BTreeSet::new(),
            frozen_until: now,
            skew_ms: 0,
            full: false,
            waits_in_vain: 0.0,
            beginning: now,
            appends: if syncs { "always" } else { "no" },
        })))
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    /// Dies; connections break.
    pub fn kill(&self) {
        self.with(|inner| {
            inner.up = false;
            inner.clients.clear();
        });
    }

    /// Comes back without the last `writes`.
    pub fn start(&self, writes: usize) {
        self.with(|inner| {
            inner.forget(writes);
            inner.begin();
        });
    }

    /// Comes back with nothing.
    pub fn start_empty(&self) {
        self.with(|inner| {
            inner.keys = Keyspace::default();
            inner.before.clear();
            inner.begin();
        });
    }

    /// The replica takes over. Connections break.
    pub fn fail_over(&self) {
        self.with(|inner| {
            inner.keys = inner.replica.clone();
            inner.before.clear();
            inner.begin();
        });
    }

    pub fn freeze(&self, pause: Duration) {
        self.with(|inner| inner.frozen_until = Instant::now() + pause);
    }

    pub fn skew(&self, ms: i64) {
        self.with(|inner| inner.skew_ms = ms);
    }

    /// The replica is often late.
    pub fn replica_is_late(&self) {
        self.with(|inner| inner.waits_in_vain = 0.2);
    }

    pub fn fill(&self, full: bool) {
        self.with(|inner| inner.full = full);
    }

    pub fn forget_scripts(&self) {
        self.with(|inner| inner.loaded.clear());
    }

    /// Healthy from here on.
    pub fn heal(&self) {
        self.with(|inner| {
            inner.full = false;
            inner.waits_in_vain = 0.0;
            inner.frozen_until = Instant::now();
            if !inner.up {
                inner.begin();
            }
        });
    }

    /// Reads at once, as nobody's request.
    pub fn glance(&self) -> Glance {
        Glance(self.clone())
    }

    /// A request over a connection; `None`: the connection is broken.
    async fn call(
        &self,
        network: &Network,
        client: i64,
        commands: Vec<Vec<Vec<u8>>>,
    ) -> Option<Vec<Value>> {
        let trip = network.trip().await;
        let (tell, told) = oneshot::channel();
        let server = self.clone();
        // What was sent arrives, whatever becomes of the sender.
        tokio::spawn(async move {
            sleep(trip.there).await;
            loop {
                let until = server.with(|inner| inner.frozen_until);
                if until <= Instant::now() {
                    break;
                }
                sleep_until(until).await;
            }
            if trip.lost {
                return std::future::pending().await;
            }
            let answers = server.with(|inner| inner.serve(client, &commands));
            sleep(trip.back).await;
            if trip.answer_lost {
                return sleep(Duration::from_millis(limits::REDIS_CALL_MS)).await;
            }
            let _ = tell.send(answers);
        });
        let patience = Duration::from_millis(limits::REDIS_CALL_MS);
        let answers = timeout(patience, told).await.ok()?.ok()?;
        network.hold().await;
        answers
    }
}

impl Inner {
    fn begin(&mut self) {
        self.up = true;
        self.run += 1;
        self.clients.clear();
        self.loaded.clear();
        self.replica = self.keys.clone();
    }

    fn forget(&mut self, writes: usize) {
        for _ in 0..writes {
            if let Some(earlier) = self.before.pop_back() {
                self.keys = earlier;
            }
        }
    }

    fn clock_us(&self) -> u64 {
        let passed = self.beginning.elapsed().as_micros() as i64;
        let us = (BEGINNING_MS as i64 + self.skew_ms) * 1_000 + passed;
        us.max(0) as u64
    }

    fn serve(&mut self, client: i64, commands: &[Vec<Vec<u8>>]) -> Option<Vec<Value>> {
        if !self.up || !self.clients.contains(&client) {
            return None;
        }
        let mut answers = Vec::with_capacity(commands.len());
        for words in commands {
            let answer = self.run_one(client, words);
            answers.push(answer.unwrap_or_else(|error| {
                redis::parse_redis_value(
                    format!("-{}\r\n", error.replace(['\r', '\n'], " ")).as_bytes(),
                )
                .unwrap()
            }));
        }
        Some(answers)
    }

    fn run_one(&mut self, client: i64, words: &[Vec<u8>]) -> Answer {
        let word = |at: usize| {
            words.get(at).map(|word| String::from_utf8_lossy(word).to_ascii_uppercase())
        };
        let ok = Ok(Value::Okay);
        match (word(0).as_deref(), word(1).as_deref()) {
            (Some("CLIENT"), Some("ID")) => Ok(Value::Int(client)),
            (Some("CLIENT"), Some("KILL")) => {
                let named = words.last().and_then(|id| String::from_utf8_lossy(id).parse().ok());
                self.clients.remove(&named.unwrap_or(0));
                ok
            }
            (Some("SCRIPT"), Some("LOAD")) => {
                let source = String::from_utf8_lossy(&words[2]).into_owned();
                let hash = redis::Script::new(&source).get_hash().to_owned();
                self.loaded.insert(hash.clone());
                Ok(Value::BulkString(hash.into_bytes()))
            }
            (Some("INFO"), _) => {
                let run = self.run;
                Ok(Value::BulkString(
                    format!(
                        "redis_version:7.0.15\r\nrun_id:{run}\r\nmaster_replid:{run}\r\n\
                         maxmemory_policy:noeviction\r\nconnected_slaves:1\r\n"
                    )
                    .into_bytes(),
                ))
            }
            (Some("CONFIG"), _) => {
                let name = word(2).unwrap_or_default().to_ascii_lowercase();
                let value = match name.as_str() {
                    "appendonly" => "yes",
                    "appendfsync" => self.appends,
                    _ => "no",
                };
                let pair = [name.as_str(), value].map(|text| Value::BulkString(text.into()));
                Ok(Value::Array(pair.to_vec()))
            }
            (Some("WAIT"), _) => {
                // The replica answers in time, or does not.
                let caught_up = self.rng.f32() >= self.waits_in_vain;
                if caught_up {
                    self.replica = self.keys.clone();
                }
                Ok(Value::Int(caught_up.into()))
            }
            (Some("EVALSHA"), _) => self.script(words),
            _ => self.command(words),
        }
    }

    fn command(&mut self, words: &[Vec<u8>]) -> Answer {
        let name = String::from_utf8_lossy(&words[0]).to_ascii_uppercase();
        let before = Keyspace::writes(&name).then(|| self.keys.clone());
        let answer = self.keys.run(self.clock_us(), words);
        if let Some(before) = before {
            self.wrote(before);
        }
        answer
    }

    fn script(&mut self, words: &[Vec<u8>]) -> Answer {
        let hash = String::from_utf8_lossy(&words[1]).into_owned();
        if !self.loaded.contains(&hash) {
            return Err("NOSCRIPT No matching script".to_owned());
        }
        if self.full {
            return Err("OOM command not allowed when used memory > 'maxmemory'".to_owned());
        }
        let known = [&*LANE, &*FENCE, &*RESTORE, &*REOPEN];
        let at = known.iter().position(|script| script.get_hash() == hash);
        let source = match at {
            Some(0) => LANE_SOURCE.as_str(),
            Some(1) => concat!("#!lua\n", include_str!("../../lua/fence.lua")),
            Some(2) => concat!("#!lua\n", include_str!("../../lua/restore.lua")),
            Some(_) => concat!("#!lua\n", include_str!("../../lua/reopen.lua")),
            None => return Err("NOSCRIPT".to_owned()),
        };
        let keys: usize = String::from_utf8_lossy(&words[2]).parse().map_err(|_| "ERR numkeys")?;
        let (keys, arguments) = words[3..].split_at(keys);
        let (before, clock) = (self.keys.clone(), self.clock_us());
        let answer = SCRIPTS.with(|scripts| {
            scripts.borrow_mut().run(&mut self.keys, clock, source, keys, arguments)
        });
        self.wrote(before);
        answer
    }

    fn wrote(&mut self, before: Keyspace) {
        self.before.push_back(before);
        if self.before.len() > KEPT {
            self.before.pop_front();
        }
        // It follows, a little behind.
        if self.rng.f32() < 0.5 {
            self.replica = self.keys.clone();
        }
    }
}

/// Makes connections for one gateway.
pub struct Dialer {
    pub server: Server,
    pub network: Network,
}

impl Dial for Dialer {
    fn dial(&self, _lane: LaneId) -> RedisResult<Box<dyn ConnectionLike + Send>> {
        let (server, network) = (self.server.clone(), self.network.clone());
        yarn::block_on(async move {
            let trip = network.trip().await;
            sleep(trip.there + trip.back).await;
            if trip.lost || trip.answer_lost {
                return Err(broken());
            }
            let client = server.with(|inner| {
                inner.up.then(|| {
                    inner.next_client += 1;
                    inner.clients.insert(inner.next_client);
                    inner.next_client
                })
            });
            let client = client.ok_or_else(broken)?;
            Ok(Box::new(Link { server, network, client, open: true }) as Box<_>)
        })
    }
}

fn broken() -> RedisError {
    RedisError::from((redis::ErrorKind::Io, "the connection is broken"))
}

/// A connection.
struct Link {
    server: Server,
    network: Network,
    client: i64,
    open: bool,
}

impl Link {
    fn ask(&mut self, packed: &[u8]) -> RedisResult<Vec<Value>> {
        let commands = commands(packed);
        let asked = self
            .open
            .then(|| yarn::block_on(self.server.call(&self.network, self.client, commands)));
        let answers = asked.flatten();
        self.open = answers.is_some();
        answers.ok_or_else(broken)
    }
}

impl ConnectionLike for Link {
    fn req_packed_command(&mut self, cmd: &[u8]) -> RedisResult<Value> {
        let mut answers = self.ask(cmd)?;
        answers.pop().unwrap_or_default().extract_error()
    }

    fn req_packed_commands(
        &mut self,
        cmd: &[u8],
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        let answers = self.ask(cmd)?;
        Ok(answers.into_iter().skip(offset).take(count).collect())
    }

    fn get_db(&self) -> i64 {
        0
    }

    fn check_connection(&mut self) -> bool {
        self.open
    }

    fn is_open(&self) -> bool {
        self.open
    }
}

/// Reads from a server at once, if it is up.
pub struct Glance(Server);

impl ConnectionLike for Glance {
    fn req_packed_command(&mut self, cmd: &[u8]) -> RedisResult<Value> {
        let commands = commands(cmd);
        let answer = self.0.with(|inner| {
            let reachable = inner.up && inner.frozen_until <= Instant::now();
            reachable.then(|| inner.command(&commands[0]))
        });
        answer.ok_or_else(broken)?.map_err(|_| broken())
    }

    fn req_packed_commands(&mut self, _: &[u8], _: usize, _: usize) -> RedisResult<Vec<Value>> {
        Err(broken())
    }

    fn get_db(&self) -> i64 {
        0
    }

    fn check_connection(&mut self) -> bool {
        true
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// The words of each command in a packed request.
fn commands(packed: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut commands = Vec::new();
    let mut rest = packed;
    while !rest.is_empty() {
        let words = take_number(&mut rest, b'*');
        let mut command = Vec::with_capacity(words);
        for _ in 0..words {
            let len = take_number(&mut rest, b'$');
            command.push(rest[..len].to_vec());
            rest = &rest[len + 2..];
        }
        commands.push(command);
    }
    commands
}

fn take_number(rest: &mut &[u8], kind: u8) -> usize {
    assert_eq!(rest[0], kind, "a request of arrays of strings");
    let end = rest.iter().position(|byte| *byte == b'\r').expect("a line");
    let number = std::str::from_utf8(&rest[1..end]).expect("digits").parse().expect("a number");
    *rest = &rest[end + 2..];
    number
}
