//! Reaching the Redis that a lane lives in, and what it has to be able to give.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, ConnectionLike, IntoConnectionInfo, RedisError, Value,
    cmd,
};

use super::keys::Keys;
use crate::ledger::Durability;
use crate::limits;
use crate::sale::LaneId;

pub use redis::Connection;

/// Where the ledger's Redis is, from `REDIS_URL`.
pub struct Server(Place);

enum Place {
    /// One server: `redis://`, `unix://`.
    Standalone(Client),
    /// The primary that the sentinels name: `redis+sentinel://a,b,c/primary`.
    Sentinel(Box<Mutex<SentinelClient>>),
    /// Whoever has the lane's slot: a comma list of `redis://`.
    Cluster(Vec<ConnectionInfo>),
}

/// Why a server cannot serve as a ledger.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The URL cannot be read.
    #[error("redis_url: {0}")]
    Url(String),
    /// It cannot be reached, or refuses to answer.
    #[error("Redis: {0}")]
    Unreachable(#[from] RedisError),
    /// It is reached, but does not give what was promised to buyers.
    #[error("Redis: {0}")]
    Unfit(String),
}

impl Server {
    /// Reads a URL. Connects to nothing.
    ///
    /// # Errors
    /// [`ServerError::Url`].
    pub fn of(url: &str) -> Result<Self, ServerError> {
        let wrong = |error: RedisError| ServerError::Url(error.to_string());
        if let Some(rest) = url.strip_prefix("redis+sentinel://") {
            return sentinel(rest);
        }
        let info = |text: &str| -> Result<ConnectionInfo, ServerError> {
            // `unix` as the contract has it.
            let text = text.trim();
            let info = text.into_connection_info().map_err(wrong)?;
            if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
                return Err(ServerError::Url(
                    "this version does not speak TLS to Redis; use redis://".to_owned(),
                ));
            }
            Ok(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
        };
        if url.contains(',') {
            let seeds = url.split(',').map(info).collect::<Result<_, _>>()?;
            return Ok(Self(Place::Cluster(seeds)));
        }
        Ok(Self(Place::Standalone(Client::open(info(url)?).map_err(wrong)?)))
    }

    /// A connection to the server that has `lane`, with bounds on every wait.
    ///
    /// # Errors
    /// Nobody is there, or nobody knows who has the lane.
    pub fn connect(&self, lane: LaneId) -> Result<Connection, RedisError> {
        let within = Duration::from_millis(limits::REDIS_CONNECT_MS);
        let connection = match &self.0 {
            Place::Standalone(client) => client.get_connection_with_timeout(within)?,
            Place::Sentinel(client) => {
                let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
                client.get_client()?.get_connection_with_timeout(within)?
            }
            Place::Cluster(seeds) => owner_of(seeds, lane)?.get_connection_with_timeout(within)?,
        };
        let patience = Some(Duration::from_millis(limits::REDIS_CALL_MS));
        connection.set_read_timeout(patience)?;
        connection.set_write_timeout(patience)?;
        Ok(connection)
    }
}

fn sentinel(rest: &str) -> Result<Server, ServerError> {
    let shape = || {
        ServerError::Url("sentinels look like redis+sentinel://host:port,host:port/primary".into())
    };
    let (hosts, primary) = rest.split_once('/').ok_or_else(shape)?;
    let address = |host: &str| -> Result<ConnectionAddr, ServerError> {
        let (host, port) = host.rsplit_once(':').unwrap_or((host, "26379"));
        Ok(ConnectionAddr::Tcp(host.to_owned(), port.parse().map_err(|_| shape())?))
    };
    let addresses = hosts.split(',').map(address).collect::<Result<Vec<_>, _>>()?;
    let wrong = |error: RedisError| ServerError::Url(error.to_string());
    let builder = SentinelClientBuilder::new(addresses, primary, SentinelServerType::Master)
        .map_err(wrong)?
        .set_client_to_redis_tcp_settings(TcpSettings::default().set_nodelay(true));
    Ok(Server(Place::Sentinel(Box::new(Mutex::new(builder.build().map_err(wrong)?)))))
}

/// The node of a cluster that has the lane's slot, asked anew for every connection: after a failover
/// or a move it is another.
fn owner_of(seeds: &[ConnectionInfo], lane: LaneId) -> Result<Client, RedisError> {
    let mut last = None;
    for seed in seeds {
        match ask_owner(seed, lane) {
            Ok(client) => return Ok(client),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| nobody("no node of the cluster is known")))
}

fn nobody(what: &'static str) -> RedisError {
    RedisError::from((redis::ErrorKind::Io, what))
}

