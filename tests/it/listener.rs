//! What the listener bounds, refuses and adds, whatever is asked on it.

use std::net::SocketAddr;
use std::time::Duration;

use floodgate::config::Settings;
use floodgate::http::Auth;
use proxy_header::{ProxiedAddress, ProxyHeader};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::gateway::TestGateway;
use crate::patience::{PATIENCE, eventually};
use crate::shop::{CONSOLE, SALE};

const TIME: &[u8] = b"GET /v1/time HTTP/1.1\r\nHost: h\r\n\r\n";

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Reads until the server closes, which it has to do by itself.
async fn rest(stream: &mut TcpStream) -> String {
    let mut came = Vec::new();
    // A reset is an end as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut came)).await.expect("the server closes");
    String::from_utf8(came).unwrap()
}

/// One answer on a connection that goes on; `None` where it ended instead.
async fn answer(stream: &mut TcpStream) -> Option<String> {
    let mut came = String::new();
    loop {
        if let Some((head, body)) = came.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| length.parse() == Ok(body.len())) {
                return Some(came);
            }
        }
        let mut buffer = [0; 4096];
        match timeout(PATIENCE, stream.read(&mut buffer)).await.expect("an answer or an end") {
            Ok(0) | Err(_) => return None,
            Ok(read) => came.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
        }
    }
}

async fn ask(stream: &mut TcpStream) -> Option<String> {
    stream.write_all(TIME).await.ok()?;
    answer(stream).await
}

/// A gateway of little patience.
async fn impatient() -> TestGateway {
    TestGateway::start_with(|settings: &mut Settings| {
        settings.http.head_ms = 300;
        settings.http.idle_ms = 300;
        settings.http.body_ms = 300;
        settings.http.write_stall_ms = 300;
    })
    .await
}

/// Proves that whoever says nothing, half a head, or nothing more is cut on both listeners, and that a
/// body is waited for as long as the setting says.
#[tokio::test]
async fn whoever_says_nothing() {
    let gateway = impatient().await;
    for address in [gateway.public, gateway.ops] {
        let mut silent = connect(address).await;
        assert_eq!(rest(&mut silent).await, "");
        let mut half = connect(address).await;
        half.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\n").await.unwrap();
        assert_eq!(rest(&mut half).await, "");
        let mut idle = connect(address).await;
        idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        assert!(answer(&mut idle).await.unwrap().starts_with("HTTP/1.1 200 "));
        assert_eq!(rest(&mut idle).await, "");
    }
    let mut body = connect(gateway.public).await;
    let head = format!(
        "POST /v1/sales/{SALE}/reservations HTTP/1.1\r\nHost: h\r\nX-User-Id: ann\r\n\
         Content-Length: 9\r\n\r\n"
    );
    body.write_all(head.as_bytes()).await.unwrap();
    assert!(rest(&mut body).await.starts_with("HTTP/1.1 408 "));
    gateway.close().await;
}

