//! What goes wrong, and how it is done to real processes.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::sleep;

use super::disk::Disk;
use super::fleet::{Rig, copy};
use crate::fault_proxy::FaultProxy;
use crate::history::Level;

/// Connections that take all descriptors.
const HOARDED: usize = 400;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of a gateway, and a start.
    KillGateway,
    /// SIGTERM of a gateway, and a start.
    RestartGateway,
    /// SIGSTOP of a gateway, and SIGCONT.
    PauseGateway,
    /// A gateway is started under a clock that is off by up to an hour.
    SkewGateway,
    /// A gateway has hardly any descriptors, and a crowd takes them.
    ExhaustDescriptors,
    /// A gateway's configuration becomes bad, and it is told to read it.
    BadConfiguration,
    /// SIGKILL of Redis, and a start on its files.
    KillRedis,
    /// Redis stands still.
    FreezeRedis,
    /// Redis starts with nothing.
    WipeRedis,
    /// Redis starts from files that are older.
    RollBackRedis,
    /// The disk under Redis is full, and has room again.
    FillDisk,
    /// SIGKILL of Redis's replica, and a start with nothing.
    KillReplica,
    /// Redis forgets its scripts.
    ForgetScripts,
    /// Every few answers of Redis are lost.
    CutRedis,
    /// Redis's answers are late.
    DelayRedis,
    /// What is sent to Redis arrives nowhere.
    LoseRedis,
    /// SIGKILL of PostgreSQL, and a start on its files.
    KillPostgres,
    /// Commits whose answers are lost.
    CutCommits,
    /// PostgreSQL's answers are late.
    DelayPostgres,
    /// What is sent to PostgreSQL arrives nowhere.
    LosePostgres,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::KillGateway,
        Self::RestartGateway,
        Self::PauseGateway,
        Self::SkewGateway,
        Self::ExhaustDescriptors,
        Self::BadConfiguration,
        Self::KillRedis,
        Self::FreezeRedis,
        Self::WipeRedis,
        Self::RollBackRedis,
        Self::FillDisk,
        Self::KillReplica,
        Self::ForgetScripts,
        Self::CutRedis,
        Self::DelayRedis,
        Self::LoseRedis,
        Self::KillPostgres,
        Self::CutCommits,
        Self::DelayPostgres,
        Self::LosePostgres,
    ];

    /// Those that can be done here: another clock takes a program that is not everywhere, a disk that can be filled
    /// takes root.
    #[must_use]
    pub fn possible() -> Vec<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let fakes = std::env::split_paths(&path).any(|dir| dir.join("faketime").is_file());
        let possible = |fault: &Self| {
            (fakes || *fault != Self::SkewGateway)
                && (*fault != Self::FillDisk || Disk::is_possible())
        };
        Self::ALL.into_iter().filter(possible).collect()
    }

    /// Its name in a tally.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KillGateway => "kill gateway",
            Self::RestartGateway => "restart gateway",
            Self::PauseGateway => "pause gateway",
            Self::SkewGateway => "skew gateway",
            Self::ExhaustDescriptors => "exhaust descriptors",
            Self::BadConfiguration => "bad configuration",
            Self::KillRedis => "kill redis",
            Self::FreezeRedis => "freeze redis",
            Self::WipeRedis => "wipe redis",
            Self::RollBackRedis => "roll back redis",
            Self::FillDisk => "fill disk",
            Self::KillReplica => "kill replica",
            Self::ForgetScripts => "forget scripts",
            Self::CutRedis => "cut redis",
            Self::DelayRedis => "delay redis",
            Self::LoseRedis => "lose redis",
            Self::KillPostgres => "kill postgres",
            Self::CutCommits => "cut commits",
            Self::DelayPostgres => "delay postgres",
            Self::LosePostgres => "lose postgres",
        }
    }

    /// The weakest promise that survives it, if not all do.
    #[must_use]
    pub fn survivor(self) -> Option<Level> {
        matches!(self, Self::WipeRedis | Self::RollBackRedis).then_some(Level::Stored)
    }

    /// Does it, and mends what the next one could not do without.
    pub(super) async fn happen(self, rig: &mut Rig, rng: &mut Rng) -> io::Result<()> {
        let which = rng.usize(0..rig.gateways.len());
        let short = Duration::from_millis(rng.u64(20..600));
        let long = Duration::from_millis(rng.u64(500..4_000));
        match self {
            Self::KillGateway => {
                rig.gateways[which].kill();
                sleep(short).await;
                rig.gateways[which].start()
            }
            Self::RestartGateway => {
                rig.gateways[which].signal("-TERM");
                sleep(Duration::from_millis(300)).await;
                // A drain is bounded, and another start would find the port taken.
                rig.gateways[which].wait();
                rig.gateways[which].start()
            }
            Self::PauseGateway => {
                rig.gateways[which].signal("-STOP");
                sleep(long).await;
                rig.gateways[which].signal("-CONT");
                Ok(())
            }
            Self::SkewGateway => {
                rig.gateways[which].kill();
                rig.gateways[which].skew(rng.i64(-3_600..3_600));
                rig.gateways[which].start()
            }
            Self::ExhaustDescriptors => {
                let gateway = &rig.gateways[which];
                gateway.descriptors(128);
                let near = Duration::from_millis(20);
                let hoard: Vec<_> = (0..HOARDED)
                    .map_while(|_| TcpStream::connect_timeout(&gateway.public, near).ok())
                    .collect();
                sleep(short).await;
                drop(hoard);
                gateway.descriptors(4_096);
                Ok(())
            }
            Self::BadConfiguration => {
                rig.gateways[which].configure("lisen = 7 7\n")?;
                rig.gateways[which].signal("-HUP");
                sleep(short).await;
                rig.gateways[which].configure("")
            }
            Self::KillRedis => {
                rig.redis.kill();
                sleep(short).await;
                rig.redis.run()
            }
            Self::FreezeRedis => {
                rig.redis.freeze()?;
                sleep(long).await;
                rig.redis.thaw()
            }
            Self::WipeRedis => {
                rig.redis.kill();
                sleep(short).await;
                rig.redis.run_empty()
            }
            Self::RollBackRedis => {
                // Killed, so that the copy is of one moment.
                rig.redis.kill();
                let copied = tempfile::tempdir()?;
                copy(rig.redis.dir(), copied.path())?;
                rig.redis.run()?;
                sleep(short).await;
                rig.redis.kill();
                for entry in std::fs::read_dir(rig.redis.dir())? {
                    let path = entry?.path();
                    if path.is_dir() {
                        std::fs::remove_dir_all(path)?;
                    } else {
                        std::fs::remove_file(path)?;
                    }
                }
                copy(copied.path(), rig.redis.dir())?;
                rig.redis.run()
            }
            Self::FillDisk => {
                rig.disk.fill()?;
                sleep(short).await;
                rig.disk.empty();
                // One that syncs every write ends itself where it cannot.
                if rig.redis.runs() { Ok(()) } else { rig.redis.run() }
            }
            Self::KillReplica => {
                rig.replica.kill();
                sleep(short).await;
                rig.replica.run()
            }
            Self::ForgetScripts => rig.redis.ask("SCRIPT FLUSH").map(drop),
            Self::CutRedis => {
                rig.to_redis.swallow_every(rng.u64(3..40));
                sleep(long).await;
                rig.to_redis.swallow_every(0);
                Ok(())
            }
            Self::DelayRedis => {
                delay(&rig.to_redis, Duration::from_millis(rng.u64(1..700)), long).await
            }
            Self::LoseRedis => lose(&rig.to_redis, long).await,
            Self::KillPostgres => {
                rig.postgres.kill();
                sleep(short).await;
                rig.postgres.run()
            }
            Self::CutCommits => {
                rig.to_postgres.swallow_commits(rng.u64(1..6));
                sleep(long).await;
                rig.to_postgres.swallow_commits(0);
                Ok(())
            }
            Self::DelayPostgres => {
                delay(&rig.to_postgres, Duration::from_millis(rng.u64(10..400)), long).await
            }
            Self::LosePostgres => lose(&rig.to_postgres, long).await,
        }
    }
}

/// Every answer is late, for a while.
async fn delay(proxy: &FaultProxy, by: Duration, lasts: Duration) -> io::Result<()> {
    proxy.delay(by);
    sleep(lasts).await;
    proxy.delay(Duration::ZERO);
    Ok(())
}

/// No answer comes, for a while.
async fn lose(proxy: &FaultProxy, lasts: Duration) -> io::Result<()> {
    proxy.swallow_all(true);
    sleep(lasts).await;
    proxy.swallow_all(false);
    Ok(())
}
