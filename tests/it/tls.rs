//! TLS of the public listener, HTTP/2 on it, and its certificate.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use floodgate::app::{Gateway, Handed, StartError};
use floodgate::config::Settings;
use floodgate::runtimes::Handles;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::attacks::frames::{
    DATA, END_HEADERS, END_STREAM, GET, HEADERS, PING, POST, PREFACE, SETTINGS, frame,
};
use crate::gateway::TestGateway;
use crate::patience::PATIENCE;
use crate::shop::SALE;

/// A certificate of `localhost` and its key, in files.
#[derive(Clone)]
pub struct Certificate {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

impl Certificate {
    /// Writes a new one over what is there.
    pub fn write(dir: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
        std::fs::write(&cert_file, made.cert.pem()).unwrap();
        std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { cert_file, key_file }
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.cert_file).unwrap()
    }

    /// Connects with trust in this certificate alone.
    pub async fn connect(
        &self,
        address: std::net::SocketAddr,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

pub const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

fn with(certificate: &Certificate) -> impl FnOnce(&mut Settings) {
    let (cert_file, key_file) = (certificate.cert_file.clone(), certificate.key_file.clone());
    move |settings| {
        settings.tls.cert_file = Some(cert_file);
        settings.tls.key_file = Some(key_file);
    }
}

/// The statuses of what came back to requests in HTTP/1.1.
async fn exchange(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut came = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut came)).await.unwrap().unwrap();
    String::from_utf8(came).unwrap()
}

const TIME: &str = "GET /v1/time HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Proves that both versions of TLS are spoken, that the client chooses between HTTP/1.1 and HTTP/2
/// and gets the former where it says nothing, that an answer over HTTP/1.1 ends with a proper end of
/// TLS, and that the operators' listener stays as it is.
#[tokio::test]
async fn what_is_spoken() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(dir.path());
    let gateway = TestGateway::start_with(with(&certificate)).await;
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        for alpn in [&[][..], &["http/1.1"], &["http/1.1", "h2"], &["h2"]] {
            let mut stream = certificate.connect(gateway.public, alpn, versions).await.unwrap();
            let chosen = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            if alpn.contains(&"h2") {
                assert_eq!(chosen.as_deref(), Some(&b"h2"[..]), "{alpn:?}");
                continue;
            }
            assert_eq!(chosen.is_some(), !alpn.is_empty(), "{alpn:?}");
            let came = exchange(&mut stream, TIME).await;
            assert!(came.starts_with("HTTP/1.1 200 "), "{came}");
        }
    }
    gateway.stranger("GET", "/livez").send().await.expect(200);
    let mut plain = TcpStream::connect(gateway.public).await.unwrap();
    plain.write_all(TIME.as_bytes()).await.unwrap();
    let mut came = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut came)).await.unwrap();
    assert!(!came.starts_with(b"HTTP"), "no HTTP without TLS: {came:?}");
    gateway.close().await;
}

/// Proves that without `tls.http2` HTTP/1.1 is spoken to whoever would like the other.
#[tokio::test]
async fn without_http2() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(dir.path());
    let files = with(&certificate);
    let gateway = TestGateway::start_with(|settings| {
        files(settings);
        settings.tls.http2 = false;
    })
    .await;
    let mut stream = certificate.connect(gateway.public, &["h2", "http/1.1"], &BOTH).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let came = exchange(&mut stream, TIME).await;
    assert!(came.starts_with("HTTP/1.1 200 "), "{came}");
    gateway.close().await;
}

/// Proves that the API is the same over HTTP/2: many requests at once on one connection, each answered
/// as itself, and what is refused is refused.
#[tokio::test]
async fn over_http2() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(dir.path());
    let gateway = TestGateway::start_with(with(&certificate)).await;
    gateway.sell_consoles(9).await;
    let stream = certificate.connect(gateway.public, &["h2"], &BOTH).await.unwrap();
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let send =
        |method: &str, path: String, header: Option<(&'static str, &'static str)>, user: usize| {
            let body = if method == "POST" || header.is_some_and(|(name, _)| name == "x-body") {
                r#"{"item_id":"console","quantity":1}"#
            } else {
                ""
            };
            let mut request = Request::builder()
                .method(method)
                .uri(format!("https://localhost{path}"))
                .version(Version::HTTP_2)
                .header("x-user-id", format!("user-{user}"))
                .header("x-request-id", format!("request-{user}"));
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            let request = request.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap();
            let mut sender = sender.clone();
            async move {
                let answer = sender.send_request(request).await.unwrap();
                let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
                let status = answer.status().as_u16();
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                (status, id, body)
            }
        };
    let reservations = format!("/v1/sales/{SALE}/reservations");
    let asked: Vec<_> =
        (0..20).map(|user| tokio::spawn(send("POST", reservations.clone(), None, user))).collect();
    let mut granted = 0;
    for (user, asked) in asked.into_iter().enumerate() {
        let (status, id, body) = asked.await.unwrap();
        assert_eq!(id, format!("request-{user}"));
        assert!(status == 201 || status == 409, "{status} {body:?}");
        granted += usize::from(status == 201);
    }
    assert_eq!(granted, 9);
    let time = "/v1/time".to_owned();
    for (method, header, status) in [
        ("GET", None, 200),
        ("HEAD", None, 200),
        ("GET", Some(("x-body", "1")), 400),
        ("GET", Some(("expect", "more")), 417),
        ("GET", Some(("host", "other")), 400),
        ("GET", Some(("x_user_id", "eve")), 400),
        ("GET", Some(("idempotency_key", "eve")), 400),
        ("BREW", None, 405),
    ] {
        let (got, _, body) = send(method, time.clone(), header, 1).await;
        assert_eq!(got, status, "{method} {header:?} {body:?}");
    }
    drop(sender);
    connection.await.unwrap().unwrap();
    assert_eq!(gateway.counters().await, [9, 0, 9, 0]);
    gateway.close().await;
}

