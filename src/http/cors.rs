//! Which web pages may call the public API from a browser. None, unless the configuration says so.
//!
//! Browsers send no cookies and no stored credentials along: `Access-Control-Allow-Credentials` is
//! never given. What a page knows (a token, an idempotency key) it sends as a header of its own.

use http_body_util::Full;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, Response, StatusCode, Uri};

use super::answer::Answer;
use super::request::Head;

/// What preflights are told: the methods of the public API.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");
/// The headers that a page may send.
const SENT: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, if-match, if-none-match, traceparent, x-request-id, x-user-id",
);
/// The headers that a page may see beside those that it always may.
const SEEN: HeaderValue = HeaderValue::from_static(
    "etag, idempotent-replayed, location, ratelimit, ratelimit-policy, retry-after, x-request-id",
);
/// Seconds for which a browser may remember a preflight.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

/// The pages that may call.
#[derive(Debug)]
pub(super) enum Cors {
    /// None: nothing is said.
    Off,
    /// All.
    Anyone,
    /// Those of these origins, as browsers write them.
    Origins(Vec<HeaderValue>),
}

impl Cors {
    /// Of a configuration: `*`, or origins such as `https://shop.example`.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub(super) fn of(origins: &[String]) -> Result<Self, String> {
        if origins.is_empty() {
            return Ok(Cors::Off);
        }
        if origins.iter().any(|origin| origin == "*") {
            return match origins.len() {
                1 => Ok(Cors::Anyone),
                _ => Err("`*` stands alone".to_owned()),
            };
        }
        let parse = |origin: &String| {
            let fault = || format!("{origin:?} is not an origin such as \"https://shop.example\"");
            let uri: Uri = origin.parse().map_err(|_| fault())?;
            let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
                return Err(fault());
            };
            // Browsers write it in lower case, without a path, and compare byte by byte.
            let written = format!("{scheme}://{authority}").to_ascii_lowercase();
            if *origin != written || !matches!(scheme, "http" | "https") || written.contains('@') {
                return Err(fault());
            }
            HeaderValue::from_str(origin).map_err(|_| fault())
        };
        origins.iter().map(parse).collect::<Result<_, _>>().map(Cors::Origins)
    }

    /// What the page that asks is told to be; `None` where it is told nothing.
    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        let origin = origin?;
        match self {
            Cors::Off => None,
            Cors::Anyone => Some(HeaderValue::from_static("*")),
            Cors::Origins(origins) => origins.iter().find(|known| *known == origin).cloned(),
        }
    }

    /// Answers a browser that asks whether a page may ask. `None` for anything else.
    pub(super) fn preflight(&self, head: &Head) -> Option<Answer> {
        if head.method != Method::OPTIONS || matches!(self, Cors::Off) {
            return None;
        }
        let origin = head.headers.get(ORIGIN);
        let asks = origin.is_some() && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        asks.then(|| {
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = StatusCode::NO_CONTENT;
            if self.allowed(origin).is_some() {
                let headers = answer.headers_mut();
                headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, SENT);
                headers.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED);
            }
            answer
        })
    }

    /// Says on an answer whether the page that sent `origin` may read it.
    pub(super) fn label(&self, origin: Option<&HeaderValue>, answer: &mut Answer) {
        if matches!(self, Cors::Off) {
            return;
        }
        let headers = answer.headers_mut();
        // A cache must not give one page's answer to another, not even the lack of one.
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Some(allowed) = self.allowed(origin) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, SEEN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that origins are taken as browsers write them, and nothing else is.
    #[test]
    fn origins() {
        let of = |origins: &[&str]| {
            Cors::of(&origins.iter().map(|&origin| origin.to_owned()).collect::<Vec<_>>())
        };
        assert!(matches!(of(&[]), Ok(Cors::Off)));
        assert!(matches!(of(&["*"]), Ok(Cors::Anyone)));
        let shop = of(&["https://shop.example", "http://localhost:3000"]).unwrap();
        let allowed = |origin: &'static str| shop.allowed(Some(&HeaderValue::from_static(origin)));
        assert_eq!(allowed("https://shop.example").unwrap(), "https://shop.example");
        for other in ["http://shop.example", "https://shop.example.evil", "null", ""] {
            assert_eq!(allowed(other), None, "{other}");
        }
        for bad in [
            "shop.example",
            "https://shop.example/",
            "https://Shop.example",
            "ftp://shop.example",
            "https://a@shop.example",
            "https://shop.example/page",
            "null",
            "",
        ] {
            assert!(of(&[bad]).is_err(), "{bad}");
        }
        assert!(of(&["*", "https://shop.example"]).is_err());
    }
}
