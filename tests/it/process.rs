//! The program as a process: what signals do to it, and what it leaves behind.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::binary::{Serving, audit};
use crate::gateway::books;
use crate::patience::eventually;
use crate::shop::SALE;

/// How a buyer's last request ended.
#[derive(Debug, PartialEq)]
enum Last {
    /// The connection was closed before a byte of an answer came.
    Unanswered,
    /// In the middle of an answer.
    Cut(String),
}

/// Reserves under new names, one request after the other on one connection, until the connection
/// ends. The names that were granted, and how it ended.
async fn buy_until_closed(address: SocketAddr, buyer: usize) -> (Vec<String>, Last) {
    let mut granted = Vec::new();
    let body = r#"{"item_id":"console","quantity":1}"#;
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return (granted, Last::Unanswered);
    };
    for number in 0.. {
        let user = format!("buyer-{buyer}-{number}");
        let request = format!(
            "POST /v1/sales/{SALE}/reservations HTTP/1.1\r\nHost: h\r\nX-User-Id: {user}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(request.as_bytes()).await.is_err() {
            break;
        }
        match read_answer(&mut stream).await {
            Ok(answer) if answer.starts_with("HTTP/1.1 201 ") => granted.push(user),
            Ok(answer) => assert!(answer.contains("\"code\":\"draining\""), "{answer}"),
            Err(cut) if cut.is_empty() => break,
            Err(cut) => return (granted, Last::Cut(cut)),
        }
    }
    (granted, Last::Unanswered)
}

/// A whole answer, or as much of it as came.
async fn read_answer(stream: &mut TcpStream) -> Result<String, String> {
    let mut came = String::new();
    loop {
        if let Some((head, body)) = came.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| length.parse() == Ok(body.len())) {
                return Ok(came);
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return Err(came),
            Ok(read) => came.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
        }
    }
}

/// Proves that SIGTERM under load cuts no answer, ends with 0, and leaves books that are complete:
/// exactly those who were told have an order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load() {
    const BUYERS: usize = 24;
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = Serving::start(dir.path()).await;
    gateway.sell_consoles(1_000_000).await;
    let buyers: Vec<_> =
        (0..BUYERS).map(|buyer| tokio::spawn(buy_until_closed(gateway.public, buyer))).collect();
    eventually("the crowd is served", async || (gateway.counters().await[2] > 200).then_some(()))
        .await;
    gateway.signal(Signal::TERM);
    let mut granted = BTreeSet::new();
    for buyer in buyers {
        let (users, last) = buyer.await.unwrap();
        granted.extend(users);
        assert_eq!(last, Last::Unanswered);
    }
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log().text());
    let report = audit(dir.path());
    assert_eq!(report["sales"][0]["orders"], granted.len());
    assert_eq!(ordered(dir.path()), granted, "whoever was told, and nobody else");
}

fn ordered(dir: &Path) -> BTreeSet<String> {
    let books = books(dir);
    let mut users = books.prepare("SELECT user_id FROM orders").unwrap();
    let users = users.query_map([], |row| row.get(0)).unwrap();
    users.collect::<Result<_, _>>().unwrap()
}

/// Proves that a second SIGTERM does not wait for the drain: whoever it would have waited for gets
/// no answer any more.
#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = Serving::start(dir.path()).await;
    gateway.sell_consoles(1).await;
    let mut stuck = TcpStream::connect(gateway.public).await.unwrap();
    let head = format!(
        "POST /v1/sales/{SALE}/reservations HTTP/1.1\r\nHost: h\r\nX-User-Id: ann\r\n\
         Expect: 100-continue\r\nContent-Length: 10000\r\n\r\n"
    );
    stuck.write_all(head.as_bytes()).await.unwrap();
    assert!(stuck.read(&mut [0; 64]).await.unwrap() > 0, "it waits for the body");
    gateway.signal(Signal::TERM);
    gateway.log().wait_for("draining");
    gateway.signal(Signal::TERM);
    gateway.wait();
    gateway.log().wait_for("a second signal: ending now");
    assert_eq!(read_answer(&mut stuck).await, Err(String::new()));
    let gateway = Serving::start(dir.path()).await;
    assert_eq!(gateway.counters().await, [1, 1, 0, 0]);
    gateway.stop();
    audit(dir.path());
}

/// Proves that SIGHUP takes over a good file, keeps the old configuration where the new one is bad,
/// says so in log and metric, and never stops the sale.
#[tokio::test]
async fn sighup_reloads() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("floodgate.toml");
    std::fs::write(&file, "log = \"info\"\n").unwrap();
    let data = dir.path().join("data");
    let gateway = Serving::start_with(&data, &["--config", file.to_str().unwrap()]).await;
    gateway.sell_consoles(9).await;
    // Every other time it fails, so that each reload shows in the metric.
    for (text, reloaded) in
        [("log = 7 7\n", 0), ("log = \"warn\"\n", 1), ("lisen = 1\n", 0), ("log = \"debug\"\n", 1)]
    {
        std::fs::write(&file, text).unwrap();
        gateway.signal(Signal::HUP);
        let series = format!("floodgate_config_last_reload_successful {reloaded}");
        eventually(&format!("{text} leads to {series}"), async || {
            let scrape = gateway.stranger("GET", "/metrics").send().await;
            String::from_utf8_lossy(&scrape.body).contains(&series).then_some(())
        })
        .await;
        gateway.hold("ann").await;
    }
    gateway.want("ann", "unknown", 1).send().await.refused(422, "unknown-item");
    gateway.log().wait_for("refused");
    let log = gateway.log().text();
    assert!(log.contains("was not reloaded"), "{log}");
    gateway.stop();
    audit(&data);
}
