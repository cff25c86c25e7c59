//! The program under attack by people with many connections and much time, beside somebody who just
//! wants to buy.
//!
//! Short unless told otherwise: `FLOODGATE_ATTACK_CONNECTIONS` is how many slow connections there are
//! (idle ones: two and a half times as many), `FLOODGATE_ATTACK_SECONDS` for how long.

pub mod frames;
mod slow;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::binary::{Serving, audit};
use crate::patience::{PATIENCE, eventually};
use crate::shop::CONSOLE;
use crate::tls::{BOTH, Certificate};

use frames::Flood;
use slow::{Attack, Attackers};

const CONNECTIONS: usize = 300;
const SECONDS: u64 = 3;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn connections() -> usize {
    usize::try_from(setting("FLOODGATE_ATTACK_CONNECTIONS", CONNECTIONS as u64)).unwrap()
}

fn duration() -> Duration {
    Duration::from_secs(setting("FLOODGATE_ATTACK_SECONDS", SECONDS))
}

/// What a process has used of the machine.
struct Usage {
    cpu: Duration,
    resident_kib: u64,
}

fn usage(pid: Pid) -> Usage {
    let pid = pid.as_raw_nonzero();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name, which may have anything in it.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|&field| fields[field].parse::<u64>().unwrap()).sum();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident_kib = resident.trim().trim_end_matches(" kB").parse().unwrap();
    let tick = Duration::from_millis(10);
    Usage { cpu: tick * u32::try_from(ticks).unwrap(), resident_kib }
}

/// What somebody who just wants to buy has seen.
#[derive(Debug, Default)]
struct Seen {
    asked: usize,
    served: usize,
    slowest: Duration,
}

impl Seen {
    fn add(&mut self, served: bool, took: Duration) {
        self.asked += 1;
        self.served += usize::from(served);
        self.slowest = self.slowest.max(took);
    }

    /// At least so many of a hundred were served.
    #[track_caller]
    fn expect(&self, what: &str, percent: usize) {
        assert!(self.asked > ENOUGH, "{what}: {self:?}");
        assert!(self.served * 100 >= self.asked * percent, "{what}: {self:?}");
    }
}

/// Fewer requests say nothing of shares.
const ENOUGH: usize = 10;

/// How long somebody waits before it counts as not served.
const BUYER_WAITS: Duration = Duration::from_secs(2);

/// Buys and looks, one request after the other, each on a connection of its own, for so long.
async fn buy(gateway: &Serving, lasts: Duration) -> Seen {
    let mut seen = Seen::default();
    let began = Instant::now();
    while began.elapsed() < lasts {
        let user = format!("buyer-{}", seen.asked);
        let call = match seen.asked % 2 {
            0 => gateway.want(&user, CONSOLE, 1),
            _ => gateway.call("GET", "/v1/sales"),
        };
        let asked = Instant::now();
        let answer = timeout(BUYER_WAITS, call.try_send()).await.ok().flatten();
        seen.add(answer.is_some_and(|answer| answer.status < 300), asked.elapsed());
    }
    seen
}

/// Proves that connections that are slow in sending heads or bodies, or in taking answers, and idle
/// ones, in their hundreds and all from one trusted address, take nothing from a buyer, and that the
/// memory that they cost is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_connections() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start(dir.path()).await;
    gateway.sell_consoles(10_000_000).await;
    for (attack, count) in [
        (Attack::Heads, connections()),
        (Attack::Bodies, connections()),
        (Attack::Reads, connections()),
        (Attack::Nothing, connections() * 5 / 2),
    ] {
        let before = usage(gateway.pid());
        let attackers = Attackers::start(attack, gateway.public, count).await;
        let began = usage(gateway.pid());
        let seen = buy(&gateway, duration()).await;
        let after = usage(gateway.pid());
        let stopped = attackers.stop().await;
        let (cpu, grown) =
            (after.cpu - began.cpu, after.resident_kib.saturating_sub(before.resident_kib));
        let thrown_out = stopped.thrown_out;
        println!(
            "{attack:?}: {count} connections, {thrown_out} thrown out; {seen:?}, {cpu:?} CPU, {grown} \
             KiB more"
        );
        seen.expect(&format!("{attack:?}"), 99);
        assert!(stopped.most_open * 10 >= count * 9, "{attack:?}: the attack is one: {stopped:?}");
        assert!(grown < 32 * 1024 + 64 * count as u64, "{attack:?}: {grown} KiB");
    }
    gateway.stop();
    audit(dir.path());
}

