//! A corpus of requests that no client library would send: malformed ones, and those by which two
//! readers of one connection are played against each other. From RFC 9110 and RFC 9112.
//!
//! Each is sent whole, byte by byte, and with a canary behind it, a request of its own that says
//! `Connection: close`. How each ends is exact: refused and the connection closed, refused and the
//! connection goes on with the canary answered as itself, or closed without a word.

mod corpus;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::gateway::TestGateway;
use crate::patience::PATIENCE;

use corpus::{Entry, Outcome};

/// The request behind an entry, and how its answer is known.
const CANARY: &str =
    "GET /v1/time HTTP/1.1\r\nHost: h\r\nX-Request-Id: canary\r\nConnection: close\r\n\r\n";

/// How bytes travel.
#[derive(Clone, Copy, Debug)]
enum Way {
    Whole,
    ByteByByte,
}

/// Sends bytes and reads until the server closes.
async fn exchange(address: SocketAddr, bytes: &[u8], way: Way) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut from, mut to) = stream.into_split();
    let reading = async {
        let mut came = Vec::new();
        // What came before a reset counts.
        let _ = from.read_to_end(&mut came).await;
        String::from_utf8_lossy(&came).into_owned()
    };
    let writing = async {
        // A server that refuses need not read everything first.
        match way {
            Way::Whole => drop(to.write_all(bytes).await),
            Way::ByteByByte => {
                for byte in bytes.chunks(1) {
                    if to.write_all(byte).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
        // Kept until the server has closed: an end of ours would be another request.
        to
    };
    let (came, _to) = timeout(PATIENCE, async { tokio::join!(reading, writing) })
        .await
        .expect("the server closes the connection");
    came
}

/// Sends an entry alone, and reads its answer; whether the server then closes by itself.
async fn alone(address: SocketAddr, bytes: &[u8]) -> (String, bool) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut came = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&came).into_owned();
        let goes_on = !text.contains("connection: close\r\n");
        if is_whole(&text) && goes_on {
            // Nothing more is to come; a connection that is to be closed would be by now or soon.
            let more = timeout(Duration::from_millis(20), stream.read(&mut buffer)).await;
            return (text, more.is_ok());
        }
        match timeout(PATIENCE, stream.read(&mut buffer)).await.expect("an answer or the end") {
            Ok(0) | Err(_) => return (text, true),
            Ok(read) => came.extend_from_slice(&buffer[..read]),
        }
    }
}

fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| length.parse() == Ok(body.len()))
}

/// The statuses of answers, one after the other.
fn statuses(came: &str) -> Vec<u16> {
    let parse = |answer: &str| answer[2..5].parse().unwrap();
    came.split("HTTP/1.").skip(1).map(parse).collect()
}

fn canaries(came: &str) -> usize {
    came.matches("x-request-id: canary\r\n").count()
}

/// What is wrong with the answers to an entry and a canary behind it.
fn fault(entry: &Entry, outcome: Outcome, came: &str) -> Option<String> {
    let expected = match outcome {
        Outcome::Ends(status) => vec![status],
        Outcome::GoesOn(status) => vec![status, 200],
        Outcome::Silent => Vec::new(),
    };
    let canary = usize::from(matches!(outcome, Outcome::GoesOn(_)));
    let same = statuses(came) == expected && canaries(came) == canary;
    (!same).then(|| format!("{:?} {outcome} came: {came:?}", entry.name))
}

/// Proves that every entry of the corpus ends as it must, whole and byte by byte; that what is hidden
/// in it is never taken for a request; and that the request behind it is answered as itself or not at
/// all.
#[tokio::test]
async fn corpus() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let entries = corpus::entries();
    assert!(entries.len() >= 100, "{}", entries.len());
    let mut faults = Vec::new();
    for entry in &entries {
        let with_canary = [&entry.bytes[..], CANARY.as_bytes()].concat();
        for (way, outcome) in [(Way::Whole, entry.outcome), (Way::ByteByByte, entry.split)] {
            let came = exchange(gateway.public, &with_canary, way).await;
            faults.extend(fault(entry, outcome, &came).map(|fault| format!("{way:?}: {fault}")));
        }
        let (came, closed) = alone(gateway.public, &entry.bytes).await;
        let expected = match entry.outcome {
            Outcome::Ends(status) => (vec![status], true),
            Outcome::GoesOn(status) => (vec![status], false),
            Outcome::Silent => (Vec::new(), true),
        };
        if (statuses(&came), closed) != expected {
            faults.push(format!("alone: {:?} {} came: {came:?}", entry.name, entry.outcome));
        }
        assert_eq!(gateway.counters().await, [9, 9, 0, 0], "{}", entry.name);
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    gateway.close().await;
}

/// Proves that the ops listener, which stands on the same server, ends each entry that is refused by
/// its form as the public one does.
#[tokio::test]
async fn corpus_on_the_ops_listener() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let mut faults = Vec::new();
    let by_form = |entry: &&Entry| {
        matches!(entry.outcome, Outcome::Ends(400 | 411 | 417 | 431) | Outcome::Silent)
    };
    for entry in corpus::entries().iter().filter(by_form) {
        let with_canary = [&entry.bytes[..], CANARY.as_bytes()].concat();
        let came = exchange(gateway.ops, &with_canary, Way::Whole).await;
        faults.extend(fault(entry, entry.outcome, &came));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert_eq!(gateway.counters().await, [9, 9, 0, 0]);
    gateway.close().await;
}
