//! Who is measured: the product, and what others would be.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use floodgate_loadtest::gateway::{Backends, Durable, Gateway, Process, free_address};
use floodgate_loadtest::ops::{OpsClient, SaleSpec};
use tempfile::TempDir;

use super::BenchOptions;
use crate::cli::Failure;

/// The sale that is measured.
pub const SALE: &str = "bench";
/// Its item.
pub const ITEM: &str = "sku-1";

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// A hyper server with a fixed answer, on one thread: the least that an answer can cost.
    Bare,
    /// The product, on what it stands on.
    Floodgate { redis: Option<Durable>, postgres: bool },
    /// fastify and ioredis with auto-pipelining.
    Fastify(Durable),
    /// nginx with Lua.
    Nginx(Durable),
}

impl Contender {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Floodgate { .. } => "floodgate",
            Self::Fastify(_) => "fastify",
            Self::Nginx(_) => "nginx",
        }
    }

    /// Starts it, with an open sale of `stock` units and one per user.
    pub async fn start(self, options: &BenchOptions, stock: u64) -> Result<Running, Failure> {
        let kind = match self {
            Self::Bare => Kind::Other(Box::new(bare().await?)),
            Self::Floodgate { redis, postgres } => {
                let backends = Backends::start(redis, postgres)?;
                let binary = options.floodgate()?;
                let gateway = Gateway::start(&binary, backends, None, &options.serve).await?;
                let mut ops = OpsClient::new(gateway.ops());
                ops.create_sale(&SaleSpec::single(SALE, ITEM, stock, Some(1))).await?;
                ops.transition(SALE, "open").await?;
                Kind::Floodgate(Box::new(gateway))
            }
            Self::Fastify(durable) => {
                Kind::Other(Box::new(fastify(&options.baselines, durable, stock).await?))
            }
            Self::Nginx(durable) => {
                Kind::Other(Box::new(nginx(&options.baselines, durable, stock).await?))
            }
        };
        Ok(Running { kind })
    }
}

/// A contender that runs.
#[derive(Debug)]
pub struct Running {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Floodgate(Box<Gateway>),
    Other(Box<Other>),
}

#[derive(Debug)]
struct Other {
    // Dropped in this order: the server before what it stands on.
    process: Process,
    backends: Backends,
    _dir: Option<TempDir>,
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        match &self.kind {
            Kind::Floodgate(gateway) => gateway.addr(),
            Kind::Other(other) => other.process.addr(),
        }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        match &self.kind {
            Kind::Floodgate(gateway) => gateway.id(),
            Kind::Other(other) => other.process.id(),
        }
    }

    /// The product, if it is.
    pub fn gateway(&self) -> Option<&Gateway> {
        match &self.kind {
            Kind::Floodgate(gateway) => Some(gateway),
            Kind::Other(_) => None,
        }
    }

    fn backends(&self) -> &Backends {
        match &self.kind {
            Kind::Floodgate(gateway) => gateway.backends(),
            Kind::Other(other) => &other.backends,
        }
    }

    pub fn redis_id(&self) -> Option<u32> {
        self.backends().redis.as_ref()?.id()
    }

    pub fn postgres_id(&self) -> Option<u32> {
        self.backends().postgres.as_ref()?.id()
    }

    /// Memory that Redis uses for data.
    pub fn redis_bytes(&self) -> Option<u64> {
        let info = self.backends().redis.as_ref()?.ask("INFO memory").ok()?;
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"))?;
        line.trim().parse().ok()
    }

    /// Changes that the writer has not digested, if there is a writer.
    pub async fn undigested(&self) -> Result<Option<u64>, Failure> {
        let Some(gateway) = self.gateway() else { return Ok(None) };
        let view = OpsClient::new(gateway.ops()).sale(SALE).await?;
        Ok(Some(view.outbox_length))
    }
}