/// Proves that whoever asks and asks and takes no answer is cut.
#[tokio::test]
async fn whoever_takes_nothing() {
    let gateway = impatient().await;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    socket.connect(&gateway.public.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut greedy = TcpStream::from_std(socket.into()).unwrap();
    let asks = TIME.repeat(1_000);
    let cut = timeout(PATIENCE, async { while greedy.write_all(&asks).await.is_ok() {} }).await;
    cut.expect("the server cuts the connection");
    assert!(ask(&mut connect(gateway.public).await).await.is_some(), "others are served");
    gateway.close().await;
}

/// Proves that an address has so many connections and no more, that a closed one makes room, and that
/// the operators' listener does not count.
#[tokio::test]
async fn connections_of_an_address() {
    let gateway = TestGateway::start_with(|settings| {
        settings.trusted_proxies = Vec::new();
        settings.http.connections_per_address = 3;
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(gateway.public).await;
        assert!(ask(&mut stream).await.is_some());
        open.push(stream);
    }
    for _ in 0..3 {
        assert_eq!(rest(&mut connect(gateway.public).await).await, "");
    }
    let scrape = gateway.stranger("GET", "/metrics").send().await;
    let scrape = String::from_utf8_lossy(&scrape.body).into_owned();
    let series = r#"floodgate_connections_refused_total{listener="public",reason="address"} 3"#;
    assert!(scrape.contains(series), "{scrape}");
    assert!(scrape.contains(r#"floodgate_connections{listener="public"} 3"#), "{scrape}");
    drop(open.pop());
    eventually("there is room again", async || ask(&mut connect(gateway.public).await).await).await;
    drop(open);
    gateway.close().await;
}

/// Proves that what is no request is answered with a bare status, and counted, on both listeners; and that one
/// that is refused for another reason is not counted as that.
#[tokio::test]
async fn what_is_no_request() {
    let gateway = TestGateway::start().await;
    let long = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(17 * 1024));
    for (listener, address) in [("public", gateway.public), ("ops", gateway.ops)] {
        for (bytes, status) in [
            ("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +2\r\n\r\n{}", 400),
            ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n", 400),
            ("nonsense\r\n\r\n", 400),
            (&long, 431),
        ] {
            let mut stream = connect(address).await;
            stream.write_all(bytes.as_bytes()).await.unwrap();
            let came = rest(&mut stream).await;
            assert!(came.starts_with(&format!("HTTP/1.1 {status} ")), "{came}");
            let lines: Vec<&str> = came.lines().skip(1).collect();
            let [close, length, date, ""] = lines[..] else { panic!("{came}") };
            assert_eq!((close, length), ("connection: close", "content-length: 0"));
            assert!(date.starts_with("date: "), "{date}");
        }
        let mut sound = connect(address).await;
        sound.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
        assert!(rest(&mut sound).await.contains("application/problem+json"), "it is one");
        let series = format!("floodgate_connections_malformed_total{{listener=\"{listener}\"}}");
        eventually("they are counted", async || {
            (gateway.metric(&series).await == 5.0).then_some(())
        })
        .await;
    }
    gateway.close().await;
}

/// Proves that whoever says its end behind a request gets its answer, and then the server's end.
#[tokio::test]
async fn half_closed() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let body = r#"{"item_id":"console","quantity":1}"#;
    let reserve = format!(
        "POST /v1/sales/{SALE}/reservations HTTP/1.1\r\nHost: h\r\nX-User-Id: ann\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for (request, status) in [(reserve.as_bytes(), 201), (TIME, 200)] {
        let mut stream = connect(gateway.public).await;
        stream.write_all(request).await.unwrap();
        stream.shutdown().await.unwrap();
        let came = rest(&mut stream).await;
        assert!(came.starts_with(&format!("HTTP/1.1 {status} ")), "{came}");
    }
    assert_eq!(gateway.counters().await, [9, 8, 1, 0]);
    gateway.close().await;
}

/// Proves that a connection ends with the answer that says so, after as many requests or as long as
/// the settings say.
#[tokio::test]
async fn connections_end() {
    let gateway = TestGateway::start_with(|settings| settings.http.connection_requests = 3).await;
    let mut stream = connect(gateway.public).await;
    for _ in 0..2 {
        let answer = ask(&mut stream).await.unwrap();
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    stream.write_all(TIME).await.unwrap();
    let last = rest(&mut stream).await;
    assert!(last.starts_with("HTTP/1.1 200 ") && last.contains("connection: close"), "{last}");
    gateway.close().await;
    let gateway = TestGateway::start_with(|settings| settings.http.connection_ms = 100).await;
    let mut stream = connect(gateway.public).await;
    eventually("the connection is old", async || {
        let answer = ask(&mut stream).await.unwrap();
        answer.contains("connection: close").then_some(())
    })
    .await;
    assert_eq!(rest(&mut stream).await, "");
    gateway.close().await;
}

/// Proves that every answer, good or bad, on either listener, says that nobody may keep it or guess
/// at what it is, and names no server; and that the sale pages may be kept for a second.
#[tokio::test]
async fn headers_of_every_answer() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let page = format!("/v1/sales/{SALE}");
    for call in [
        gateway.call("GET", "/v1/time"),
        gateway.call("GET", "/nowhere"),
        gateway.call("BREW", "/v1/time"),
        gateway.call("GET", "/v1/cart"),
        gateway.call("GET", "/v1/time").header("expect", "more"),
        gateway.want("ann", CONSOLE, 1),
        gateway.want("ann", "unknown", 1),
        gateway.call("GET", &page),
        gateway.stranger("GET", "/metrics"),
        gateway.stranger("GET", "/admin/v1/sales"),
        gateway.admin("GET", "/admin/v1/sales"),
    ] {
        let answer = call.send().await;
        let kept = answer.header("cache-control").unwrap().to_owned();
        let public = answer.status == 200 && answer.header("etag").is_some();
        assert_eq!(kept, if public { "public, max-age=1" } else { "no-store" }, "{answer}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer}");
        for name in ["server", "x-powered-by", "access-control-allow-origin", "vary"] {
            assert_eq!(answer.header(name), None, "{answer}");
        }
    }
    gateway.close().await;
}

/// Proves that a browser is told which pages may ask what, and nothing to pages of other origins; and
/// that OPTIONS is a method like others where nothing is configured, and on the other listener.
#[tokio::test]
async fn pages_of_other_origins() {
    let shop = "https://shop.example";
    let gateway =
        TestGateway::start_with(|settings| settings.http.cors_origins = vec![shop.to_owned()])
            .await;
    let path = format!("/v1/sales/{SALE}/reservations");
    let preflight = |origin: &str| {
        let call = gateway.call("OPTIONS", &path).header("origin", origin);
        call.header("access-control-request-method", "POST")
    };
    let told = preflight(shop).send().await;
    assert_eq!(told.status, 204, "{told}");
    assert_eq!(told.header("access-control-allow-origin"), Some(shop));
    assert!(told.header("access-control-allow-methods").unwrap().contains("POST"));
    assert!(told.header("access-control-allow-headers").unwrap().contains("idempotency-key"));
    assert_eq!(told.header("vary"), Some("origin"));
    let other = preflight("https://evil.example").send().await;
    assert_eq!(other.status, 204, "{other}");
    for name in ["access-control-allow-origin", "access-control-allow-methods"] {
        assert_eq!(other.header(name), None, "{other}");
    }
    for (origin, allowed) in [(shop, Some(shop)), ("https://evil.example", None)] {
        for path in ["/v1/time", "/nowhere"] {
            let answer = gateway.call("GET", path).header("origin", origin).send().await;
            assert_eq!(answer.header("access-control-allow-origin"), allowed, "{answer}");
            assert_eq!(answer.header("vary"), Some("origin"), "{answer}");
            assert_eq!(answer.header("access-control-allow-credentials"), None, "{answer}");
        }
    }
    let ops = gateway.stranger("GET", "/healthz").header("origin", shop).send().await;
    assert_eq!(ops.header("access-control-allow-origin"), None, "{ops}");
    gateway.call("OPTIONS", "/v1/time").send().await.refused(405, "method-not-allowed");
    gateway.close().await;
    let gateway = TestGateway::start().await;
    let call = gateway.call("OPTIONS", "/v1/time").header("origin", shop);
    let call = call.header("access-control-request-method", "GET");
    call.send().await.refused(405, "method-not-allowed");
    gateway.close().await;
}

fn announced(source: &str) -> Vec<u8> {
    let destination = "192.0.2.254:80".parse().unwrap();
    let address = ProxiedAddress::stream(source.parse().unwrap(), destination);
    let mut header = Vec::new();
    ProxyHeader::with_address(address).encode_v2(&mut header).unwrap();
    header
}

/// Proves that with the PROXY protocol the announced address is the caller's, for belief and for
/// bounds; that a connection without the header is closed unheard; and that nobody but a trusted proxy
/// may announce.
#[tokio::test]
async fn announced_addresses() {
    let gateway = TestGateway::start_with(|settings| {
        settings.proxy_protocol = true;
        settings.http.connections_per_address = 2;
        settings.http.head_ms = 300;
    })
    .await;
    gateway.sell_consoles(9).await;
    let body = r#"{"item_id":"console","quantity":1}"#;
    let request = format!(
        "POST /v1/sales/{SALE}/reservations HTTP/1.1\r\nHost: h\r\nX-User-Id: ann\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // Whom the proxy brings is not the proxy: what a stranger says of himself is not believed.
    let mut own = Vec::new();
    ProxyHeader::with_local().encode_v2(&mut own).unwrap();
    for (header, status) in
        [(announced("203.0.113.7:4711"), 401), (announced("127.0.0.1:4711"), 201), (own, 201)]
    {
        let mut stream = connect(gateway.public).await;
        stream.write_all(&[&header[..], request.as_bytes()].concat()).await.unwrap();
        let answer = answer(&mut stream).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    let mut open = Vec::new();
    for expected in [true, true, false] {
        let mut stream = connect(gateway.public).await;
        stream.write_all(&announced("203.0.113.8:4711")).await.unwrap();
        let served = ask(&mut stream).await.is_some();
        assert_eq!(served, expected, "the bound is the announced address's");
        open.push(stream);
    }
    let half = &announced("203.0.113.9:4711")[..20];
    // Somebody is brought, but not said who: the command of one that speaks for itself is another.
    let untold = [&announced("203.0.113.9:4711")[..13], &[0, 0, 0], request.as_bytes()].concat();
    for bad in [&untold, request.as_bytes(), b"PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n", half, b""]
    {
        let mut stream = connect(gateway.public).await;
        stream.write_all(bad).await.unwrap();
        assert_eq!(rest(&mut stream).await, "", "{bad:?}");
    }
    assert_eq!(gateway.counters().await, [9, 7, 2, 0]);
    drop(open);
    gateway.close().await;
    let gateway = TestGateway::start_with(|settings| {
        settings.proxy_protocol = true;
        settings.trusted_proxies = Vec::new();
        settings.auth = Auth::Insecure;
    })
    .await;
    let mut stream = connect(gateway.public).await;
    // It may be closed before this is written.
    let _ = stream.write_all(&announced("203.0.113.7:4711")).await;
    assert_eq!(rest(&mut stream).await, "");
    gateway.close().await;
}

/// Proves that a peer in the middle of a head holds up a drain no longer than a head may take, and one
/// that is idle not at all.
#[tokio::test]
async fn heads_at_a_drain() {
    let gateway = TestGateway::start_with(|settings| settings.http.head_ms = 300).await;
    let mut half = connect(gateway.public).await;
    half.write_all(b"GET /v1/time HTTP/1.1\r\n").await.unwrap();
    let mut idle = connect(gateway.public).await;
    assert!(ask(&mut idle).await.is_some());
    let draining = gateway.drain();
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut half).await, "");
    let limit = Duration::from_millis(floodgate::limits::DRAIN_MS);
    timeout(limit, draining.done()).await.expect("nobody was waited for to the end");
}
