//! Draining inside the process: who is being served is answered, and probes see it coming.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::gateway::{TestGateway, rows};
use crate::outages::Lock;
use crate::patience::{PATIENCE, eventually};
use crate::shop::{SALE, Shop};

const BODY: &str = r#"{"item_id":"console","quantity":1}"#;

/// A request to reserve whose body the gateway is waiting for: it has said "100 Continue".
async fn half_a_request(shop: &Shop) -> TcpStream {
    let mut stream = TcpStream::connect(shop.public).await.unwrap();
    let head = format!(
        "POST /v1/sales/{SALE}/reservations HTTP/1.1\r\nHost: h\r\nX-User-Id: ann\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        BODY.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut came = [0; 25];
    timeout(PATIENCE, stream.read_exact(&mut came)).await.unwrap().unwrap();
    assert_eq!(&came, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

/// Longer than a gateway takes to drain when it waits for nobody.
const A_WHILE: Duration = Duration::from_secs(1);

/// The gateway is on its way out, but waits for something.
async fn waits(shop: &Shop) {
    let began = Instant::now();
    while began.elapsed() < A_WHILE {
        let ready = shop.stranger("GET", "/readyz").send().await;
        assert_eq!(ready.status, 503, "it is still there, and not ready: {ready}");
    }
}

/// Proves that a request that was under way when the drain began is waited for and gets its whole
/// answer, while probes see that the gateway is not ready and nobody new is let in.
#[tokio::test]
async fn who_is_served_is_answered() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(1).await;
    let shop = Shop::clone(&gateway);
    let mut stream = half_a_request(&shop).await;
    let draining = gateway.drain();
    let ready = eventually("the probes see it", async || {
        let ready = shop.stranger("GET", "/readyz?verbose").send().await;
        (ready.status == 503).then(|| ready.json())
    })
    .await;
    assert_eq!(ready["checks"]["serving"], "failing");
    shop.stranger("GET", "/livez").send().await.expect(200);
    eventually("the listener is closed", async || {
        shop.call("GET", "/v1/time").try_send().await.is_none().then_some(())
    })
    .await;
    waits(&shop).await;
    stream.write_all(BODY.as_bytes()).await.unwrap();
    let mut came = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut came)).await.expect("the end").unwrap();
    let (head, body) = came.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 201 "), "{came}");
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["status"], "held");
    draining.done().await;
}

/// Proves that the books are complete after a drain, though they were far behind when it began.
#[tokio::test]
async fn what_was_sold_is_written_down() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    gateway.settled().await;
    let lock = Lock::take(gateway.dir(), "store.db");
    for _ in 0..9 {
        gateway.hold("ann").await;
    }
    let shop = Shop::clone(&gateway);
    let draining = gateway.drain();
    eventually("the drain has begun", async || {
        let ready = shop.stranger("GET", "/readyz").send().await;
        (ready.status == 503).then_some(())
    })
    .await;
    waits(&shop).await;
    drop(lock);
    let dir = draining.done().await;
    assert_eq!(rows(dir.path(), "orders"), 9);
}

/// Proves that connections that say nothing do not hold up the drain.
#[tokio::test]
async fn idle_connections_do_not_hold_it_up() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(1).await;
    let shop = Shop::clone(&gateway);
    let mut silent = TcpStream::connect(shop.public).await.unwrap();
    let mut kept = TcpStream::connect(shop.public).await.unwrap();
    kept.write_all(b"GET /v1/time HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert!(kept.read(&mut [0; 4096]).await.unwrap() > 0, "it was served, and is kept");
    let began = Instant::now();
    gateway.close().await;
    let limit = Duration::from_millis(floodgate::limits::DRAIN_MS);
    assert!(began.elapsed() < limit, "nobody was cut off: {:?}", began.elapsed());
    for stream in [&mut silent, &mut kept] {
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0, "closed");
    }
}
