//! The entries.

use std::fmt;

/// How an entry ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered with this status, and the connection is closed.
    Ends(u16),
    /// Answered with this status, and the next request is read.
    GoesOn(u16),
    /// Closed without an answer.
    Silent,
}

use Outcome::{Ends, GoesOn, Silent};

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ends(status) => write!(f, "must get {status} and be closed;"),
            GoesOn(status) => write!(f, "must get {status} and go on;"),
            Silent => f.write_str("must be closed without a word;"),
        }
    }
}

pub struct Entry {
    pub name: String,
    pub bytes: Vec<u8>,
    pub outcome: Outcome,
    /// When it comes byte by byte.
    pub split: Outcome,
}

/// What an attacker hides: if it is ever taken for a request, a unit is gone.
const HIDDEN: &str = "POST /v1/sales/bf/reservations HTTP/1.1\r\nHost: h\r\nX-User-Id: eve\r\n\
                      Content-Length: 34\r\n\r\n{\"item_id\":\"console\",\"quantity\":1}";

pub fn entries() -> Vec<Entry> {
    [lines(), hosts(), headers(), lengths(), codings(), chunks(), bodies(), targets(), others()]
        .concat()
        .into_iter()
        .map(|(name, bytes, outcome)| {
            // hyper closes on the preface without a word, if it is there as a whole; otherwise it is
            // refused as the request line that it begins with.
            let split = if outcome == Silent { Ends(400) } else { outcome };
            Entry { name, bytes, outcome, split }
        })
        .collect()
}

type Raw = (String, Vec<u8>, Outcome);

fn raw(group: &str, name: &str, bytes: impl Into<Vec<u8>>, outcome: Outcome) -> Raw {
    (format!("{group}: {name}"), bytes.into(), outcome)
}

/// A request line, and what else belongs to a good request.
fn lines() -> Vec<Raw> {
    let table = [
        ("nothing", "\r\n\r\n\r\n", GoesOn(200)),
        ("one word", "GET", Ends(400)),
        ("no target", "GET  HTTP/1.1", Ends(400)),
        ("no version", "GET /v1/time", Ends(400)),
        ("two spaces", "GET  /v1/time HTTP/1.1", Ends(400)),
        ("two spaces before the version", "GET /v1/time  HTTP/1.1", Ends(400)),
        ("a space in front", " GET /v1/time HTTP/1.1", Ends(400)),
        ("a space at the end", "GET /v1/time HTTP/1.1 ", Ends(400)),
        ("a tab", "GET\t/v1/time HTTP/1.1", Ends(400)),
        ("a tab before the version", "GET /v1/time\tHTTP/1.1", Ends(400)),
        ("a space in the target", "GET /v1/ time HTTP/1.1", Ends(400)),
        ("version 0.9", "GET /v1/time HTTP/0.9", Ends(400)),
        ("version 1.2", "GET /v1/time HTTP/1.2", Ends(400)),
        ("version 2.0", "GET /v1/time HTTP/2.0", Ends(400)),
        ("version 1", "GET /v1/time HTTP/1", Ends(400)),
        ("version 1.", "GET /v1/time HTTP/1.", Ends(400)),
        ("version 01.1", "GET /v1/time HTTP/01.1", Ends(400)),
        ("version 1.10", "GET /v1/time HTTP/1.10", Ends(400)),
        ("version -1.1", "GET /v1/time HTTP/-1.1", Ends(400)),
        ("version in lower case", "GET /v1/time http/1.1", Ends(400)),
        ("another protocol", "GET /v1/time ICY/1.1", Ends(400)),
        ("a version without a slash", "GET /v1/time HTTP1.1", Ends(400)),
        ("a method with a slash", "GE/T /v1/time HTTP/1.1", Ends(400)),
        ("a method with a colon", "GET: /v1/time HTTP/1.1", Ends(400)),
        ("a method with a parenthesis", "G(T /v1/time HTTP/1.1", Ends(400)),
        ("an empty method", " /v1/time HTTP/1.1", Ends(400)),
        ("a method that is not ASCII", "GÉT /v1/time HTTP/1.1", Ends(400)),
        ("a method with a NUL", "GE\0T /v1/time HTTP/1.1", Ends(400)),
        ("a method in lower case", "get /v1/time HTTP/1.1", GoesOn(405)),
        ("a method of one's own", "BREW /v1/time HTTP/1.1", GoesOn(405)),
        ("TRACE", "TRACE /v1/time HTTP/1.1", GoesOn(405)),
        ("CONNECT to a path", "CONNECT /v1/time HTTP/1.1", GoesOn(405)),
        ("the preface of HTTP/2", "PRI * HTTP/2.0", Ends(400)),
        ("a CR in the line", "GET /v1/\rtime HTTP/1.1", Ends(400)),
        ("a CR before the version", "GET /v1/time \rHTTP/1.1", Ends(400)),
        ("a NUL in the target", "GET /v1/\0time HTTP/1.1", Ends(400)),
        ("a control in the target", "GET /v1/\x01time HTTP/1.1", Ends(400)),
        ("a DEL in the target", "GET /v1/\x7ftime HTTP/1.1", Ends(400)),
    ];
    let bytes = |line: &str| format!("{line}\r\nHost: h\r\n\r\n");
    let mut entries: Vec<Raw> = table
        .into_iter()
        .skip(1)
        .map(|(name, line, outcome)| raw("request line", name, bytes(line), outcome))
        .collect();
    // RFC 9112 §2.2: a server should ignore at least one empty line before a request line.
    let empty = format!("{}{}", table[0].1, bytes("GET /v1/time HTTP/1.1"));
    entries.push(raw("request line", "empty lines before it", empty, table[0].2));
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    entries.push(raw("request line", "the whole preface of HTTP/2", preface, Silent));
    entries.push(raw(
        "request line",
        "TLS",
        b"\x16\x03\x01\x00\xa5\x01\r\n\r\n".to_vec(),
        Ends(400),
    ));
    entries.push(raw("request line", "HTTP/0.9", "GET /v1/time\r\n\r\n", Ends(400)));
    entries
}

