//! Answers: JSON, with the headers that all of them carry.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde_json::Value;

/// An answer whose body is in memory.
pub(super) type Answer = Response<Full<Bytes>>;

/// Room for the headers of almost any answer: growing costs more than adding.
const HEADERS: usize = 12;

/// JSON that nobody may keep.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    of(status, HeaderValue::from_static("application/json"), body)
}

/// A JSON value that nobody may keep.
pub(super) fn value(status: StatusCode, body: &Value) -> Answer {
    json(status, body.to_string())
}

/// Any body that nobody may keep.
pub(super) fn of(status: StatusCode, media: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(CONTENT_TYPE, media);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// Adds a header whose value we made ourselves.
pub(super) fn with(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    // Our own values are visible ASCII; one that is not is left out rather than sent broken.
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}
