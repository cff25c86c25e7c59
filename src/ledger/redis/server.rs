//! Reaching the Redis that a lane lives in, and what it has to be able to give.

use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, ConnectionLike, IntoConnectionInfo, RedisError, Value,
    cmd,
};

use super::keys::Keys;
use super::scripts::LANE_SOURCE;
use crate::ledger::Durability;
use crate::limits;
use crate::sale::LaneId;

pub use super::connection::Connection;
#[cfg(test)]
use super::connection::Dial;

/// Where the ledger's Redis is, from `REDIS_URL`.
pub struct Server(Place);

enum Place {
    /// One server: `redis://`, `unix://`.
    Standalone(Client),
    /// The primary that the sentinels name: `redis+sentinel://a,b,c/primary`.
    Sentinels { sentinels: Vec<ConnectionAddr>, primary: String },
    /// Whoever has the lane's slot: a comma list of `redis://`.
    Cluster(Vec<ConnectionInfo>),
    /// Whatever a simulation takes for one.
    #[cfg(test)]
    Given(std::sync::Arc<dyn Dial>),
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
    /// One that a simulation makes.
    #[cfg(test)]
    pub(crate) fn given(dial: std::sync::Arc<dyn Dial>) -> Self {
        Self(Place::Given(dial))
    }

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
            let info = text.trim().into_connection_info().map_err(wrong)?;
            if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
                // Whoever can read the traffic of a peer that is not verified can also answer for it.
                return Err(ServerError::Url(
                    "#insecure is refused: name a host that its certificate names, and its root \
                     in SSL_CERT_FILE"
                        .to_owned(),
                ));
            }
            Ok(prompt(info))
        };
        if url.contains(',') {
            let seeds = url.split(',').map(info).collect::<Result<_, _>>()?;
            return Ok(Self(Place::Cluster(seeds)));
        }
        Ok(Self(Place::Standalone(Client::open(info(url)?).map_err(wrong)?)))
    }

    /// A connection to the server that has `lane`, with bounds on every wait. Sentinels and clusters are
    /// asked anew each time: after a failover or a move it is another.
    ///
    /// # Errors
    /// Nobody is there, or nobody knows who has the lane.
    pub fn connect(&self, lane: LaneId) -> Result<Connection, RedisError> {
        match &self.0 {
            Place::Standalone(client) => reach(client),
            Place::Sentinels { sentinels, primary } => {
                let mut connection =
                    reach(&first_answer(sentinels, |one| ask_sentinel(one, primary))?)?;
                // Between a death and a failover sentinels name who is no primary any more, or not yet.
                let role: Vec<Value> = cmd("ROLE").query(&mut connection)?;
                let role: String =
                    redis::from_redis_value(role.into_iter().next().unwrap_or(Value::Nil))?;
                if role == "master" { Ok(connection) } else { Err(nobody("it is no primary")) }
            }
            Place::Cluster(seeds) => reach(&first_answer(seeds, |one| ask_owner(one, lane))?),
            #[cfg(test)]
            Place::Given(dial) => dial.dial(lane).map(Connection::Given),
        }
    }
}

fn sentinel(rest: &str) -> Result<Server, ServerError> {
    let shape = || {
        ServerError::Url("sentinels look like redis+sentinel://host:port,host:port/primary".into())
    };
    let (hosts, primary) = rest.split_once('/').ok_or_else(shape)?;
    // Not said again: it may be a password.
    if hosts.contains('@') {
        return Err(ServerError::Url(
            "a redis+sentinel:// address has no place for a user or a password: name the sentinels \
             alone, host:port,host:port/primary"
                .into(),
        ));
    }
    if primary.is_empty() || primary.contains(['/', '?', '#']) {
        return Err(ServerError::Url(
            "a redis+sentinel:// address ends with the name of the primary: it has no place for the \
             number of a database, or for anything else"
                .into(),
        ));
    }
    let address = |host: &str| -> Result<ConnectionAddr, ServerError> {
        let (host, port) = host.rsplit_once(':').unwrap_or((host, "26379"));
        Ok(ConnectionAddr::Tcp(host.to_owned(), port.parse().map_err(|_| shape())?))
    };
    let sentinels = hosts.split(',').map(address).collect::<Result<Vec<_>, _>>()?;
    Ok(Server(Place::Sentinels { sentinels, primary: primary.to_owned() }))
}

