//! What makes a request sound HTTP, whatever it asks for.
//!
//! hyper reads what RFC 9112 allows a recipient to read. Behind a proxy that is not enough: two
//! readers who disagree on where a request ends, or on whom it is for, can be played against each
//! other. So what could be read in two ways is refused, and the connection ends with it: what
//! follows on it is not worth reading.

use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue, IF_MATCH,
    TRANSFER_ENCODING,
};
use hyper::{Method, Version};

use super::problem::Problem;
use super::request::{Head, IDEMPOTENCY_KEY, REQUEST_ID, USER_ID};
use crate::limits;

/// Headers that decide whom a request is for, who sends it, or where it ends: each may stand there
/// once, and under its own name.
const SINGLE: [HeaderName; 14] = [
    HOST,
    AUTHORIZATION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    IF_MATCH,
    EXPECT,
    TRANSFER_ENCODING,
    USER_ID,
    IDEMPOTENCY_KEY,
    HeaderName::from_static("traceparent"),
    REQUEST_ID,
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
];
/// Headers that may stand there several times, but under their own names only.
const NAMED: [HeaderName; 2] =
    [HeaderName::from_static("x-forwarded-for"), HeaderName::from_static("forwarded")];

/// Refuses what is not sound. No allocation, and a few comparisons, for what is.
pub(super) fn check(head: &Head) -> Result<(), Problem> {
    // hyper bounds them by 100; told to by less, it would read every head over the heap.
    if head.headers.len() > limits::HEADERS_MAX {
        return Err(Problem::TooManyHeaders);
    }
    check_host(head)?;
    check_names(head)?;
    check_framing(head)?;
    if let Some(expected) = head.headers.get(EXPECT)
        && !expected.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Problem::ExpectationFailed);
    }
    if head.method == Method::CONNECT {
        return Err(Problem::MethodNotAllowed { allow: "GET, HEAD, POST, PUT, DELETE" });
    }
    let target = head.uri.path_and_query();
    if target.is_some_and(|target| target.as_str().len() > limits::URI_BYTES_MAX) {
        return Err(Problem::UriTooLong);
    }
    Ok(())
}

/// One valid `Host` (RFC 9112 §3.2), which says the same as the target where that names a host too.
/// HTTP/1.0 may go without; HTTP/2 has `:authority`.
fn check_host(head: &Head) -> Result<(), Problem> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Problem::Unsound("the header host stands there twice"));
    }
    let named = head.uri.authority();
    match (host, named) {
        (None, _) if head.version == Version::HTTP_11 => {
            return Err(Problem::Unsound("the header host is missing"));
        }
        (None, None) if head.version == Version::HTTP_2 => {
            return Err(Problem::Unsound("neither :authority nor host is there"));
        }
        (Some(host), Some(named))
            if !host.as_bytes().eq_ignore_ascii_case(named.as_str().as_bytes()) =>
        {
            return Err(Problem::Unsound("the target names another host than the header host"));
        }
        (_, Some(named)) if !is_host(named.as_str().as_bytes()) => {
            return Err(Problem::Unsound("the target does not name a host"));
        }
        (Some(host), None) if !is_host(host.as_bytes()) => {
            return Err(Problem::Unsound("the header host does not name a host"));
        }
        (_, _) => {}
    }
    let scheme = head.uri.scheme_str();
    if scheme.is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(Problem::Unsound("the target's scheme is neither http nor https"));
    }
    Ok(())
}

/// A name of DNS or an address, and perhaps a port. Other characters that RFC 3986 lets a name have
/// occur in attacks only.
fn is_host(text: &[u8]) -> bool {
    let Some(first) = text.first() else { return false };
    let (name_is_valid, port) = if *first == b'[' {
        let Some(end) = text.iter().position(|byte| *byte == b']') else { return false };
        let address = std::str::from_utf8(&text[1..end]).unwrap_or_default();
        (address.parse::<std::net::Ipv6Addr>().is_ok(), &text[end + 1..])
    } else {
        let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
        let (name, port) = text.split_at(end);
        let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        (!name.is_empty() && name.iter().all(valid), port)
    };
    let port_is_valid = match port {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            digits.iter().all(u8::is_ascii_digit) && number.is_some_and(|_: u16| true)
        }
        _ => false,
    };
    name_is_valid && port_is_valid
}

/// No header that matters twice, and none under a name that some proxies take for it: `X_User_Id`
/// passes a filter for `X-User-Id`, and is the same to a program behind CGI.
fn check_names(head: &Head) -> Result<(), Problem> {
    let headers = &head.headers;
    if headers.keys_len() != headers.len()
        && SINGLE.iter().any(|name| headers.get_all(name).iter().nth(1).is_some())
    {
        return Err(Problem::Unsound("a header that may stand there once stands there twice"));
    }
    let disguised = |name: &HeaderName| {
        let name = name.as_str().as_bytes();
        name.contains(&b'_')
            && SINGLE.iter().chain(&NAMED).any(|known| {
                let known = known.as_str().as_bytes();
                let same = |(a, b): (&u8, &u8)| a == b || (*a == b'_' && *b == b'-');
                known.len() == name.len() && name.iter().zip(known).all(same)
            })
    };
    if headers.keys().any(disguised) {
        return Err(Problem::Unsound("a header's name has `_` where it must have `-`"));
    }
    Ok(())
}

/// A body is announced by one `Content-Length` (in HTTP/1), and comes with methods that take one.
///
/// hyper refuses lengths that differ or are no numbers, and codings that do not end in `chunked`.
/// `Content-Length` beside `Transfer-Encoding` it takes away, so that here both are the latter.
fn check_framing(head: &Head) -> Result<(), Problem> {
    if head.has_body && !head.takes_body() {
        return Err(Problem::Unsound("a request of this method has no body"));
    }
    if head.headers.contains_key(TRANSFER_ENCODING) {
        return Err(Problem::LengthRequired);
    }
    let digits = |length: &HeaderValue| length.as_bytes().iter().all(u8::is_ascii_digit);
    if head.headers.get(CONTENT_LENGTH).is_some_and(|length| !digits(length)) {
        return Err(Problem::Unsound("the header content-length is not a number"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that hosts are names and addresses with or without a port, and nothing else.
    #[test]
    fn hosts() {
        for good in [
            "h",
            "shop.example",
            "shop.example:8080",
            "SHOP.example",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:80",
            "h:",
            "a_b",
            "xn--bcher-kva.example",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "h:x", "h:80:80", "h:65536", "h:-1", "h:+1", "a b", "a/b", "user@h", "h,h",
            "h?x", "h#x", "[::1", "::1", "[h]", "[::1]x", "[::1]:x", "h%00", "h\\", "é",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
