//! By what a fault shows that it had an effect: seen on what it was done to, not assumed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio::time::sleep;

use super::fleet::{Rig, Ways};
use super::gateway::Gateway;
use crate::fault_proxy::FaultProxy;

/// What a gateway says of a configuration that it does not take.
const REFUSED: &str = "the configuration was not reloaded";
/// How long a sign may take to show.
const SHOWS_WITHIN: Duration = Duration::from_secs(2);
/// How long a gateway may take to say what time it is.
const TELLS_WITHIN: Duration = Duration::from_millis(500);
/// What is not looked at in another clock: an answer takes its time, and `Date` has whole seconds.
const BLUR_SECONDS: i64 = 4;

/// What to look at once a round's faults are over.
#[derive(Clone, Copy, Debug)]
pub enum Sign {
    /// It showed at once, or did not.
    Shown(bool),
    /// A count of these ways has to have grown since.
    Grows(fn(&FaultProxy) -> u64, Ways, u64),
    /// A gateway's clock has to be off, by as much as was last chosen for it.
    Clock(usize),
}

impl Sign {
    /// That a count of these ways is larger than now.
    pub fn grows(rig: &Rig, count: fn(&FaultProxy) -> u64, ways: Ways) -> Self {
        Self::Grows(count, ways, sum(rig, count, ways))
    }

    /// Whether it shows.
    pub async fn shows(self, rig: &Rig) -> bool {
        match self {
            Self::Shown(shown) => shown,
            Self::Grows(count, ways, before) => sum(rig, count, ways) > before,
            Self::Clock(which) => is_skewed(&rig.gateways[which]).await,
        }
    }
}

fn sum(rig: &Rig, count: fn(&FaultProxy) -> u64, ways: Ways) -> u64 {
    rig.ways(ways).iter().map(count).sum()
}

/// Whether a gateway says a time that is off as it should be, once it says one.
async fn is_skewed(gateway: &Gateway) -> bool {
    let began = Instant::now();
    while began.elapsed() < SHOWS_WITHIN {
        if let Some(date) = date(gateway.public) {
            let off = date.as_second() - Timestamp::now().as_second();
            return (off - gateway.skew).abs() <= BLUR_SECONDS;
        }
        sleep(Duration::from_millis(50)).await;
    }
    false
}

/// The `Date` of an answer.
fn date(address: SocketAddr) -> Option<Timestamp> {
    let mut stream = TcpStream::connect_timeout(&address, TELLS_WITHIN).ok()?;
    stream.set_read_timeout(Some(TELLS_WITHIN)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: chaos\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let lines = answer.lines().map(|line| line.split_once(": "));
    let (_, date) = lines.flatten().find(|(name, _)| name.eq_ignore_ascii_case("date"))?;
    rfc2822::parse(date).ok().map(|date| date.timestamp())
}

/// Whether a process stands still.
pub fn is_stopped(id: Option<u32>) -> bool {
    let state = id.and_then(|id| std::fs::read_to_string(of_process(id, "stat")).ok());
    state.is_some_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")))
}

/// How many descriptors a process may have, and how many it has.
pub fn descriptors(id: Option<u32>) -> Option<(u32, usize)> {
    let limits = std::fs::read_to_string(of_process(id?, "limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let most = line.split_whitespace().next()?.parse().ok()?;
    Some((most, std::fs::read_dir(of_process(id?, "fd")).ok()?.count()))
}

fn of_process(id: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{id}/{file}"))
}

/// Whether a gateway says, behind so many bytes of its log, that it did not take its configuration.
pub async fn refuses_configuration(gateway: &Gateway, since: u64) -> bool {
    let began = Instant::now();
    while began.elapsed() < SHOWS_WITHIN {
        let said = gateway.said_since(since).unwrap_or_default();
        if String::from_utf8_lossy(&said).contains(REFUSED) {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    false
}