/// This very program, as the bare server.
async fn bare() -> Result<Other, Failure> {
    let addr = free_address()?;
    let mut command = Command::new(std::env::current_exe().map_err(Failure::failed)?);
    command.args(["bare", "--until-stdin-closes", "--threads", "1"]);
    command.args(["--listen", &addr.to_string()]);
    let mut process = Process::start(command, addr, None)?;
    process.wait_for_port().await?;
    Ok(Other { process, backends: Backends::default(), _dir: None })
}

async fn fastify(baselines: &Path, durable: Durable, stock: u64) -> Result<Other, Failure> {
    let dir = baselines.join("fastify");
    if !dir.join("node_modules").is_dir() {
        let missing = format!("{}: npm ci (Debian: apt-get install nodejs npm)", dir.display());
        return Err(Failure::Unavailable(missing));
    }
    let (addr, backends) = (free_address()?, Backends::start(Some(durable), false)?);
    let log = TempDir::with_prefix("floodgate-fastify-").map_err(Failure::failed)?;
    let mut command = Command::new("node");
    command.current_dir(&dir).arg("server.js").env("PORT", addr.port().to_string());
    command.env("REDIS_URL", redis_url(&backends)).env("STOCK", stock.to_string());
    command.env("SALE", SALE).env("ITEM", ITEM).env("DURABILITY", durable.name());
    let mut process = Process::start(command, addr, Some(log.path().join("log")))?;
    process.wait_for_port().await?;
    Ok(Other { process, backends, _dir: Some(log) })
}

async fn nginx(baselines: &Path, durable: Durable, stock: u64) -> Result<Other, Failure> {
    if !Path::new("/usr/lib/nginx/modules/ngx_http_lua_module.so").is_file() {
        let packages = "nginx libnginx-mod-http-lua lua-nginx-redis lua-cjson";
        return Err(Failure::Unavailable(format!("nginx: apt-get install {packages}")));
    }
    let (addr, backends) = (free_address()?, Backends::start(Some(durable), false)?);
    let dir = TempDir::with_prefix("floodgate-nginx-").map_err(Failure::failed)?;
    let here = baselines.canonicalize().map_err(Failure::failed)?;
    let redis = backends.redis.as_ref().map(|redis| redis.address().port()).unwrap_or_default();
    let filled = std::fs::read_to_string(here.join("nginx/nginx.conf")).map_err(Failure::failed)?;
    let filled = filled
        .replace("@WORKERS@", "auto")
        .replace("@DIR@", &dir.path().to_string_lossy())
        .replace("@BASELINES@", &here.to_string_lossy())
        .replace("@DURABILITY@", durable.name())
        .replace("@REDIS_PORT@", &redis.to_string())
        .replace("@PORT@", &addr.port().to_string());
    let conf = dir.path().join("nginx.conf");
    std::fs::write(&conf, filled).map_err(Failure::failed)?;
    make_sale(&backends, stock)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir.path()).arg("-c").arg(&conf);
    // Its workers outlive it unless it is asked to end.
    let mut process =
        Process::start(command, addr, Some(dir.path().join("log")))?.ends_when_asked();
    process.wait_for_port().await?;
    Ok(Other { process, backends, _dir: Some(dir) })
}

/// nginx has nobody who would do it.
fn make_sale(backends: &Backends, stock: u64) -> Result<(), Failure> {
    let Some(redis) = &backends.redis else { return Ok(()) };
    let sale = format!("{{b:{SALE}}}:sale");
    let fields = "opens_at 0 closes_at 9007199254740991 paused 0 limit 1 hold_ms 600000 price 1999";
    redis.ask(&format!("HSET {sale} {fields}")).map_err(Failure::failed)?;
    redis.ask(&format!("HSET {{b:{SALE}}}:stock {ITEM} {stock}")).map_err(Failure::failed)?;
    Ok(())
}

fn redis_url(backends: &Backends) -> String {
    backends.redis.as_ref().map(|redis| redis.url()).unwrap_or_default()
}