/// Opens so many connections, as far as the kernel takes them, and says nothing.
async fn crowd(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..count {
        match timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => open.push(stream),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    open
}

/// How long it takes until a buyer is served.
async fn recovery(gateway: &Serving) -> Duration {
    let began = Instant::now();
    eventually("a buyer is served", async || {
        let answer = timeout(BUYER_WAITS, gateway.call("GET", "/v1/time").try_send()).await;
        answer.ok().flatten().filter(|answer| answer.status == 200)
    })
    .await;
    began.elapsed()
}

/// Long enough to see a process spin.
const LOOK: Duration = Duration::from_secs(2);

/// The CPU time of a process while nobody asks it for anything.
async fn cpu_while_idle(gateway: &Serving) -> Duration {
    let before = usage(gateway.pid());
    tokio::time::sleep(LOOK).await;
    usage(gateway.pid()).cpu - before.cpu
}

/// Proves that a gateway that may have 256 descriptors serves, that 2 000 connections neither make it
/// spin nor end it, that operators reach it meanwhile, and that buyers are served again at once when
/// they are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_descriptors() {
    const CROWD: usize = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start_confined(dir.path(), 256).await;
    gateway.sell_consoles(1_000).await;
    gateway.hold("ann").await;
    let open = crowd(gateway.public, CROWD).await;
    assert_eq!(open.len(), CROWD, "the kernel's backlog takes them");
    let cpu = cpu_while_idle(&gateway).await;
    assert!(cpu < LOOK / 4, "it spins: {cpu:?} of {LOOK:?}");
    gateway.stranger("GET", "/livez").send().await.expect(200);
    gateway.counters().await;
    drop(open);
    let recovered = recovery(&gateway).await;
    println!(
        "256 descriptors, {CROWD} connections: {cpu:?} CPU in {LOOK:?}; served after {recovered:?}"
    );
    assert!(recovered < Duration::from_secs(1), "{recovered:?}");
    gateway.hold("bob").await;
    gateway.stop();
    audit(dir.path());
}

/// Proves that a gateway that runs out of descriptors waits instead of spinning, says so once a second
/// at most, and accepts again when there are some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start(dir.path()).await;
    gateway.sell_consoles(1_000).await;
    gateway.hold("ann").await;
    let limit = rustix::process::getrlimit(Resource::Nofile).maximum;
    let few = Rlimit { current: Some(0), maximum: limit };
    rustix::process::prlimit(Some(gateway.pid()), Resource::Nofile, few).unwrap();
    let open = crowd(gateway.public, 100).await;
    gateway.log().wait_for("cannot accept");
    let cpu = cpu_while_idle(&gateway).await;
    assert!(cpu < LOOK / 4, "it spins: {cpu:?} of {LOOK:?}");
    let lines = gateway.log().text().matches("cannot accept").count();
    assert!((1..=5).contains(&lines), "{lines} lines in about {LOOK:?}");
    let enough = Rlimit { current: limit, maximum: limit };
    rustix::process::prlimit(Some(gateway.pid()), Resource::Nofile, enough).unwrap();
    let recovered = recovery(&gateway).await;
    println!("no descriptors: {cpu:?} CPU in {LOOK:?}, {lines} lines; served after {recovered:?}");
    assert!(recovered < Duration::from_secs(1), "{recovered:?}");
    drop(open);
    gateway.stop();
    audit(dir.path());
}