fn hosts() -> Vec<Raw> {
    let table = [
        ("none", "", Ends(400)),
        ("empty", "Host:\r\n", Ends(400)),
        ("spaces", "Host:   \r\n", Ends(400)),
        ("two", "Host: h\r\nHost: i\r\n", Ends(400)),
        ("the same twice", "Host: h\r\nHost: h\r\n", Ends(400)),
        ("twice, in another case", "Host: h\r\nhOST: h\r\n", Ends(400)),
        ("a list", "Host: h, i\r\n", Ends(400)),
        ("a user", "Host: me@h\r\n", Ends(400)),
        ("a path", "Host: h/v1\r\n", Ends(400)),
        ("a query", "Host: h?x\r\n", Ends(400)),
        ("a fragment", "Host: h#x\r\n", Ends(400)),
        ("a scheme", "Host: http://h\r\n", Ends(400)),
        ("a space", "Host: h i\r\n", Ends(400)),
        ("a tab", "Host: h\ti\r\n", Ends(400)),
        ("a port that is no number", "Host: h:http\r\n", Ends(400)),
        ("a port that is too large", "Host: h:65536\r\n", Ends(400)),
        ("a port with a sign", "Host: h:+80\r\n", Ends(400)),
        ("two ports", "Host: h:80:80\r\n", Ends(400)),
        ("a port alone", "Host: :80\r\n", Ends(400)),
        ("half an IPv6 address", "Host: [::1\r\n", Ends(400)),
        ("an IPv6 address without brackets", "Host: ::1\r\n", Ends(400)),
        ("an escape", "Host: h%00\r\n", Ends(400)),
        ("a backslash", "Host: h\\i\r\n", Ends(400)),
        ("not ASCII", "Host: h\u{e9}\r\n", Ends(400)),
        ("a control", "Host: h\x01\r\n", Ends(400)),
        ("a NUL", "Host: h\0\r\n", Ends(400)),
        ("under another name", "Host_: h\r\n", Ends(400)),
        ("a port", "Host: h:8080\r\n", GoesOn(200)),
        ("an IPv6 address", "Host: [::1]:80\r\n", GoesOn(200)),
        ("in another case", "hOsT: H\r\n", GoesOn(200)),
    ];
    let bytes = |host: &str| format!("GET /v1/time HTTP/1.1\r\n{host}\r\n");
    table.into_iter().map(|(name, host, outcome)| raw("host", name, bytes(host), outcome)).collect()
}

