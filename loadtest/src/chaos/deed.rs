//! How faults are done to real processes.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::time::sleep;

use super::Fault;
use super::fleet::{Rig, Ways};
use super::gateway::Gateway;
use super::sign::{Sign, descriptors, is_stopped, refuses_configuration};
use crate::fault_proxy::FaultProxy;

/// Connections that take all descriptors.
const HOARDED: usize = 400;
/// Descriptors that a gateway is left with.
const DESCRIPTORS: u32 = 128;
/// Descriptors that it may have closed again before it is looked at.
const SPARE: usize = 16;
/// How far a clock is put off at least, so that it can be told.
const SKEW_SECONDS_MIN: i64 = 10;
const SKEW_SECONDS_MAX: i64 = 3_600;
/// How long a gateway that starts may take until it knows its signals.
const LISTENS_WITHIN: Duration = Duration::from_secs(5);
/// Configurations that nobody may take: no TOML, an unknown key, another type, an unknown word, not there. None is of
/// a key that is set elsewhere, which would count instead.
const BAD: [Option<&str>; 5] = [
    Some("lisen = 7 7\n"),
    Some("no_such_key = 1\n"),
    Some("trusted_proxies = 5\n"),
    Some("log_format = \"verse\"\n"),
    None,
];

/// What is chosen for a fault, whatever it is, so that what is chosen for the next does not depend on it.
#[derive(Debug)]
struct Choice {
    gateway: usize,
    short: Duration,
    long: Duration,
    /// Of ways to Redis: only this gateway's.
    alone: bool,
    /// A fault of a way stays while others happen, until everything is mended.
    stays: bool,
    rng: Rng,
}

impl Choice {
    fn of(rig: &Rig, rng: &mut Rng) -> Self {
        Self {
            gateway: rng.usize(0..rig.gateways.len()),
            short: Duration::from_millis(rng.u64(20..600)),
            long: Duration::from_millis(rng.u64(500..4_000)),
            alone: rng.bool(),
            stays: rng.bool(),
            rng: rng.fork(),
        }
    }

    fn to_redis(&self) -> Ways {
        Ways::Redis(self.alone.then_some(self.gateway))
    }
}

/// Does it, and mends what the next one could not do without. Returns by what it shows that it had an effect.
///
/// # Errors
/// A server does not come up again.
pub async fn happen(fault: Fault, rig: &mut Rig, rng: &mut Rng) -> io::Result<Sign> {
    let mut choice = Choice::of(rig, rng);
    let (short, long, to_redis) = (choice.short, choice.long, choice.to_redis());
    let shown = match fault {
        Fault::KillGateway => {
            let ran = rig.gateways[choice.gateway].kill();
            sleep(short).await;
            rig.gateways[choice.gateway].start()?;
            ran
        }
        Fault::RestartGateway => {
            let ended = rig.gateways[choice.gateway].stop().await;
            rig.gateways[choice.gateway].start()?;
            ended
        }
        Fault::PauseGateway => pause_gateway(rig, &choice).await,
        Fault::SkewGateway => return skew_gateway(rig, &mut choice),
        Fault::ExhaustDescriptors => exhaust_descriptors(rig, &choice).await,
        Fault::BadConfiguration => bad_configuration(rig, &mut choice).await?,
        Fault::KillRedis => {
            let ran = rig.redis.runs();
            rig.redis.kill();
            sleep(short).await;
            rig.redis.run()?;
            ran
        }
        Fault::FreezeRedis => {
            rig.redis.freeze()?;
            sleep(long).await;
            let stopped = is_stopped(rig.redis.id());
            rig.redis.thaw()?;
            stopped
        }
        Fault::WipeRedis => {
            let had = has_keys(rig);
            rig.redis.kill();
            sleep(short).await;
            rig.redis.run_empty()?;
            had
        }
        Fault::RollBackRedis => roll_back_redis(rig, long).await?,
        Fault::FillDisk => fill_disk(rig, short).await?,
        Fault::KillReplica => {
            let ran = rig.replica.runs();
            rig.replica.kill();
            sleep(short).await;
            rig.replica.run()?;
            ran
        }
        Fault::ForgetScripts => {
            let knew = !rig.redis.ask("INFO memory")?.contains("number_of_cached_scripts:0\r\n");
            rig.redis.ask("SCRIPT FLUSH")? == "+OK\r\n" && knew
        }
        Fault::KillPostgres => {
            let ran = rig.postgres.id().is_some();
            rig.postgres.kill();
            sleep(short).await;
            rig.postgres.run()?;
            ran
        }
        Fault::CutRedis => return Ok(cut(rig, to_redis, &mut choice).await),
        Fault::DelayRedis => return Ok(delay(rig, to_redis, 1..700, &mut choice).await),
        Fault::LoseRedis => return Ok(lose(rig, to_redis, &choice).await),
        Fault::CutCommits => return Ok(cut_commits(rig, &mut choice).await),
        Fault::DelayPostgres => {
            return Ok(delay(rig, Ways::Postgres, 10..400, &mut choice).await);
        }
        Fault::LosePostgres => return Ok(lose(rig, Ways::Postgres, &choice).await),
    };
    Ok(Sign::Shown(shown))
}