/// The primary, as this sentinel has it.
fn ask_sentinel(sentinel: &ConnectionAddr, name: &str) -> Result<Client, RedisError> {
    let mut connection = reach(&Client::open(sentinel.clone())?)?;
    let mut question = cmd("SENTINEL");
    question.arg("get-master-addr-by-name").arg(name);
    let address: Option<(String, u16)> = question.query(&mut connection)?;
    let (host, port) = address.ok_or_else(|| nobody("the sentinel knows no such primary"))?;
    let at = ConnectionAddr::Tcp(host, port).into_connection_info()?;
    Client::open(prompt(at))
}

/// What is sent goes out at once; the crate's default waits for more.
fn prompt(info: ConnectionInfo) -> ConnectionInfo {
    info.set_tcp_settings(TcpSettings::default().set_nodelay(true))
}

/// A connection with bounds on every wait.
fn reach(client: &Client) -> Result<Connection, RedisError> {
    let within = Duration::from_millis(limits::REDIS_CONNECT_MS);
    let connection = client.get_connection_with_timeout(within)?;
    let patience = Some(Duration::from_millis(limits::REDIS_CALL_MS));
    connection.set_read_timeout(patience)?;
    connection.set_write_timeout(patience)?;
    Ok(Connection::Socket(connection))
}

