//! The generators and the client against the bare server, in process.

use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use super::{GetRequest, ReserveRequest, Stats, Until, closed, open};
use crate::client::{Client, Method};
use crate::stop::StopFlag;

struct Bare {
    addr: SocketAddr,
    stop: StopFlag,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Bare {
    fn start(threads: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = StopFlag::new();
        let shutdown = {
            let stop = stop.clone();
            async move { stop.wait().await }
        };
        let thread = std::thread::spawn(move || crate::bare::serve(listener, shutdown, threads));
        Self { addr, stop, thread }
    }

    fn end(self) {
        self.stop.set();
        self.thread.join().unwrap().unwrap();
    }
}

fn request(addr: SocketAddr) -> ReserveRequest {
    ReserveRequest::new(&addr.to_string(), "bench", "sku-1", "u", true)
}

fn assert_all_answered(stats: &Stats, count: u64) {
    assert_eq!(stats.status_code_distribution.get(&201), Some(&count), "{stats:?}");
    assert!(stats.error_distribution.is_empty(), "{stats:?}");
    assert!((stats.summary.success_rate - 1.0).abs() < f64::EPSILON);
    assert!(stats.latency_percentiles.p50 <= stats.latency_percentiles.p99);
    assert!(stats.summary.fastest > 0.0 && stats.summary.requests_per_sec > 0.0);
}

/// Proves that a closed loop sends exactly the count, and that its JSON has oha's key names.
#[tokio::test]
async fn closed_loop_counts() {
    let bare = Bare::start(1);
    let until = Until::Count(2_000, Duration::from_secs(30));
    let stats = closed(bare.addr, 16, until, 0, request(bare.addr)).await.unwrap();
    assert_all_answered(&stats, 2_000);
    let json = serde_json::to_value(&stats).unwrap();
    assert_eq!(json["statusCodeDistribution"]["201"], 2_000);
    assert!(json["summary"]["requestsPerSec"].as_f64().unwrap() > 0.0);
    assert!(json["latencyPercentiles"]["p99.9"].as_f64().unwrap() > 0.0);
    assert!(json["rps"]["mean"].as_f64().unwrap() > 0.0);
    bare.end();
}

/// Proves that a closed loop ends by time, and numbers from where it was told to.
#[tokio::test]
async fn closed_loop_ends() {
    let bare = Bare::start(2);
    let until = Until::Elapsed(Duration::from_millis(200));
    let first = std::sync::atomic::AtomicU64::new(u64::MAX);
    let lowest = std::sync::Arc::new(first);
    let (seen, inner) = (lowest.clone(), request(bare.addr));
    let render = move |n: u64, out: &mut Vec<u8>| {
        seen.fetch_min(n, std::sync::atomic::Ordering::Relaxed);
        super::Render::render(&inner, n, out);
    };
    let stats = closed(bare.addr, 4, until, 1_000, render).await.unwrap();
    assert_all_answered(&stats, stats.status_code_distribution[&201]);
    assert_eq!(lowest.load(std::sync::atomic::Ordering::Relaxed), 1_000);
    bare.end();
}

/// Proves that an open loop sends rate times duration, at about that rate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_loop_keeps_the_rate() {
    let bare = Bare::start(1);
    let (rate, time) = (1_000.0, Duration::from_millis(500));
    let stats = open(bare.addr, 16, rate, time, request(bare.addr)).await.unwrap();
    assert_all_answered(&stats, 500);
    assert!(stats.summary.total >= 0.49, "{stats:?}");
    bare.end();
}

/// Proves that an open loop charges a server that stalls with the waiting of everybody: one
/// connection, answers that take 20 ms, due every 2 ms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_loop_does_not_omit() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    });
    let render = GetRequest::new("h", "/");
    let stats = open(addr, 1, 500.0, Duration::from_millis(40), render).await.unwrap();
    assert_eq!(stats.status_code_distribution[&200], 20);
    // The last was due after 38 ms and answered after 400 ms or more.
    assert!(stats.summary.slowest > 0.3, "{stats:?}");
    server.await.unwrap();
}

/// Proves that a server which is not there is counted as such, and that the run still ends.
#[tokio::test]
async fn absent_server_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let until = Until::Elapsed(Duration::from_millis(300));
    let stats = closed(addr, 2, until, 0, GetRequest::new("h", "/")).await.unwrap();
    assert!(stats.status_code_distribution.is_empty());
    assert!(stats.error_distribution.keys().all(|cause| cause.starts_with("connect")));
    assert!(!stats.error_distribution.is_empty());
}

/// Proves that the client reads the bare server's answer, which has the form of a real 201.
#[tokio::test]
async fn client_reads_a_bare_answer() {
    let bare = Bare::start(1);
    let mut client = Client::new(bare.addr);
    for _ in 0..3 {
        let path = "/v1/sales/bench/reservations";
        let reply = client.request(Method::POST, path, &[], Bytes::from("{}")).await.unwrap();
        assert_eq!(reply.status, 201);
        assert!(reply.location.unwrap().starts_with("/v1/reservations/"));
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["status"], "held");
        assert!((260..=360).contains(&reply.body.len()), "{}", reply.body.len());
    }
    bare.end();
}