async fn pause_gateway(rig: &Rig, choice: &Choice) -> bool {
    let gateway = &rig.gateways[choice.gateway];
    gateway.signal("-STOP");
    sleep(choice.long).await;
    let stopped = is_stopped(gateway.id());
    gateway.signal("-CONT");
    stopped
}

fn skew_gateway(rig: &mut Rig, choice: &mut Choice) -> io::Result<Sign> {
    let gateway = &mut rig.gateways[choice.gateway];
    gateway.kill();
    let skew = choice.rng.i64(SKEW_SECONDS_MIN..SKEW_SECONDS_MAX);
    gateway.skew = if choice.rng.bool() { skew } else { -skew };
    gateway.start()?;
    Ok(Sign::Clock(choice.gateway))
}

/// Waits until a gateway that is starting has come so far that it listens; whether it has.
async fn is_there(gateway: &mut Gateway) -> bool {
    let began = Instant::now();
    while gateway.runs() && began.elapsed() < LISTENS_WITHIN {
        if gateway.listens() {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    false
}

async fn exhaust_descriptors(rig: &mut Rig, choice: &Choice) -> bool {
    let gateway = &mut rig.gateways[choice.gateway];
    if !is_there(gateway).await {
        return false;
    }
    let Some((usual, _)) = descriptors(gateway.id()) else { return false };
    let near = Duration::from_millis(20);
    allow_descriptors(gateway.id(), DESCRIPTORS);
    let hoard: Vec<_> = (0..HOARDED)
        .map_while(|_| TcpStream::connect_timeout(&gateway.public, near).ok())
        .collect();
    sleep(choice.short).await;
    let left = descriptors(gateway.id());
    drop(hoard);
    allow_descriptors(gateway.id(), usual);
    left.is_some_and(|(most, open)| most == DESCRIPTORS && open + SPARE >= DESCRIPTORS as usize)
}

fn allow_descriptors(id: Option<u32>, most: u32) {
    let Some(id) = id else { return };
    let limit = format!("--nofile={most}:");
    // It may be over; then it needs none.
    let _ = Command::new("prlimit").args(["--pid", &id.to_string(), &limit]).status();
}

async fn bad_configuration(rig: &mut Rig, choice: &mut Choice) -> io::Result<bool> {
    let bad = BAD[choice.rng.usize(0..BAD.len())];
    let gateway = &mut rig.gateways[choice.gateway];
    // One that has just been started would end: by the signal, or by what it then reads.
    if !is_there(gateway).await {
        return Ok(false);
    }
    let since = gateway.log_bytes();
    match bad {
        Some(text) => gateway.configure(text)?,
        None => gateway.forget_configuration()?,
    }
    gateway.signal("-HUP");
    sleep(choice.short).await;
    let refused = refuses_configuration(gateway, since).await;
    gateway.configure("")?;
    gateway.signal("-HUP");
    Ok(refused)
}

fn has_keys(rig: &Rig) -> bool {
    rig.redis.ask("DBSIZE").is_ok_and(|said| said.starts_with(':') && said != ":0\r\n")
}

/// Redis goes on from its files for a while, and is then back at what they were.
async fn roll_back_redis(rig: &mut Rig, lasts: Duration) -> io::Result<bool> {
    let had = has_keys(rig);
    // Killed, so that the copy is of one moment.
    rig.redis.kill();
    let copied = tempfile::tempdir()?;
    copy(rig.redis.dir(), copied.path())?;
    rig.redis.run()?;
    let (forgets, before) = (had && !has_keys(rig), writes(rig));
    sleep(lasts).await;
    let newer = writes(rig) > before;
    rig.redis.kill();
    for entry in fs::read_dir(rig.redis.dir())? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    copy(copied.path(), rig.redis.dir())?;
    rig.redis.run()?;
    Ok(newer || forgets)
}

/// How much was written to Redis since its start: it saves nothing that would set this back.
fn writes(rig: &Rig) -> Option<u64> {
    let info = rig.redis.ask("INFO persistence").ok()?;
    let changes = |line: &str| line.strip_prefix("rdb_changes_since_last_save:")?.parse().ok();
    info.lines().find_map(changes)
}

async fn fill_disk(rig: &mut Rig, short: Duration) -> io::Result<bool> {
    rig.disk.fill()?;
    sleep(short).await;
    // One that syncs every write ends itself where it cannot; others say so.
    let ended = !rig.redis.runs();
    let fails = || rig.redis.ask("INFO persistence").unwrap_or_default();
    let failed = ended || fails().contains("aof_last_write_status:err");
    rig.disk.empty();
    if ended {
        rig.redis.run()?;
    }
    Ok(failed)
}

/// Every few answers are lost.
async fn cut(rig: &Rig, ways: Ways, choice: &mut Choice) -> Sign {
    let sign = Sign::grows(rig, FaultProxy::swallowed, ways);
    let every = choice.rng.u64(3..40);
    on(rig, ways, choice, |way| way.swallow_every(every), |way| way.swallow_every(0)).await;
    sign
}

/// Every few transactions of PostgreSQL are committed without an answer.
async fn cut_commits(rig: &Rig, choice: &mut Choice) -> Sign {
    let ways = Ways::Postgres;
    let sign = Sign::grows(rig, FaultProxy::swallowed, ways);
    let every = choice.rng.u64(1..6);
    on(rig, ways, choice, |way| way.swallow_commits(every), |way| way.swallow_commits(0)).await;
    sign
}

/// Every answer is late.
async fn delay(rig: &Rig, ways: Ways, ms: std::ops::Range<u64>, choice: &mut Choice) -> Sign {
    let sign = Sign::grows(rig, FaultProxy::delayed, ways);
    let by = Duration::from_millis(choice.rng.u64(ms));
    on(rig, ways, choice, |way| way.delay(by), |way| way.delay(Duration::ZERO)).await;
    sign
}

/// Nothing arrives.
async fn lose(rig: &Rig, ways: Ways, choice: &Choice) -> Sign {
    let sign = Sign::grows(rig, FaultProxy::vanished, ways);
    on(rig, ways, choice, |way| way.swallow_all(true), |way| way.swallow_all(false)).await;
    sign
}

/// Begins something on all of these ways, and ends it after a while if it does not stay.
async fn on(
    rig: &Rig,
    ways: Ways,
    choice: &Choice,
    begin: impl Fn(&FaultProxy),
    end: impl Fn(&FaultProxy),
) {
    rig.ways(ways).iter().for_each(begin);
    if !choice.stays {
        sleep(choice.long).await;
        rig.ways(ways).iter().for_each(end);
    }
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