/// What the first of several answers that is asked and there.
fn first_answer<T>(
    asked: &[T],
    ask: impl Fn(&T) -> Result<Client, RedisError>,
) -> Result<Client, RedisError> {
    let mut last = nobody("nobody is known that could be asked");
    for one in asked {
        match ask(one) {
            Ok(client) => return Ok(client),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn nobody(what: &'static str) -> RedisError {
    RedisError::from((redis::ErrorKind::Io, what))
}

/// The node that has the lane's slot, as this node has it.
fn ask_owner(seed: &ConnectionInfo, lane: LaneId) -> Result<Client, RedisError> {
    let mut connection = reach(&Client::open(seed.clone())?)?;
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
        // As the seed is spoken to.
        let at = if let ConnectionAddr::TcpTls { insecure, tls_params, .. } = seed.addr() {
            let (insecure, tls_params) = (*insecure, tls_params.clone());
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let at = at.into_connection_info()?;
        return Client::open(prompt(at.set_redis_settings(seed.redis_settings().clone())));
    }
    Err(nobody("no node of the cluster has the lane's slot"))
}

/// Who a new connection is, and what it has reached.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// What the server calls the connection.
    pub client: i64,
    /// The history that the server has: another one after every start, and after every failover. A primary that was
    /// never promoted has one as long as it runs: it changes its `master_replid` when its first replica comes, and an
    /// hour after its last one went, and has lost nothing.
    pub history: String,
}

/// Asks a server for both, in one round trip.
///
/// # Errors
/// It does not answer.
pub fn greet(connection: &mut dyn ConnectionLike) -> Result<Greeting, RedisError> {
    let mut questions = redis::pipe();
    questions.cmd("CLIENT").arg("ID").cmd("INFO");
    // So that no request of a crowd finds it missing. In the same round trip: every other one may fail.
    questions.cmd("SCRIPT").arg("LOAD").arg(LANE_SOURCE.as_str()).ignore();
    let (client, info): (i64, String) = questions.query(connection)?;
    let named =
        |name| field(&info, name).ok_or_else(|| nobody("INFO lacks run_id or master_replid"));
    let replication = if was_promoted(&info) { named("master_replid")? } else { "0" };
    let history = format!("{}:{replication}", named("run_id")?);
    Ok(Greeting { client, history })
}

/// Ends a connection that was given up: what was sent there and is still on its way must not be done
/// after it was asked for again and answered. For the server that it was made to: another one may have
/// given the same name to somebody else.
///
/// # Errors
/// It does not answer, or does not allow it.
pub fn end(connection: &mut dyn ConnectionLike, abandoned: &Greeting) -> Result<(), RedisError> {
    // Where nobody of that name is left there is nothing to end, and it says so.
    cmd("CLIENT").arg("KILL").arg("ID").arg(abandoned.client).exec(connection)
}

/// Whether the server has been a replica, and its history is another's up to a point.
pub(super) fn was_promoted(info: &str) -> bool {
    field(info, "master_replid2").is_some_and(|id| id.bytes().any(|digit| digit != b'0'))
}

pub(super) fn field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// One thing that a server is looked at for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// What, in Redis's words.
    pub what: &'static str,
    /// How it is there.
    pub found: String,
    /// Why the server cannot serve so, and what to change.
    pub fault: Option<String>,
}

impl Looked {
    fn new(what: &'static str, found: impl Into<String>, fault: Option<String>) -> Self {
        Self { what, found: found.into(), fault }
    }
}

/// Checks that the server can keep what `durability` tells buyers.
///
/// # Errors
/// [`ServerError::Unfit`] names the first setting that is to be changed.
pub fn check(
    connection: &mut dyn ConnectionLike,
    durability: Durability,
    replicas: usize,
) -> Result<(), ServerError> {
    let looked = look(connection, durability, replicas)?;
    let fault = looked.into_iter().find_map(|looked| looked.fault);
    fault.map_or(Ok(()), |fault| Err(ServerError::Unfit(fault)))
}

/// Everything that the server is checked for, as it is there.
///
/// # Errors
/// It does not answer.
pub fn look(
    connection: &mut dyn ConnectionLike,
    durability: Durability,
    replicas: usize,
) -> Result<Vec<Looked>, RedisError> {
    let info: String = cmd("INFO").query(connection)?;
    let version = field(&info, "redis_version").unwrap_or("unknown");
    let major: u32 = version.split('.').next().and_then(|part| part.parse().ok()).unwrap_or(0);
    let old = (major < 7).then(|| format!("version {version} is too old; 7.0 is needed"));
    let policy = field(&info, "maxmemory_policy");
    let evicts = policy.filter(|policy| *policy != "noeviction").map(|_| {
        "it may throw stock away when memory is short: set maxmemory-policy noeviction".to_owned()
    });
    let mut looked = vec![
        Looked::new("version", version, old),
        Looked::new("maxmemory-policy", policy.unwrap_or("unknown"), evicts),
    ];
    if durability == Durability::Memory {
        return Ok(looked);
    }
    for (name, wanted) in
        [("appendonly", "yes"), ("appendfsync", "always"), ("no-appendfsync-on-rewrite", "no")]
    {
        looked.push(look_at_setting(connection, durability, name, wanted));
    }
    if durability == Durability::Replicated {
        let connected = field(&info, "connected_slaves");
        let connected: usize = connected.and_then(|count| count.parse().ok()).unwrap_or(0);
        let few = (connected < replicas).then(|| {
            format!(
                "durability `replicated` needs {replicas} replicas, and {connected} are connected: \
                 connect them, or set ledger.replicas or another durability"
            )
        });
        looked.push(Looked::new("replicas", connected.to_string(), few));
    }
    Ok(looked)
}

fn look_at_setting(
    connection: &mut dyn ConnectionLike,
    durability: Durability,
    name: &'static str,
    wanted: &str,
) -> Looked {
    let pair: Result<Vec<String>, _> = cmd("CONFIG").arg("GET").arg(name).query(connection);
    let needs = format!("durability `{}` needs {name} {wanted}", durability.as_str());
    match pair.ok().and_then(|pair| pair.into_iter().nth(1)) {
        Some(value) if value == wanted => Looked::new(name, value, None),
        Some(value) => {
            let fault =
                format!("{needs}, and it is {value}: set it, or set durability = \"memory\"");
            Looked::new(name, value, Some(fault))
        }
        None => {
            let fault = format!(
                "{needs}, and CONFIG GET is not allowed: allow it, or set durability = \"memory\""
            );
            Looked::new(name, "unknown", Some(fault))
        }
    }
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
            "rediss://user:secret@there:6379",
            "rediss://a:1,rediss://b:2",
            "redis+sentinel://a:1,b/primary",
        ] {
            assert!(Server::of(url).is_ok(), "{url}");
        }
        for url in [
            "http://there",
            "rediss://there#insecure",
            "redis+sentinel://a:1",
            "redis+sentinel://a:x/p",
            "redis+sentinel://a:1/",
        ] {
            assert!(matches!(Server::of(url), Err(ServerError::Url(_))), "{url}");
        }
    }

    /// A password or a database with sentinels is refused, not taken for a host or a name, and not said.
    #[test]
    fn sentinels_take_no_more() {
        for url in [
            "redis+sentinel://user:canary@a:1/primary",
            "redis+sentinel://:canary@a:1,b:2/primary",
            "redis+sentinel://a:1,:canary@b:2/primary",
            "redis+sentinel://a:1/primary/2",
            "redis+sentinel://a:1/primary?password=canary",
        ] {
            let Err(ServerError::Url(told)) = Server::of(url) else { panic!("{url}") };
            assert!(told.contains("no place") && !told.contains("canary"), "{url}: {told}");
        }
    }
}
