//! What every handler needs of a request, looked up once.

use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri, Version};

use super::problem::Problem;
use super::sound;
use crate::limits;

/// A request whose head has been checked.
pub(super) struct Head {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub headers: HeaderMap,
    /// Whether a body follows.
    pub has_body: bool,
    /// For how long it is waited for.
    pub body_within: Duration,
}

impl Head {
    /// Splits a request into head and body.
    pub(super) fn of(request: Request<Incoming>) -> (Self, Incoming) {
        let (parts, body) = request.into_parts();
        let head = Self {
            method: parts.method,
            uri: parts.uri,
            version: parts.version,
            headers: parts.headers,
            has_body: !body.is_end_stream(),
            body_within: Duration::from_millis(limits::BODY_READ_MS),
        };
        (head, body)
    }

    /// Whether a request of this method may have a body.
    pub(super) fn takes_body(&self) -> bool {
        matches!(self.method, Method::POST | Method::PUT | Method::PATCH)
    }

    /// What is wrong with any request of this form, whatever it asks for.
    pub(super) fn check(&self) -> Result<(), Problem> {
        sound::check(self)
    }

    /// A header that may stand there once.
    pub(super) fn single(&self, name: &HeaderName) -> Result<Option<&str>, Problem> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Problem::malformed(format!("the header {name} stands there twice")));
        }
        let text = value.to_str();
        text.map(Some).map_err(|_| Problem::malformed(format!("the header {name} is not ASCII")))
    }

    /// The method; HEAD is GET, and hyper leaves the body out.
    pub(super) fn read_as(&self) -> Method {
        if self.method == Method::HEAD { Method::GET } else { self.method.clone() }
    }

    /// The token of `Authorization: Bearer`. Another scheme is none.
    pub(super) fn bearer(&self) -> Result<Option<&str>, Problem> {
        let given = self.single(&AUTHORIZATION)?.and_then(|given| given.split_once(' '));
        let bearer = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        Ok(bearer.map(|(_, token)| token.trim()))
    }

    /// A parameter of the query, as it stands there. Our values need no escapes.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let pairs = self.uri.query()?.split('&');
        pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
    }

    /// A number of the query within a range; `default` where it is not there.
    pub(super) fn number(
        &self,
        name: &str,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, Problem> {
        let Some(text) = self.query(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            Problem::malformed(format!("{name} must be a number from {from} to {to}"))
        })
    }

    /// The client's name for this request if it is one that cannot break a log line, else our own.
    pub(super) fn request_id(&self) -> HeaderValue {
        let given = self.headers.get(&REQUEST_ID).filter(|value| {
            (1..=limits::REQUEST_ID_BYTES_MAX).contains(&value.len())
                && value
                    .as_bytes()
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        });
        given.cloned().unwrap_or_else(fresh_request_id)
    }
}

/// Who buys, where whoever sends it is believed.
pub(super) const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
/// What makes a retry the same request.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// `X-Request-Id`, in and out.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

fn fresh_request_id() -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let random = fastrand::u64(..);
    let digits: [u8; 16] = std::array::from_fn(|i| HEX[((random >> (4 * i)) & 0xf) as usize]);
    HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("unnamed"))
}
