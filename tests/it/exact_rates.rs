//! Rates under load from many connections, judged by the time that really passed. With
//! `FLOODGATE_ADMISSION_SECONDS=60` as long as it is, and on 128 connections.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use floodgate::admission::{AdmissionSettings, RateSetting};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::gateway::TestGateway;
use crate::shop::{CONSOLE, SALE};

/// What is measured. The bucket holds two seconds' worth: a machine that is busy elsewhere for less does
/// not let it overflow, so nothing is lost.
const LIMIT: RateSetting = RateSetting { rate: 50.0, burst: 100 };

/// How long, and on how many connections.
fn load() -> (Duration, usize) {
    match std::env::var("FLOODGATE_ADMISSION_SECONDS") {
        Ok(seconds) => (Duration::from_secs(seconds.parse().expect("a number")), 128),
        Err(_) => (Duration::from_millis(1_500), 32),
    }
}

/// What one connection has seen.
struct Seen {
    admitted: usize,
    /// When the first refusal came: by then, the bucket had been emptied.
    first_refused: Option<Instant>,
    /// When the last request was sent that was refused: until then, no token was left over.
    last_refused: Option<Instant>,
}

/// Asks without a pause until the time is up.
async fn hammer(address: SocketAddr, user: String, client: String, until: Instant) -> Seen {
    let mut seen = Seen { admitted: 0, first_refused: None, last_refused: None };
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let body = Bytes::from(format!("{{\"item_id\":\"{CONSOLE}\",\"quantity\":1}}"));
    while Instant::now() < until {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/v1/sales/{SALE}/reservations"))
            .header("host", "h")
            .header("x-user-id", &user)
            .header("x-forwarded-for", &client)
            .body(Full::new(body.clone()))
            .unwrap();
        let sent = Instant::now();
        sender.ready().await.unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        answer.into_body().collect().await.unwrap();
        match status {
            201 => seen.admitted += 1,
            429 => {
                seen.first_refused.get_or_insert_with(Instant::now);
                seen.last_refused = Some(sent);
            }
            other => panic!("{other}"),
        }
    }
    connection.abort();
    seen
}

/// Hammers from many connections, named by their numbers, and compares what was admitted with what the
/// limit promises for the time that passed: not one more, and not one less.
async fn measure(gateway: &TestGateway, name: impl Fn(usize) -> (String, String)) {
    let (time, connections) = load();
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let (user, client) = name(number);
        tasks.spawn(hammer(gateway.public, user, client, began + time));
    }
    let seen = tasks.join_all().await;
    let took = began.elapsed();
    let admitted: usize = seen.iter().map(|seen| seen.admitted).sum();
    let first = seen.iter().filter_map(|seen| seen.first_refused).min().expect("it was too much");
    let last = seen.iter().filter_map(|seen| seen.last_refused).max().unwrap();
    let burst = f64::from(LIMIT.burst);
    let most = burst + LIMIT.rate * took.as_secs_f64();
    // The burst was gone at the first refusal, and from there to the last all that came in was taken. A
    // client that saw the first late, or sent the last early, only makes this less.
    let between = last.saturating_duration_since(first);
    let least = burst + LIMIT.rate * between.as_secs_f64() - 1.0;
    let admitted = admitted as f64;
    println!(
        "{admitted} admitted in {took:?} on {connections} connections: {least:.1} to {most:.1}"
    );
    assert!(admitted <= most, "{admitted} of {most}");
    assert!(admitted >= least, "{admitted} of {least}");
}

async fn start(admission: AdmissionSettings) -> TestGateway {
    let gateway = TestGateway::start_with(|settings| {
        settings.admission = admission;
        // Those who ask most would be sent away for it.
        settings.http.connection_requests = u64::MAX;
    })
    .await;
    gateway.sell_consoles(1_000_000).await;
    gateway
}

/// Proves that one user on many connections gets the rate of a user, while the others, who keep to
/// theirs, are served without exception.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user() {
    let admission = AdmissionSettings { per_user: LIMIT, ..AdmissionSettings::unlimited() };
    let gateway = start(admission).await;
    let shop = (*gateway).clone();
    let others = tokio::spawn(async move {
        for number in 0..100 {
            shop.want(&format!("quiet-{}", number % 10), CONSOLE, 1).send().await.expect(201);
        }
    });
    measure(&gateway, |number| ("noisy".into(), format!("192.0.2.{number}"))).await;
    others.await.unwrap();
    gateway.close().await;
}

/// Proves that many users behind one address get the rate of an address, while other addresses are
/// served without exception.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address() {
    let admission = AdmissionSettings { per_ip: LIMIT, ..AdmissionSettings::unlimited() };
    let gateway = start(admission).await;
    let shop = (*gateway).clone();
    let others = tokio::spawn(async move {
        for number in 0..100 {
            let client = format!("198.51.100.{}", number % 10);
            let call = shop.want("quiet", CONSOLE, 1).header("x-forwarded-for", &client);
            call.send().await.expect(201);
        }
    });
    measure(&gateway, |number| (format!("user-{number}"), "192.0.2.1".into())).await;
    others.await.unwrap();
    gateway.close().await;
}

/// Proves that a sale gets its rate, from however many users and addresses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sale() {
    let admission = AdmissionSettings { per_sale: LIMIT, ..AdmissionSettings::unlimited() };
    let gateway = start(admission).await;
    measure(&gateway, |number| (format!("user-{number}"), format!("192.0.2.{number}"))).await;
    gateway.close().await;
}