/// A connection on which HTTP/2 is spoken frame by frame.
struct Frames {
    stream: TlsStream<TcpStream>,
    came: Vec<u8>,
}

const GO_AWAY: u8 = 7;
const ACK: u8 = 1;

impl Frames {
    async fn connect(certificate: &Certificate, gateway: &TestGateway) -> Self {
        let mut stream = certificate.connect(gateway.public, &["h2"], &BOTH).await.unwrap();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        Self { stream, came: Vec::new() }
    }

    async fn send(&mut self, frames: &[Vec<u8>]) {
        self.stream.write_all(&frames.concat()).await.unwrap();
    }

    /// Kind and payload of the next frame; pings are answered. `None` at a proper end of TLS.
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((length, rest)) = self.came.split_at_checked(3) {
                let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
                if rest.len() >= 6 + length {
                    let mut whole: Vec<u8> = self.came.drain(..9 + length).collect();
                    let (kind, payload) = (whole[3], whole.split_off(9));
                    if kind == PING && whole[4] & ACK == 0 {
                        self.send(&[frame(PING, ACK, 0, &payload)]).await;
                    }
                    return Some((kind, payload));
                }
            }
            let read = self.stream.read_buf(&mut self.came);
            let read = tokio::time::timeout(PATIENCE, read).await.expect("a frame or the end");
            if read.expect("TLS ends in good order") == 0 {
                return None;
            }
        }
    }

    /// The first field of the answer's head: the status, by its number in HPACK's static table.
    async fn status(&mut self) -> u8 {
        loop {
            let (kind, payload) = self.next().await.expect("an answer");
            if kind == HEADERS {
                return payload[0];
            }
        }
    }
}

/// Proves that over HTTP/2 a request without a body is one however its stream ends, and is refused for
/// content and for the announcement of some.
#[tokio::test]
async fn requests_that_end_with_nothing() {
    const NOT_FOUND: u8 = 0x80 | 13;
    const BAD_REQUEST: u8 = 0x80 | 12;
    const TWO: &[u8] = &[0x0f, 0x0d, 0x01, b'2'];
    let dir = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(dir.path());
    let files = with(&certificate);
    let gateway = TestGateway::start_with(|settings| {
        files(settings);
        settings.http.body_ms = 100;
    })
    .await;
    let head = |flags, fields: &[&[u8]]| frame(HEADERS, flags, 1, &fields.concat());
    let trailer = frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x00, 0x01, b'a', 0x01, b'b']);
    let data = |flags, content| frame(DATA, flags, 1, content);
    let announced = head(END_HEADERS, &[GET, TWO]);
    for (what, frames, status) in [
        ("at once", vec![head(END_HEADERS | END_STREAM, &[GET])], NOT_FOUND),
        ("an empty frame", vec![head(END_HEADERS, &[GET]), data(END_STREAM, b"")], NOT_FOUND),
        (
            "two empty frames",
            vec![head(END_HEADERS, &[GET]), data(0, b""), data(END_STREAM, b"")],
            NOT_FOUND,
        ),
        ("a trailer", vec![head(END_HEADERS, &[GET]), trailer], NOT_FOUND),
        ("content", vec![head(END_HEADERS, &[GET]), data(END_STREAM, b"{}")], BAD_REQUEST),
        (
            "content after nothing",
            vec![head(END_HEADERS, &[GET]), data(0, b""), data(END_STREAM, b"{}")],
            BAD_REQUEST,
        ),
        ("announced content", vec![announced, data(END_STREAM, b"{}")], BAD_REQUEST),
        ("never", vec![head(END_HEADERS, &[GET])], BAD_REQUEST),
        ("a body of POST", vec![head(END_HEADERS, &[POST]), data(END_STREAM, b"{}")], NOT_FOUND),
        ("an empty one", vec![head(END_HEADERS, &[POST]), data(END_STREAM, b"")], NOT_FOUND),
    ] {
        let mut connection = Frames::connect(&certificate, &gateway).await;
        connection.send(&frames).await;
        assert_eq!(connection.status().await, status, "{what}");
    }
    gateway.close().await;
}

