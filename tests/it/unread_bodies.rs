//! Bodies that nobody reads: what is refused by its head, or takes no body, leaves a connection on which the
//! next request is answered, or says that it ends there (RFC 9112 §9.6).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::gateway::TestGateway;
use crate::patience::PATIENCE;
use crate::shop::SALE;

const BODY: &str = r#"{"item_id":"console","quantity":1}"#;
const ID: &str = "00000000-0000-8000-8000-000000000000";
/// The request behind a body.
const NEXT: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
/// So long an answer may take that does not wait for the body.
const AT_ONCE: Duration = Duration::from_millis(40);

/// A head that announces [`BODY`].
fn head(line: &str, headers: &str) -> String {
    let length = BODY.len();
    format!("{line} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {length}\r\n\r\n")
}

/// Sends a head, then what follows, in packets of their own, and reads until the server closes.
async fn exchange(address: SocketAddr, head: &str, rest: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // Whoever answers at once has not waited for what follows.
    let _ = timeout(AT_ONCE, stream.readable()).await;
    // It may be closed by now.
    let _ = stream.write_all(rest.as_bytes()).await;
    let mut came = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut came)).await.expect("the server closes");
    String::from_utf8(came).unwrap()
}

/// The statuses of answers, one after the other.
fn statuses(came: &str) -> Vec<u16> {
    let parse = |answer: &str| answer[..3].parse().unwrap();
    came.split("HTTP/1.1 ").skip(1).map(parse).collect()
}

fn said_close(came: &str) -> usize {
    came.matches("connection: close\r\n").count()
}

/// Requests whose bodies nobody reads, and their answers.
struct Table<'g> {
    gateway: &'g TestGateway,
    rows: Vec<(SocketAddr, String, u16)>,
}

impl Table<'_> {
    fn buyer(&mut self, status: u16, line: &str, headers: &str) {
        self.rows.push((self.gateway.public, head(line, headers), status));
    }

    fn operator(&mut self, status: u16, line: &str) {
        let token = &self.gateway.token;
        let head = head(line, &format!("Authorization: Bearer {token}\r\n"));
        self.rows.push((self.gateway.ops, head, status));
    }

    fn stranger(&mut self, status: u16, line: &str) {
        self.rows.push((self.gateway.ops, head(line, ""), status));
    }
}

fn of_buyers(table: &mut Table<'_>) {
    const ANN: &str = "X-User-Id: ann\r\n";
    let reserve = format!("POST /v1/sales/{SALE}/reservations");
    let long_key = format!("{ANN}Idempotency-Key: {}\r\n", "a".repeat(256));
    let bad_key = format!("{ANN}Idempotency-Key: \"a\r\n");
    let bad_tag = format!("{ANN}If-Match: x\r\n");
    let text = format!("{ANN}Content-Type: text/plain\r\n");
    table.buyer(400, &reserve, &bad_key);
    table.buyer(400, &reserve, &long_key);
    table.buyer(400, &reserve, "X-User-Id: a b\r\n");
    table.buyer(401, &reserve, "");
    table.buyer(415, &reserve, &text);
    for line in ["PUT /v1/cart/items/console", "POST /v1/cart/items/console", "POST /v1/cart/merge"]
    {
        table.buyer(400, line, "X-User-Id: a b\r\n");
        table.buyer(400, line, &bad_tag);
        table.buyer(401, line, "");
        table.buyer(415, line, &text);
    }
    for path in [
        "/v1/sales".to_owned(),
        format!("/v1/sales/{SALE}"),
        format!("/v1/reservations/{ID}"),
        "/v1/orders".to_owned(),
        format!("/v1/orders/{ID}"),
        "/v1/cart".to_owned(),
        "/v1/time".to_owned(),
        "/healthz".to_owned(),
    ] {
        for method in ["POST", "PUT", "PATCH"] {
            table.buyer(405, &format!("{method} {path}"), ANN);
        }
    }
    table.buyer(405, &format!("PUT /v1/sales/{SALE}/reservations"), ANN);
    table.buyer(404, "POST /nowhere", ANN);
    table.buyer(414, &format!("POST /{}", "a".repeat(2_100)), ANN);
}