/// Buys nothing, but looks, over TLS, each time on a connection of its own, for so long.
async fn look(certificate: &Certificate, address: SocketAddr, lasts: Duration) -> Seen {
    const LOOK: &[u8] = b"GET /v1/sales HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut seen = Seen::default();
    let began = Instant::now();
    // Where each takes long, for as many as it takes to speak of shares.
    while began.elapsed() < lasts || (seen.asked <= ENOUGH && began.elapsed() < PATIENCE) {
        let asked = Instant::now();
        let answer = timeout(BUYER_WAITS, async {
            let mut stream = certificate.connect(address, &[], &BOTH).await.ok()?;
            stream.write_all(LOOK).await.ok()?;
            let mut came = Vec::new();
            stream.read_to_end(&mut came).await.ok()?;
            came.starts_with(b"HTTP/1.1 200 ").then_some(())
        })
        .await;
        seen.add(answer.ok().flatten().is_some(), asked.elapsed());
    }
    seen
}

/// Proves that connections that are kept and silent give their buffers back, and serve on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections() {
    const SILENT: u64 = 1_000;
    /// hyper's buffers alone are 16 for each.
    const KIB_EACH: u64 = 12;
    const LOOK: &[u8] = b"GET /v1/sales HTTP/1.1\r\nhost: shop\r\n\r\n";
    let dir = tempfile::tempdir().unwrap();
    // They are to be silent for longer than the test waits.
    let settings = ["http.connections_per_address=2000", "http.idle_ms=600000"];
    let more = settings.map(|setting| ["--set", setting]).concat();
    let gateway = Serving::start_with(dir.path(), &more).await;
    let look = async |stream: &mut TcpStream| {
        stream.write_all(LOOK).await.unwrap();
        let mut came = Vec::new();
        while !came.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut came).await.unwrap(), 0);
        }
        assert!(came.starts_with(b"HTTP/1.1 200 "));
    };
    let before = usage(gateway.pid()).resident_kib;
    let mut streams = Vec::new();
    for _ in 0..SILENT {
        let mut stream = TcpStream::connect(gateway.public).await.unwrap();
        look(&mut stream).await;
        streams.push(stream);
    }
    let grown = eventually("the buffers are given back", async || {
        let grown = usage(gateway.pid()).resident_kib.saturating_sub(before);
        (grown < SILENT * KIB_EACH).then_some(grown)
    });
    println!("{} KiB for {SILENT} connections", grown.await);
    for stream in &mut streams {
        look(stream).await;
    }
    drop(streams);
    gateway.stop();
    audit(dir.path());
}

/// Proves that floods of HTTP/2 end their connections, cost bounded memory, and leave at least four
/// fifths of a buyer's requests served within two seconds: requests that are given up at once, heads
/// that never end, pings, settings, and empty pieces of bodies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_http2() {
    const FLOODERS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(files.path());
    let cert_file = format!("tls.cert_file={}", certificate.cert_file.display());
    let key_file = format!("tls.key_file={}", certificate.key_file.display());
    let gateway = Serving::start_with(dir.path(), &["--set", &cert_file, "--set", &key_file]).await;
    for flood in Flood::ALL {
        let before = usage(gateway.pid());
        let stop = Arc::new(AtomicBool::new(false));
        let mut flooders = tokio::task::JoinSet::new();
        for _ in 0..FLOODERS {
            let certificate = certificate.clone();
            flooders.spawn(flood.run(certificate, gateway.public, Arc::clone(&stop)));
        }
        let seen = look(&certificate, gateway.public, duration()).await;
        stop.store(true, Ordering::Relaxed);
        let ended: Vec<frames::Ended> = flooders.join_all().await;
        let after = usage(gateway.pid());
        let connections: u64 = ended.iter().map(|ended| ended.connections).sum();
        let sent: u64 = ended.iter().map(|ended| ended.frames).sum();
        let longest = ended.iter().map(|ended| ended.longest).max().unwrap();
        let grown = after.resident_kib.saturating_sub(before.resident_kib);
        let cpu = after.cpu - before.cpu;
        println!(
            "{flood:?}: {sent} frames on {connections} connections, the longest {longest:?}; {seen:?}, \
             {cpu:?} CPU, {grown} KiB more"
        );
        seen.expect(&format!("{flood:?}"), 80);
        assert!(grown < 64 * 1024, "{flood:?}: {grown} KiB");
        assert!(longest < PATIENCE, "{flood:?}: {longest:?}");
    }
    gateway.stop();
    audit(dir.path());
}

/// Reads whatever comes until the end.
async fn drain(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut buffer = [0; 4096];
    while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {}
}