/// Proves that an HTTP/2 connection that is silent for too long, after a request or before any, is told
/// so, and ends in good order.
#[tokio::test]
async fn silence_in_http2() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(dir.path());
    let files = with(&certificate);
    let gateway = TestGateway::start_with(|settings| {
        files(settings);
        settings.http.head_ms = 300;
        settings.http.idle_ms = 300;
    })
    .await;
    for asks in [true, false] {
        let mut connection = Frames::connect(&certificate, &gateway).await;
        if asks {
            connection.send(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, GET)]).await;
            connection.status().await;
        }
        let mut reasons = Vec::new();
        while let Some((kind, payload)) = connection.next().await {
            if kind == GO_AWAY {
                reasons.push(payload[7]);
            }
        }
        assert_eq!(reasons, [0, 0], "no error: at first a warning, then the last stream");
    }
    gateway.close().await;
}

/// Proves that a connection on which an upgrade was named, which is not followed, ends with a proper end of
/// TLS like any other.
#[tokio::test]
async fn upgrades_that_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(dir.path());
    let gateway = TestGateway::start_with(with(&certificate)).await;
    for protocol in ["h2c", "websocket"] {
        let named = format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
        let upgrade = TIME.replace("Connection: close\r\n\r\n", &named);
        let mut stream = certificate.connect(gateway.public, &[], &BOTH).await.unwrap();
        let came = exchange(&mut stream, &format!("{upgrade}{TIME}")).await;
        assert_eq!(came.matches("HTTP/1.1 200 ").count(), 2, "{came}");
    }
    gateway.close().await;
}

/// Proves that a new certificate is in force for new connections as soon as it is loaded, that open
/// ones go on, that a bad one leaves the old in force, and that the metric tells when it ends.
#[tokio::test]
async fn another_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let first = Certificate::write(dir.path());
    let kept = tempfile::tempdir().unwrap();
    std::fs::copy(&first.cert_file, kept.path().join("cert.pem")).unwrap();
    let old =
        Certificate { cert_file: kept.path().join("cert.pem"), ..Certificate::write(kept.path()) };
    std::fs::copy(&first.cert_file, &old.cert_file).unwrap();
    let any_port = "127.0.0.1:0".parse().unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut settings = Settings {
        listen: any_port,
        ops_listen: any_port,
        data_dir: data.path().to_owned(),
        ..Settings::default()
    };
    with(&first)(&mut settings);
    let gateway = Gateway::start(&settings, Handed::default(), &Handles::current()).await.unwrap();
    let tls = Arc::clone(gateway.tls.as_ref().unwrap());
    let address = gateway.public_address;
    let mut open = old.connect(address, &[], &BOTH).await.unwrap();
    assert!(
        gateway.metrics.render().contains("floodgate_tls_certificate_expiry_timestamp_seconds")
    );

    let new = Certificate::write(dir.path());
    assert!(new.connect(address, &[], &BOTH).await.is_err(), "not yet in force");
    tls.reload().unwrap();
    new.connect(address, &[], &BOTH).await.unwrap();
    assert!(old.connect(address, &[], &BOTH).await.is_err(), "no longer in force");
    assert!(exchange(&mut open, TIME).await.starts_with("HTTP/1.1 200 "), "it goes on");

    std::fs::write(&new.cert_file, "nonsense").unwrap();
    assert!(tls.reload().unwrap_err().contains("tls.cert_file"));
    std::fs::copy(&old.cert_file, &new.cert_file).unwrap();
    assert!(tls.reload().unwrap_err().contains("tls.key_file"), "another's key");
    std::fs::remove_file(&new.key_file).unwrap();
    assert!(tls.reload().unwrap_err().contains("tls.key_file"));
    gateway.drain().await;
}

/// Proves that a gateway does not start with a certificate that cannot be used, or a key that
/// everybody can read, and that the fault names the key of the configuration.
#[tokio::test]
async fn faults_name_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    let start = async |cert_file: &Path, key_file: &Path| {
        let data = tempfile::tempdir().unwrap();
        let mut settings = Settings { data_dir: data.path().to_owned(), ..Settings::default() };
        settings.tls.cert_file = Some(cert_file.to_owned());
        settings.tls.key_file = Some(key_file.to_owned());
        match Gateway::start(&settings, Handed::default(), &Handles::current()).await {
            Err(StartError::Tls(fault)) => fault,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it has started"),
        }
    };
    let Certificate { cert_file, key_file } = Certificate::write(dir.path());
    let nowhere = dir.path().join("nowhere.pem");
    assert!(start(&nowhere, &key_file).await.starts_with("tls.cert_file: "));
    assert!(start(&cert_file, &nowhere).await.starts_with("tls.key_file: "));
    assert!(start(&key_file, &key_file).await.starts_with("tls.cert_file: "));
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let fault = start(&cert_file, &key_file).await;
    assert!(fault.starts_with("tls.key_file: ") && fault.contains("everybody"), "{fault}");
    let mut half = Settings::default();
    half.tls.cert_file = Some(cert_file);
    assert!(half.faults()[0].contains("tls.key_file"));
}
