//! Headers that tell clients of their limits: draft-ietf-httpapi-ratelimit-headers-11 and the older
//! `X-RateLimit` family.
//!
//! A token bucket of `burst` tokens that is full again in `w` seconds is told as a quota of `burst` in `w`
//! seconds: whoever keeps to that is never refused. `t`, and the older `Reset`, are the seconds until
//! there is one token more.

use std::fmt::Display;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::admission::{HeaderStyle, Standing};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Tells where the client stands; `retry_after` is what it is told besides, if it is told to come back.
pub(super) fn tell(headers: &mut HeaderMap, standing: &Standing, retry_after: Option<u64>) {
    let Standing { limit, burst, window_seconds, remaining, .. } = *standing;
    let name = limit.policy();
    let reset = retry_after.unwrap_or(standing.more_in_seconds);
    let (draft, x) = match standing.headers {
        HeaderStyle::Draft11 => (true, false),
        HeaderStyle::X => (false, true),
        HeaderStyle::Both => (true, true),
        HeaderStyle::Off => (false, false),
    };
    let mut put = |name, value: &dyn Display| {
        // Numbers and our own names: always visible ASCII.
        if let Ok(value) = HeaderValue::from_maybe_shared(value.to_string()) {
            headers.insert(name, value);
        }
    };
    if draft {
        put(POLICY, &format_args!("\"{name}\";q={burst};w={window_seconds}"));
        put(STATE, &format_args!("\"{name}\";r={remaining};t={reset}"));
    }
    if x {
        put(X_LIMIT, &burst);
        put(X_REMAINING, &remaining);
        put(X_RESET, &reset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Limit;

    /// Proves that each style sends its own headers and no others, in the form that it promises.
    #[test]
    fn styles() {
        let told = |style| {
            let standing = Standing {
                limit: Limit::ReadsPerUser,
                burst: 10,
                window_seconds: 2,
                remaining: 3,
                more_in_seconds: 1,
                headers: style,
            };
            let mut headers = HeaderMap::new();
            tell(&mut headers, &standing, Some(7));
            let mut told: Vec<_> = headers
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            told.sort();
            told
        };
        let draft =
            [r#"ratelimit-policy: "user-reads";q=10;w=2"#, r#"ratelimit: "user-reads";r=3;t=7"#];
        let x = ["x-ratelimit-limit: 10", "x-ratelimit-remaining: 3", "x-ratelimit-reset: 7"];
        assert_eq!(told(HeaderStyle::Draft11), draft);
        assert_eq!(told(HeaderStyle::X), x);
        assert_eq!(told(HeaderStyle::Both), [&draft[..], &x[..]].concat());
        assert_eq!(told(HeaderStyle::Off), Vec::<String>::new());
    }
}
