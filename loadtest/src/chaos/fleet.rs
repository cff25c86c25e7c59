//! The processes of a run, and the ways between them.

use std::io;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::disk::Disk;
use super::gateway::Gateway;
use super::{ChaosError, Plan};
use crate::fault_proxy::FaultProxy;
use crate::history::Level;
use crate::ops::OpsClient;
use crate::postgres_server::{PostgresServer, url_at};
use crate::redis_server::{Keeps, RedisServer};

/// How long everything may take to work again once nothing is wrong.
pub const REVIVES_WITHIN: Duration = Duration::from_secs(30);

/// Redis, PostgreSQL, the ways to them, and the gateways.
#[derive(Debug)]
pub struct Rig {
    pub redis: RedisServer,
    /// Has what Redis has, a moment later; or not.
    pub replica: RedisServer,
    pub postgres: PostgresServer,
    /// A way for each gateway, so that one alone can be cut off.
    to_redis: Vec<FaultProxy>,
    to_postgres: [FaultProxy; 1],
    pub gateways: Vec<Gateway>,
    /// Where Redis's files are. Last, for it goes when they are gone.
    pub disk: Disk,
}

/// Ways on which a fault is.
#[derive(Clone, Copy, Debug)]
pub enum Ways {
    /// From every gateway to Redis, or from one.
    Redis(Option<usize>),
    /// From every gateway to PostgreSQL.
    Postgres,
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
        let to_postgres = [FaultProxy::start(postgres.address())?];
        let (mut to_redis, mut gateways) = (Vec::new(), Vec::new());
        for number in 0..plan.gateways {
            let way = FaultProxy::start(redis.address())?;
            let dir = plan.dir.join(format!("gateway-{number}"));
            let books = url_at(to_postgres[0].address());
            gateways.push(Gateway::new(&plan.floodgate, dir, way.address(), books)?);
            to_redis.push(way);
        }
        Ok(Self { redis, replica, postgres, to_redis, to_postgres, gateways, disk })
    }

    /// The ways that are meant.
    pub fn ways(&self, ways: Ways) -> &[FaultProxy] {
        match ways {
            Ways::Redis(None) => &self.to_redis,
            Ways::Redis(Some(one)) => &self.to_redis[one..=one],
            Ways::Postgres => &self.to_postgres,
        }
    }

    /// Nothing is wrong any more: servers run, ways are open, gateways are up and ready.
    pub async fn heal(&mut self) -> Result<(), ChaosError> {
        for proxy in self.to_redis.iter().chain(&self.to_postgres) {
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
                    let (said, log) = (said.unwrap_or_default(), gateway.log().display());
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

    /// Has Redis keep so much, and all gateways promise so much; those that promised something else start anew.
    pub fn promise(&mut self, level: Level, keeps: Keeps) -> io::Result<()> {
        for gateway in &mut self.gateways {
            if gateway.level != level {
                gateway.kill();
                gateway.level = level;
            }
        }
        // While nobody runs who needs more than that.
        self.redis.keep(keeps)?;
        for gateway in &mut self.gateways {
            if !gateway.runs() {
                gateway.start()?;
            }
        }
        Ok(())
    }

    /// What gateways did that nobody asked for since the last time: ends that `explained` does not know by their exit
    /// code, and panics.
    pub fn misdeeds(&mut self, explained: impl Fn(i32) -> bool) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        for (number, gateway) in self.gateways.iter_mut().enumerate() {
            for status in gateway.take_ends() {
                if !status.code().is_some_and(&explained) {
                    found.push(format!("gateway {number} ended by itself: {status}"));
                }
            }
            for panic in gateway.take_panics()? {
                found.push(format!("gateway {number}: {panic}"));
            }
        }
        Ok(found)
    }
}