fn of_operators(table: &mut Table<'_>) {
    let sale = format!("/admin/v1/sales/{SALE}");
    table.operator(200, &format!("POST {sale}/open"));
    table.operator(404, &format!("POST {sale}/jump"));
    table.operator(404, "POST /admin/v1/sales/unknown/open");
    table.operator(409, &format!("POST {sale}/archive"));
    table.operator(404, "POST /admin/v1/sales/unknown/archive");
    table.operator(404, "PUT /admin/v1/switches/unknown");
    table.operator(404, "POST /admin/v1/dead-letters/unknown/retry");
    table.operator(404, "POST /admin/v1/nowhere");
    table.operator(414, &format!("POST /admin/{}", "a".repeat(2_100)));
    for path in ["audit-log", "switches", "dead-letters"] {
        table.operator(405, &format!("POST /admin/v1/{path}"));
    }
    table.operator(405, &format!("PUT {sale}"));
    table.stranger(401, "POST /admin/v1/sales");
    table.stranger(401, &format!("POST {sale}/open"));
    table.stranger(401, "POST /admin/v1/nowhere");
    table.stranger(404, "POST /nowhere");
    for path in ["/livez", "/readyz", "/metrics", "/version", "/openapi.json"] {
        table.stranger(405, &format!("POST {path}"));
    }
}

/// Proves that whatever is answered without its body having been read, on either listener, is followed by
/// the answer to the next request on the connection, though the body comes late.
#[tokio::test]
async fn the_next_request_is_answered() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let mut table = Table { gateway: &gateway, rows: Vec::new() };
    of_buyers(&mut table);
    of_operators(&mut table);
    let next = NEXT.replace("/healthz", "/livez");
    let mut faults = Vec::new();
    for (address, head, status) in &table.rows {
        let next = if *address == gateway.ops { &next } else { NEXT };
        let came = exchange(*address, head, &format!("{BODY}{next}")).await;
        if statuses(&came) != [*status, 200] || said_close(&came) != 1 {
            faults.push(format!("{head:?} must get {status} and go on; came: {came:?}"));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert_eq!(gateway.counters().await, [9, 9, 0, 0]);
    gateway.close().await;
}

/// Proves that where a body that nobody wants is too large to be taken, does not come, or ends early, the
/// answer says that the connection ends.
#[tokio::test]
async fn or_told_that_there_is_none() {
    let gateway = TestGateway::start_with(|settings| settings.http.body_ms = 100).await;
    let unread = head("POST /nowhere", "");
    let large = unread.replace(&format!("{}\r\n\r\n", BODY.len()), "16385\r\n\r\n");
    for (head, rest) in [(&large, ""), (&unread, ""), (&unread, &BODY[..9])] {
        let came = exchange(gateway.public, head, rest).await;
        assert_eq!((statuses(&came), said_close(&came)), (vec![404], 1), "{came}");
    }
    // One that is too large by its own word is told so, whether it comes or not.
    let wanted = head(&format!("POST /v1/sales/{SALE}/reservations"), "X-User-Id: ann\r\n");
    let large = wanted.replace(&format!("{}\r\n\r\n", BODY.len()), "20000\r\n\r\n");
    let came = exchange(gateway.public, &large, BODY).await;
    assert_eq!((statuses(&came), said_close(&came)), (vec![413], 1), "{came}");
    gateway.close().await;
}

/// Proves that nobody is invited to send a body that the head alone refuses, and that the connection ends with
/// the refusal; and that whoever is not refused is invited.
#[tokio::test]
async fn nobody_is_invited_in_vain() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let reserve = format!("POST /v1/sales/{SALE}/reservations");
    let ann = "X-User-Id: ann\r\n";
    let token = format!("Authorization: Bearer {}\r\n", gateway.token);
    let text = format!("{ann}Content-Type: text/plain\r\n");
    let sales = "POST /admin/v1/sales";
    for (address, line, headers, length, status) in [
        (gateway.public, "POST /nowhere", ann, 34, 404),
        (gateway.public, "PUT /v1/time", ann, 34, 405),
        (gateway.public, &reserve, "", 34, 401),
        (gateway.public, &reserve, "X-User-Id: a b\r\n", 34, 400),
        (gateway.public, &reserve, &text, 34, 415),
        (gateway.public, &reserve, ann, 16_385, 413),
        (gateway.public, "PUT /v1/cart/items/console", "", 34, 401),
        (gateway.ops, sales, "", 34, 401),
        (gateway.ops, sales, &token, 1_048_577, 413),
        (gateway.ops, "POST /admin/v1/nowhere", &token, 34, 404),
        (gateway.ops, "PUT /livez", "", 34, 405),
    ] {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n{headers}\
             Content-Length: {length}\r\n\r\n"
        );
        let came = exchange(address, &head, "").await;
        assert_eq!((statuses(&came), said_close(&came)), (vec![status], 1), "{head}: {came}");
    }
    let head = head(&reserve, &format!("{ann}Expect: 100-continue\r\n"));
    let came = exchange(gateway.public, &head, &format!("{BODY}{NEXT}")).await;
    assert_eq!(statuses(&came), [100, 201, 200], "{came}");
    gateway.close().await;
}
