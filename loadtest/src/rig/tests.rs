//! The generators and the client against the bare server, in process.

use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use super::{
    Backoff, GetRequest, OpenPlan, Phase, Protocol, ReserveRequest, Retry, Stats, Until, closed,
    open,
};
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

/// Proves that an open loop sends rate times duration, at about that rate, over either protocol and
/// with a connection for each request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_loop_keeps_the_rate() {
    let bare = Bare::start(1);
    for (protocol, keep_alive) in
        [(Protocol::Http1, true), (Protocol::Http1, false), (Protocol::Http2 { streams: 8 }, true)]
    {
        let steady = OpenPlan::steady(bare.addr, 1_000.0, Duration::from_millis(300));
        let plan = OpenPlan { connections: 4, protocol, keep_alive, ..steady };
        let (report, seen) = open(plan, request(bare.addr)).await.unwrap();
        assert_all_answered(&report.stats, 300);
        assert!(report.stats.summary.total >= 0.29, "{report:?}");
        assert_eq!((report.phases[0].accepted, report.phases[0].sent), (300, 300));
        assert_eq!((seen.grants.len(), seen.unknown.len(), report.visits.left), (300, 0, 0));
        assert_eq!((report.visits.served, report.dropped()), (300, 0));
    }
    bare.end();
}

/// A server that answers one connection after `wait`, always the same.
async fn server(wait: Duration, answer: &'static str) -> SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    tokio::time::sleep(wait).await;
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    addr
}

/// Proves that an open loop charges a server that stalls with the waiting of everybody (one
/// connection, answers that take 20 ms, due every 2 ms), and that it says who was sent late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_loop_does_not_omit() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let addr = server(Duration::from_millis(20), answer).await;
    let steady = OpenPlan::steady(addr, 500.0, Duration::from_millis(40));
    let plan = OpenPlan { connections: 1, ..steady };
    let (report, _) = open(plan, GetRequest::new("h", "/")).await.unwrap();
    assert_eq!(report.stats.status_code_distribution[&200], 20);
    // The last was due after 38 ms and answered after 400 ms or more.
    assert!(report.stats.summary.slowest > 0.3, "{report:?}");
    assert!(report.phases[0].late >= 18 && report.phases[0].latest > 0.3, "{report:?}");
}

/// Proves that what nobody has a connection for is dropped after its patience, and counted in its
/// phase.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_loop_counts_what_it_drops() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let addr = server(Duration::from_millis(100), answer).await;
    let steady = OpenPlan::steady(addr, 500.0, Duration::from_millis(20));
    let phases = vec![
        Phase { name: "many".to_owned(), rate: 500.0, time: Duration::from_millis(20) },
        Phase { name: "few".to_owned(), rate: 2.0, time: Duration::from_millis(500) },
    ];
    let patience = Duration::from_millis(50);
    let plan = OpenPlan { connections: 1, phases, patience, ..steady };
    let (report, _) = open(plan, GetRequest::new("h", "/")).await.unwrap();
    let (many, few) = (&report.phases[0], &report.phases[1]);
    assert_eq!((many.sent, many.dropped), (1, 9), "{report:?}");
    assert_eq!(few.sent + few.dropped, 1, "{report:?}");
    assert!(report.stats.error_distribution["due but never sent"] >= 9);
}

/// Proves that visitors who are refused come again as often as planned, that refusals are told apart by
/// their code, and that their tries are one visit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_loop_tries_again() {
    let answer = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 9\r\ncontent-length: 21\r\n\r\n\
        {\"code\":\"overloaded\"}";
    let addr = server(Duration::ZERO, answer).await;
    let on = vec!["overloaded".to_owned()];
    let retry = Retry { times: 2, on, backoff: Backoff::None, honour_retry_after: false };
    let steady = OpenPlan::steady(addr, 100.0, Duration::from_millis(100));
    let (report, seen) =
        open(OpenPlan { retry, ..steady }, GetRequest::new("h", "/")).await.unwrap();
    let phase = &report.phases[0];
    assert_eq!((phase.sent, phase.retries, phase.refused_with("overloaded")), (30, 20, 30));
    assert_eq!((report.visits.visitors, report.visits.served, report.visits.left), (10, 0, 0));
    assert!(seen.grants.is_empty() && seen.unknown.is_empty());
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