fn headers() -> Vec<Raw> {
    let headers = |count| (0..count).map(|number| format!("X-{number}: v\r\n")).collect::<String>();
    let (many, far_too_many) = (headers(64), headers(101));
    let long = format!("X-Long: {}\r\n", "x".repeat(17 * 1024));
    let long_name = format!("{}: v\r\n", "x".repeat(17 * 1024));
    let table = [
        ("no colon", "X-Thing\r\n", Ends(400)),
        ("no name", ": v\r\n", Ends(400)),
        ("a space before the colon", "X-Thing : v\r\n", Ends(400)),
        ("a tab before the colon", "X-Thing\t: v\r\n", Ends(400)),
        ("a space in the name", "X Thing: v\r\n", Ends(400)),
        ("a space in front", " X-Thing: v\r\n", Ends(400)),
        ("folded", "X-Thing: v\r\n w\r\n", Ends(400)),
        ("folded with a tab", "X-Thing: v\r\n\tw\r\n", Ends(400)),
        ("a control in the name", "X-\x01: v\r\n", Ends(400)),
        ("a NUL in the name", "X-\0: v\r\n", Ends(400)),
        ("a parenthesis in the name", "X-(: v\r\n", Ends(400)),
        ("a quote in the name", "X-\": v\r\n", Ends(400)),
        ("a name that is not ASCII", "X-\u{e9}: v\r\n", Ends(400)),
        ("a NUL in the value", "X-Thing: a\0b\r\n", Ends(400)),
        ("a control in the value", "X-Thing: a\x01b\r\n", Ends(400)),
        ("a DEL in the value", "X-Thing: a\x7fb\r\n", Ends(400)),
        ("a CR in the value", "X-Thing: a\rb\r\n", Ends(400)),
        ("a CR at the end of the value", "X-Thing: a\r\r\n", Ends(400)),
        ("a CR for a line's end", "X-Thing: a\rX-Other: b\r\n", Ends(400)),
        ("too many", &many, Ends(431)),
        ("far too many", &far_too_many, Ends(431)),
        ("too long", &long, Ends(431)),
        ("too long a name", &long_name, Ends(431)),
        ("two users", "X-User-Id: ann\r\nX-User-Id: eve\r\n", Ends(400)),
        ("a user twice", "X-User-Id: ann\r\nx-user-id: ann\r\n", Ends(400)),
        ("a user with an underscore", "X-User-Id: ann\r\nX_User_Id: eve\r\n", Ends(400)),
        ("a user with one underscore", "X-User_Id: eve\r\n", Ends(400)),
        ("two keys", "Idempotency-Key: a\r\nIdempotency-Key: b\r\n", Ends(400)),
        ("a key with an underscore", "Idempotency_Key: a\r\n", Ends(400)),
        ("two authorizations", "Authorization: a\r\nAuthorization: b\r\n", Ends(400)),
        ("two media types", "Content-Type: a/b\r\nContent-Type: a/c\r\n", Ends(400)),
        ("two preconditions", "If-Match: \"1\"\r\nIf-Match: \"2\"\r\n", Ends(400)),
        ("an address with an underscore", "X_Forwarded_For: 10.0.0.1\r\n", Ends(400)),
        ("a length with an underscore", "Content_Length: 5\r\n", Ends(400)),
        ("a coding with an underscore", "Transfer_Encoding: chunked\r\n", Ends(400)),
        ("an expectation", "Expect: the-unexpected\r\n", Ends(417)),
        ("an expectation and more", "Expect: 100-continue, more\r\n", Ends(417)),
        ("two expectations", "Expect: 100-continue\r\nExpect: 100-continue\r\n", Ends(400)),
        ("100-continue without a body", "Expect: 100-continue\r\n", GoesOn(200)),
        ("an upgrade to h2c", "Connection: Upgrade\r\nUpgrade: h2c\r\n", GoesOn(200)),
        (
            "an upgrade to a web socket",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            GoesOn(200),
        ),
        ("an empty value", "X-Thing:\r\n", GoesOn(200)),
        ("no space after the colon", "X-Thing:v\r\n", GoesOn(200)),
        ("bytes beyond ASCII in a value", "X-Thing: \u{e9}\r\n", GoesOn(200)),
        ("another name with an underscore", "X_Thing: v\r\n", GoesOn(200)),
    ];
    let bytes = |lines: &str| format!("GET /v1/time HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
    let mut entries: Vec<Raw> = table
        .into_iter()
        .map(|(name, lines, outcome)| raw("header", name, bytes(lines), outcome))
        .collect();
    let first = "GET /v1/time HTTP/1.1\r\n Host: h\r\n\r\n";
    entries.push(raw("header", "a space before the first", first, Ends(400)));
    // RFC 9112 §2.2 lets a recipient take a bare LF for a line's end, and hyper does.
    let bare = "GET /v1/time HTTP/1.1\nHost: h\n\n";
    entries.push(raw("header", "bare LF", bare, GoesOn(200)));
    entries
}

/// A reservation with these header lines and this body. A good body that is read whole would take a
/// unit, which the test notices; `{}` is refused as a request and lets the connection go on.
fn post(lines: &str, body: &str) -> String {
    format!(
        "POST /v1/sales/bf/reservations HTTP/1.1\r\nHost: h\r\nX-User-Id: ann\r\n{lines}\r\n{body}"
    )
}

fn lengths() -> Vec<Raw> {
    let table = [
        ("signed", "Content-Length: +2\r\n", Ends(400)),
        ("negative", "Content-Length: -2\r\n", Ends(400)),
        ("minus nothing", "Content-Length: -0\r\n", Ends(400)),
        ("hexadecimal", "Content-Length: 0x2\r\n", Ends(400)),
        ("octal", "Content-Length: 0o2\r\n", Ends(400)),
        ("with a point", "Content-Length: 2.0\r\n", Ends(400)),
        ("with an exponent", "Content-Length: 2e0\r\n", Ends(400)),
        ("with an underscore", "Content-Length: 0_2\r\n", Ends(400)),
        ("with a space", "Content-Length: 0 2\r\n", Ends(400)),
        ("quoted", "Content-Length: \"2\"\r\n", Ends(400)),
        ("empty", "Content-Length:\r\n", Ends(400)),
        ("no number", "Content-Length: two\r\n", Ends(400)),
        ("a number and more", "Content-Length: 2;x\r\n", Ends(400)),
        ("a NUL behind it", "Content-Length: 2\0\r\n", Ends(400)),
        ("a vertical tab", "Content-Length: \x0b2\r\n", Ends(400)),
        ("Arabic digits", "Content-Length: \u{662}\r\n", Ends(400)),
        ("a list of the same", "Content-Length: 2, 2\r\n", Ends(400)),
        ("a list", "Content-Length: 2, 3\r\n", Ends(400)),
        ("a list that ends in nothing", "Content-Length: 2,\r\n", Ends(400)),
        ("two", "Content-Length: 2\r\nContent-Length: 3\r\n", Ends(400)),
        ("two, the other way", "Content-Length: 3\r\nContent-Length: 2\r\n", Ends(400)),
        ("one of nothing", "Content-Length: 2\r\nContent-Length:\r\n", Ends(400)),
        ("beyond 64 bits", "Content-Length: 18446744073709551616\r\n", Ends(400)),
        ("the largest of 64 bits", "Content-Length: 18446744073709551615\r\n", Ends(431)),
        ("beyond 64 bits by far", "Content-Length: 100000000000000000000000002\r\n", Ends(400)),
        ("far too large", "Content-Length: 9223372036854775807\r\n", Ends(413)),
        ("a space before the colon", "Content-Length : 2\r\n", Ends(400)),
        ("folded", "Content-Length:\r\n 2\r\n", Ends(400)),
        ("zeros in front", "Content-Length: 0000000002\r\n", GoesOn(400)),
        // RFC 9112 §6.3 lets a recipient take lengths that are the same for one.
        ("the same twice", "Content-Length: 2\r\nContent-Length: 2\r\n", GoesOn(400)),
    ];
    let entry = |(name, lines, outcome)| raw("length", name, post(lines, "{}"), outcome);
    table.into_iter().map(entry).collect()
}

fn codings() -> Vec<Raw> {
    let with_length = |lines: &str| format!("Content-Length: 5\r\n{lines}");
    let table = [
        ("chunked", "Transfer-Encoding: chunked\r\n", Ends(411)),
        ("in capitals", "TRANSFER-ENCODING: CHUNKED\r\n", Ends(411)),
        ("a tab before it", "Transfer-Encoding:\tchunked\r\n", Ends(411)),
        ("a tab behind it", "Transfer-Encoding: chunked\t\r\n", Ends(411)),
        ("identity", "Transfer-Encoding: identity\r\n", Ends(400)),
        ("gzip", "Transfer-Encoding: gzip\r\n", Ends(400)),
        ("gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n", Ends(411)),
        ("identity, chunked", "Transfer-Encoding: identity, chunked\r\n", Ends(411)),
        ("chunked, identity", "Transfer-Encoding: chunked, identity\r\n", Ends(400)),
        ("chunked, gzip", "Transfer-Encoding: chunked, gzip\r\n", Ends(400)),
        ("xchunked", "Transfer-Encoding: xchunked\r\n", Ends(400)),
        ("chunkedx", "Transfer-Encoding: chunkedx\r\n", Ends(400)),
        ("chunk", "Transfer-Encoding: chunk\r\n", Ends(400)),
        ("quoted", "Transfer-Encoding: \"chunked\"\r\n", Ends(400)),
        ("with a parameter", "Transfer-Encoding: chunked;q=1\r\n", Ends(400)),
        ("empty", "Transfer-Encoding:\r\n", Ends(400)),
        ("a comma alone", "Transfer-Encoding: ,\r\n", Ends(400)),
        ("a vertical tab", "Transfer-Encoding: \x0bchunked\r\n", Ends(400)),
        ("a NUL", "Transfer-Encoding: chunked\0\r\n", Ends(400)),
        ("a space before the colon", "Transfer-Encoding : chunked\r\n", Ends(400)),
        ("a tab before the colon", "Transfer-Encoding\t: chunked\r\n", Ends(400)),
        ("a space in front", " Transfer-Encoding: chunked\r\n", Ends(400)),
        ("folded", "Transfer-Encoding:\r\n chunked\r\n", Ends(400)),
        ("after a CR", "X: y\rTransfer-Encoding: chunked\r\n", Ends(400)),
        ("twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Ends(400)),
        (
            "two, the last another",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            Ends(400),
        ),
        (
            "two, the first another",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
            Ends(400),
        ),
    ];
    let body = format!("0\r\n\r\n{HIDDEN}");
    let mut entries = Vec::new();
    for (name, lines, outcome) in table {
        entries.push(raw("coding", name, post(lines, &body), outcome));
        let both = format!("{name}, behind a length");
        entries.push(raw("coding", &both, post(&with_length(lines), &body), outcome));
    }
    let before = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
    entries.push(raw("coding", "chunked, before a length", post(before, &body), Ends(411)));
    let bad = "Transfer-Encoding: chunked\r\nContent-Length: x\r\n";
    entries.push(raw("coding", "chunked, before a bad length", post(bad, &body), Ends(411)));
    let old = post("Transfer-Encoding: chunked\r\n", &body)
        .replace("HTTP/1.1\r\nHost: h\r\nX-User-Id: ann", "HTTP/1.0\r\nHost: h\r\nX-User-Id: ann");
    entries.push(raw("coding", "chunked in HTTP/1.0", old, Ends(400)));
    entries
}

/// Chunks, good and bad: none is read.
fn chunks() -> Vec<Raw> {
    let table = [
        ("good", "2\r\n{}\r\n0\r\n\r\n"),
        ("an extension", "2;x=y\r\n{}\r\n0\r\n\r\n"),
        ("an extension with a line's end", "2;x\n{}\r\n0\r\n\r\n"),
        ("a negative size", "-2\r\n{}\r\n0\r\n\r\n"),
        ("a signed size", "+2\r\n{}\r\n0\r\n\r\n"),
        ("a prefix", "0x2\r\n{}\r\n0\r\n\r\n"),
        ("an underscore", "0_2\r\n{}\r\n0\r\n\r\n"),
        ("no number", "zz\r\n{}\r\n0\r\n\r\n"),
        ("an empty size", "\r\n{}\r\n0\r\n\r\n"),
        ("a size beyond 64 bits", "10000000000000002\r\n{}\r\n0\r\n\r\n"),
        ("the largest size", "ffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        ("a space behind the size", "2 \r\n{}\r\n0\r\n\r\n"),
        ("a bare LF", "2\n{}\n0\n\n"),
        ("a bare CR", "2\r{}\r0\r\r"),
        ("no end of a chunk", "2\r\n{}0\r\n\r\n"),
        ("more than its size", "1\r\n{}\r\n0\r\n\r\n"),
        ("a trailer", "2\r\n{}\r\n0\r\nX-User-Id: eve\r\n\r\n"),
        ("a NUL in a trailer", "2\r\n{}\r\n0\r\nX: \0\r\n\r\n"),
    ];
    let lines = "Transfer-Encoding: chunked\r\n";
    let entry = |(name, body)| raw("chunk", name, post(lines, body), Ends(411));
    table.into_iter().map(entry).collect()
}

fn bodies() -> Vec<Raw> {
    let length = HIDDEN.len();
    let with = |line: &str, lines: &str, body: &str| {
        format!("{line} HTTP/1.1\r\nHost: h\r\nX-User-Id: ann\r\n{lines}\r\n{body}")
    };
    let counted = format!("Content-Length: {length}\r\n");
    let chunked = "Transfer-Encoding: chunked\r\n";
    let chunk = format!("{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n");
    let mut entries = Vec::new();
    let id = "00000000-0000-8000-8000-000000000000";
    for line in [
        "GET /v1/time".to_owned(),
        "HEAD /v1/time".to_owned(),
        format!("DELETE /v1/reservations/{id}"),
        "DELETE /v1/cart".to_owned(),
        "OPTIONS /v1/time".to_owned(),
        "TRACE /v1/time".to_owned(),
        "CONNECT h:443".to_owned(),
        "BREW /v1/time".to_owned(),
    ] {
        let request = with(&line, &counted, HIDDEN).replace(
            "CONNECT h:443 HTTP/1.1\r\nHost: h\r\n",
            "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n",
        );
        entries.push(raw("body", &format!("{line} with a length"), request, Ends(400)));
    }
    for line in ["GET /v1/time", "HEAD /v1/time", "DELETE /v1/cart", "OPTIONS /v1/time"] {
        let name = format!("{line} with chunks");
        entries.push(raw("body", &name, with(line, chunked, &chunk), Ends(400)));
    }
    let nothing = with("GET /v1/time", "Content-Length: 0\r\n", "");
    entries.push(raw("body", "GET with nothing", nothing, GoesOn(200)));
    let request = with("POST /v1/sales/bf/reservations", &counted, HIDDEN);
    entries.push(raw("body", "a request in a body", request, GoesOn(400)));
    let request = with("POST /nowhere", &counted, HIDDEN);
    entries.push(raw("body", "a request in a body to nowhere", request, GoesOn(404)));
    let request = with("PATCH /v1/time", &counted, HIDDEN);
    entries.push(raw("body", "a request in a body of PATCH", request, GoesOn(405)));
    let none = with("POST /v1/sales/bf/reservations", "", "");
    entries.push(raw("body", "POST without one", none, GoesOn(400)));
    entries
}

fn targets() -> Vec<Raw> {
    let long = format!("/v1/time?{}", "x".repeat(2 * 1024));
    let longer = format!("/v1/time?{}", "x".repeat(17 * 1024));
    let table = [
        ("two slashes in front", "//v1/time", GoesOn(404)),
        ("two slashes", "/v1//time", GoesOn(404)),
        ("a slash at the end", "/v1/time/", GoesOn(404)),
        ("a dot", "/v1/./time", GoesOn(404)),
        ("dots", "/v1/x/../time", GoesOn(404)),
        ("dots above the root", "/../../etc/passwd", GoesOn(404)),
        ("escaped dots", "/v1/%2e%2e/time", GoesOn(404)),
        ("an escaped slash", "/v1%2ftime", GoesOn(404)),
        ("an escaped NUL", "/v1/time%00", GoesOn(404)),
        ("an escaped line's end", "/v1/time%0d%0aX-User-Id:eve", GoesOn(404)),
        ("an escaped letter", "/v1/%74ime", GoesOn(404)),
        ("a bad escape", "/v1/%zz", GoesOn(404)),
        ("half an escape", "/v1/%2", GoesOn(404)),
        ("a backslash", "/v1\\time", GoesOn(404)),
        ("a semicolon", "/v1/time;x=y", GoesOn(404)),
        ("another case", "/V1/TIME", GoesOn(404)),
        ("not ASCII", "/v1/t\u{ef}me", GoesOn(404)),
        ("the other listener's", "/admin/v1/sales", GoesOn(404)),
        ("no slash", "v1/time", Ends(400)),
        ("empty", "", Ends(400)),
        ("a query alone", "?x", Ends(400)),
        ("a fragment alone", "#x", Ends(400)),
        ("too long", &long, GoesOn(414)),
        ("far too long", &longer, Ends(431)),
        ("asterisk", "*", GoesOn(404)),
        ("authority", "h:80", Ends(400)),
        ("absolute", "http://h/v1/time", GoesOn(200)),
        ("absolute, in another case", "HTTP://H/v1/time", GoesOn(200)),
        ("absolute, another host", "http://i/v1/time", Ends(400)),
        ("absolute, another port", "http://h:81/v1/time", Ends(400)),
        ("absolute, a user", "http://me@h/v1/time", Ends(400)),
        ("absolute, another scheme", "ftp://h/v1/time", Ends(400)),
        ("absolute, no host", "http:///v1/time", Ends(400)),
        ("absolute, no path", "http://h", GoesOn(404)),
        ("a query", "/v1/time?a=b", GoesOn(200)),
        // No part of a target (RFC 9112 §3.2); hyper cuts it off.
        ("a fragment", "/v1/time#x", GoesOn(200)),
    ];
    let bytes = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut entries: Vec<Raw> = table
        .into_iter()
        .map(|(name, target, outcome)| raw("target", name, bytes(target), outcome))
        .collect();
    let connect = "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n";
    entries.push(raw("target", "CONNECT", connect, GoesOn(405)));
    let elsewhere = "CONNECT i:443 HTTP/1.1\r\nHost: h:443\r\n\r\n";
    entries.push(raw("target", "CONNECT to another host", elsewhere, Ends(400)));
    let options = "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n";
    entries.push(raw("target", "OPTIONS of all", options, GoesOn(404)));
    let without = "GET http://h/v1/time HTTP/1.1\r\n\r\n";
    entries.push(raw("target", "absolute, without a header host", without, Ends(400)));
    entries
}

fn others() -> Vec<Raw> {
    let old = |lines: &str| format!("GET /v1/time HTTP/1.0\r\n{lines}\r\n");
    vec![
        raw("HTTP/1.0", "without a host", old(""), Ends(200)),
        raw("HTTP/1.0", "with two", old("Host: h\r\nHost: h\r\n"), Ends(400)),
        raw(
            "connection",
            "close twice",
            "GET /v1/time HTTP/1.1\r\nHost: h\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
            Ends(200),
        ),
        raw(
            "connection",
            "that hides a header",
            "GET /v1/cart HTTP/1.1\r\nHost: h\r\nX-User-Id: ann\r\nConnection: X-User-Id\r\n\r\n",
            GoesOn(200),
        ),
    ]
}
