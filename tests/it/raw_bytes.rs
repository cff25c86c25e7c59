//! Requests that no client library would send, byte by byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::gateway::{TestGateway, rows};
use crate::patience::PATIENCE;
use crate::shop::Shop;

/// Sends bytes on a connection of their own and reads until the server closes it.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that refuses need not read everything first.
    stream.write_all(bytes).await.ok();
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut came = Vec::new();
    // A server that closes with bytes unread resets the connection; what came before counts.
    timeout(PATIENCE, stream.read_to_end(&mut came)).await.expect("the server closes").ok();
    String::from_utf8_lossy(&came).into_owned()
}

/// The statuses of the answers that came back, one after the other.
fn statuses(came: &str) -> Vec<&str> {
    came.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

/// A request to reserve with these header lines and this body, after which the client is done.
fn reserve(headers: &str, body: &str) -> String {
    let framed = headers.contains("Content-Length") || headers.contains("Transfer-Encoding");
    let length = if framed { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!(
        "POST /v1/sales/bf/reservations HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
         Connection: close\r\n{headers}{length}\r\n{body}"
    )
}

const GOOD: &str = r#"{"item_id":"console","quantity":1}"#;

async fn untouched(shop: &Shop, what: &str) {
    assert_eq!(shop.counters().await, [9, 9, 0, 0], "{what}");
}

/// Proves that broken heads and bodies are refused, that the connection is closed, and that nothing
/// is taken.
#[tokio::test]
async fn broken_requests() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let with = |headers: &str| reserve(&format!("X-User-Id: ann\r\n{headers}"), GOOD);
    let many: String = (0..80).map(|number| format!("X-{number}: v\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(64 * 1024));
    let last = "Host: h\r\nConnection: close\r\n\r\n";
    let table = [
        ("no HTTP at all", "nonsense\r\n\r\n".to_owned(), "400"),
        ("a binary hello", "\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned(), "400"),
        ("control in a header", reserve("X-User-Id: a\u{1}b\r\n", GOOD), "400"),
        ("NUL in a header", reserve("X-User-Id: a\u{0}b\r\n", GOOD), "400"),
        ("space before a colon", reserve("X-User-Id : ann\r\n", GOOD), "400"),
        ("not ASCII", reserve("X-User-Id: \u{e9}\r\n", GOOD), "400"),
        ("two users", with("X-User-Id: bob\r\n"), "400"),
        ("the same user twice", with("x-user-id: ann\r\n"), "400"),
        ("two lengths", with("Content-Length: 34\r\nContent-Length: 3\r\n"), "400"),
        ("no length", with("Content-Length: many\r\n"), "400"),
        ("below zero", with("Content-Length: -1\r\n"), "400"),
        ("odd encoding", with("Transfer-Encoding: gzip\r\n"), "400"),
        ("bad chunk", with("Transfer-Encoding: chunked\r\n").replace(GOOD, "zz\r\n"), "411"),
        ("many headers", with(&many), "431"),
        ("long header", with(&long), "431"),
        ("bad escape in the path", format!("GET /v1/sales/%zz HTTP/1.1\r\n{last}"), "404"),
        ("version of the past", format!("GET /v1/time HTTP/0.9\r\n{last}"), "400"),
    ];
    for (what, bytes, status) in table {
        let came = exchange(gateway.public, bytes.as_bytes()).await;
        assert_eq!(statuses(&came), [status], "{what}: {came}");
        untouched(&gateway, what).await;
    }
    gateway.settled().await;
    assert_eq!(rows(gateway.dir(), "orders"), 0);
    gateway.close().await;
}

/// Proves that a body over the limit of its listener is refused as such, and that the connection ends there: what is left of the body must not be read as a request.
#[tokio::test]
async fn large_bodies() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let buyer = |framing: &str, body: &str| reserve(&format!("X-User-Id: ann\r\n{framing}"), body);
    let limit = floodgate::limits::BODY_BYTES_MAX;
    let fits = format!("{GOOD}{}", " ".repeat(limit - GOOD.len()));
    let large = format!("{fits} ");
    let limit = floodgate::limits::OPS_BODY_BYTES_MAX;
    let token = &gateway.token;
    let operator = format!(
        "POST /admin/v1/sales HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {}\r\n\r\n{}",
        limit + 1,
        " ".repeat(limit + 1)
    );
    for (address, request) in [
        (gateway.public, buyer("", &large)),
        (gateway.public, buyer("Content-Length: 99999999\r\n", GOOD)),
        (gateway.public, buyer("Content-Length: 9223372036854775807\r\n", "")),
        (gateway.ops, operator),
    ] {
        let came = exchange(address, request.as_bytes()).await;
        assert_eq!(statuses(&came), ["413"], "{came}");
        assert!(came.contains("body-too-large") && came.contains("connection: close"), "{came}");
        untouched(&gateway, "too large").await;
    }
    let came = exchange(gateway.public, buyer("", &fits).as_bytes()).await;
    assert_eq!(statuses(&came), ["201"], "a body of the very limit: {came}");
    gateway.close().await;
}

/// Proves that a body has to say how long it is: a chunked one is refused, well formed or not, and
/// takes nothing.
#[tokio::test]
async fn chunks_are_refused() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let body = format!("{:x}\r\n{GOOD}\r\n0\r\n\r\n", GOOD.len());
    let request = reserve("X-User-Id: ann\r\nTransfer-Encoding: chunked\r\n", &body);
    let came = exchange(gateway.public, request.as_bytes()).await;
    assert_eq!(statuses(&came), ["411"], "{came}");
    assert!(came.contains("length-required"), "{came}");
    untouched(&gateway, "chunks").await;
    gateway.close().await;
}

/// Proves that the body of a refused request is never taken for the next request.
#[tokio::test]
async fn a_body_is_not_a_request() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let smuggled = format!(
        "POST /v1/sales/bf/reservations HTTP/1.1\r\nHost: h\r\nX-User-Id: eve\r\n\
         Content-Length: {}\r\n\r\n{GOOD}",
        GOOD.len()
    );
    let head = "POST /v1/sales/bf/reservations HTTP/1.1\r\nHost: h\r\nX-User-Id: ann\r\n";
    let large = 20_000;
    let rest = " ".repeat(large - smuggled.len());
    let chunked = format!("{:x}\r\n{smuggled}{rest}\r\n0\r\n\r\n", large);
    let nowhere = format!("POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: {large}\r\n\r\n");
    let last = "GET /v1/time HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    for (what, request) in [
        ("413", format!("{head}Content-Length: {large}\r\n\r\n{smuggled}{rest}")),
        ("411", format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunked}")),
        ("404", format!("{nowhere}{smuggled}{rest}")),
    ] {
        let came = exchange(gateway.public, format!("{request}{last}").as_bytes()).await;
        assert_eq!(statuses(&came)[0], what, "{came}");
        assert!(!came.contains("reservation_id"), "{came}");
        untouched(&gateway, what).await;
    }
    gateway.close().await;
}