fn ask_owner(seed: &ConnectionInfo, lane: LaneId) -> Result<Client, RedisError> {
    let within = Duration::from_millis(limits::REDIS_CONNECT_MS);
    let mut connection = Client::open(seed.clone())?.get_connection_with_timeout(within)?;
    connection.set_read_timeout(Some(within))?;
    let slot: u16 =
        cmd("CLUSTER").arg("KEYSLOT").arg(Keys::of(lane).meta).query(&mut connection)?;
    let ranges: Vec<Vec<Value>> = cmd("CLUSTER").arg("SLOTS").query(&mut connection)?;
    for range in ranges {
        let mut fields = range.into_iter();
        let mut field = || fields.next().unwrap_or(Value::Nil);
        let (from, to): (u16, u16) =
            (redis::from_redis_value(field())?, redis::from_redis_value(field())?);
        if !(from..=to).contains(&slot) {
            continue;
        }
        let Value::Array(node) = field() else { break };
        let mut node = node.into_iter();
        let host: String = redis::from_redis_value(node.next().unwrap_or(Value::Nil))?;
        let port: u16 = redis::from_redis_value(node.next().unwrap_or(Value::Nil))?;
        let at = ConnectionAddr::Tcp(host, port).into_connection_info()?;
        let at = at
            .set_redis_settings(seed.redis_settings().clone())
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        return Client::open(at);
    }
    Err(nobody("no node of the cluster has the lane's slot"))
}

/// The run that this server is in: another one after every start, and on every replica.
///
/// # Errors
/// It does not answer.
pub fn run_id(connection: &mut dyn ConnectionLike) -> Result<String, RedisError> {
    let info: String = cmd("INFO").arg("server").query(connection)?;
    field(&info, "run_id").map(str::to_owned).ok_or_else(|| nobody("INFO without run_id"))
}

fn field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// Checks that the server can keep what `durability` tells buyers.
///
/// # Errors
/// [`ServerError::Unfit`] names the setting that is to be changed.
pub fn check(
    connection: &mut dyn ConnectionLike,
    durability: Durability,
    replicas: usize,
) -> Result<(), ServerError> {
    let info: String = cmd("INFO").query(connection)?;
    let version = field(&info, "redis_version").unwrap_or("unknown");
    let major: u32 = version.split('.').next().and_then(|part| part.parse().ok()).unwrap_or(0);
    if major < 7 {
        return Err(ServerError::Unfit(format!("version {version} is too old; 7.0 is needed")));
    }
    if field(&info, "maxmemory_policy").is_some_and(|policy| policy != "noeviction") {
        return Err(ServerError::Unfit(
            "it may throw stock away when memory is short: set maxmemory-policy noeviction".into(),
        ));
    }
    if durability == Durability::Memory {
        return Ok(());
    }
    let setting = |connection: &mut dyn ConnectionLike, name: &str| {
        let pair: Result<Vec<String>, _> = cmd("CONFIG").arg("GET").arg(name).query(connection);
        pair.ok().and_then(|pair| pair.into_iter().nth(1))
    };
    for (name, wanted) in [("appendonly", "yes"), ("appendfsync", "always")] {
        match setting(connection, name) {
            Some(value) if value == wanted => {}
            Some(value) => {
                return Err(ServerError::Unfit(format!(
                    "durability `{}` needs {name} {wanted}, and it is {value}: set it, or set \
                     durability = \"memory\"",
                    durability.as_str()
                )));
            }
            None => {
                return Err(ServerError::Unfit(format!(
                    "durability `{}` needs {name} {wanted}, and CONFIG GET is not allowed: allow \
                     it, or set durability = \"memory\"",
                    durability.as_str()
                )));
            }
        }
    }
    let connected: usize =
        field(&info, "connected_slaves").and_then(|count| count.parse().ok()).unwrap_or(0);
    if durability == Durability::Replicated && connected < replicas {
        return Err(ServerError::Unfit(format!(
            "durability `replicated` needs {replicas} replicas, and {connected} are connected: \
             connect them, or set ledger.replicas or another durability"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every form of the contract is understood, and what is not is named.
    #[test]
    fn urls() {
        for url in [
            "redis://127.0.0.1:6379/2",
            "redis://user:secret@there:6379",
            "unix:///run/redis.sock",
            "redis://a:1,redis://b:2",
            "redis+sentinel://a:1,b/primary",
        ] {
            assert!(Server::of(url).is_ok(), "{url}");
        }
        for url in
            ["http://there", "rediss://there", "redis+sentinel://a:1", "redis+sentinel://a:x/p"]
        {
            assert!(matches!(Server::of(url), Err(ServerError::Url(_))), "{url}");
        }
    }
}
