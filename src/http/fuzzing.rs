//! What the listeners read, as functions of bytes; see [`crate::fuzzing`].

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri, Version};

use super::public::read_wish;
use super::request::Head;
use super::{body, key};
use crate::limits;

fn head() -> Head {
    Head {
        method: Method::POST,
        uri: Uri::default(),
        version: Version::HTTP_11,
        headers: HeaderMap::new(),
        has_body: true,
        body_within: Duration::ZERO,
    }
}

/// The body of a reservation. What is taken has as many lines as it may, each item once.
pub fn reservation(bytes: &[u8]) {
    let Ok(wish) = body::parse(bytes) else { return };
    let Ok(lines) = read_wish(wish) else { return };
    assert!((1..=limits::LINES_PER_RESERVATION_MAX).contains(&lines.len()));
    for (at, line) in lines.iter().enumerate() {
        assert!(line.quantity > 0);
        assert!(lines[..at].iter().all(|before| before.item != line.item), "an item twice");
    }
}

/// The header `Idempotency-Key`. What is taken is visible, within bounds, and the same again as a quoted
/// string.
pub fn idempotency_key(bytes: &[u8]) {
    const NAME: HeaderName = HeaderName::from_static("idempotency-key");
    let mut head = head();
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    head.headers.insert(NAME, value);
    let Ok(Some(known)) = key::of_header(&head) else { return };
    let text = known.as_str();
    assert!((1..=limits::IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len()));
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
    let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let Ok(quoted) = HeaderValue::from_str(&quoted) else { unreachable!("it is visible") };
    head.headers.insert(NAME, quoted);
    assert!(matches!(key::of_header(&head), Ok(Some(again)) if again == known));
}