/// Proves that requests sent at once are answered in their order, each by itself.
#[tokio::test]
async fn requests_in_a_row() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let one = |user: &str| {
        format!(
            "POST /v1/sales/bf/reservations HTTP/1.1\r\nHost: h\r\nX-User-Id: {user}\r\n\
             Content-Length: {}\r\n\r\n{GOOD}",
            GOOD.len()
        )
    };
    let bad = "POST /v1/sales/bf/reservations HTTP/1.1\r\nHost: h\r\nX-User-Id: eve\r\n\
               Content-Length: 2\r\n\r\n{}";
    let last = "GET /v1/time HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let row = format!("{}{bad}{}{last}", one("ann"), one("bob"));
    let came = exchange(gateway.public, row.as_bytes()).await;
    assert_eq!(statuses(&came), ["201", "400", "201", "200"], "{came}");
    assert_eq!(gateway.counters().await, [9, 7, 2, 0]);
    gateway.close().await;
}

/// Proves that a body that does not come is not waited for, and that its connection is closed.
#[tokio::test]
async fn a_body_that_does_not_come() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let head = reserve("X-User-Id: ann\r\nContent-Length: 34\r\n", &GOOD[..10]);
    let came = exchange(gateway.public, head.as_bytes()).await;
    assert_eq!(statuses(&came), ["408"], "{came}");
    assert!(came.contains("request-timeout"), "{came}");
    untouched(&gateway, "half a body").await;
    gateway.close().await;
}

/// Proves that a client that goes away in the middle of its body takes nothing.
#[tokio::test]
async fn a_client_that_goes_away() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let mut stream = TcpStream::connect(gateway.public).await.unwrap();
    let head = reserve("X-User-Id: ann\r\nContent-Length: 34\r\n", &GOOD[..10]);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let came = read_to_end(&mut stream).await;
    assert!(!came.contains(" 201 "), "{came}");
    untouched(&gateway, "half a request").await;
    gateway.close().await;
}
