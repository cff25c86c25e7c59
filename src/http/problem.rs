//! Every way in which a request is not served.
//!
//! Bodies are `application/problem+json` (RFC 9457). A cause never reaches the client: what is said
//! comes from here, and what went wrong inside is logged where it was handled.

mod shape;

use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use super::answer::{self, Answer};
use super::rate;
use crate::admission::{RateLimited, Standing};
use crate::carts::CartRefusal;
use crate::clock::Millis;
use crate::gate::Denied;
use crate::sale::{Fault, Refusal};
use crate::store::StoreError;
use crate::switches::Switch;

/// Why a request gets no other answer.
#[derive(Debug)]
pub enum Problem {
    /// It cannot be read; the sentence says where.
    Malformed(String),
    /// It is not sound HTTP, or could be read in two ways; the connection ends with it.
    Unsound(&'static str),
    /// Its body says in another way than by `Content-Length` how long it is.
    LengthRequired,
    /// It expects something that is not done here.
    ExpectationFailed,
    /// Nobody believable said who is calling.
    IdentityRequired,
    /// A token that is not believed. Told as [`Problem::IdentityRequired`], whatever is wrong with it.
    InvalidToken,
    /// The token is known, and not for this.
    Forbidden,
    /// There is no such thing, or not for this caller.
    NotFound,
    /// The path takes other methods.
    MethodNotAllowed {
        /// Those, for `Allow`.
        allow: &'static str,
    },
    /// The cart has another version than `If-Match` says.
    VersionMismatch {
        /// The one that it has.
        current: u64,
    },
    /// The cart has as many lines as it may.
    CartFull,
    /// Orders of a sale that still sells are not archived.
    SaleNotOver,
    /// A dead letter that was tried again still contradicts the books.
    StillDead {
        /// In the books' words.
        reason: String,
    },
    /// The body is larger than it may be.
    BodyTooLarge {
        /// Bytes.
        max: usize,
    },
    /// The target is longer than it may be.
    UriTooLong,
    /// The head has more headers than it may.
    TooManyHeaders,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// The sale file has faults: all of them.
    InvalidSale(Vec<Fault>),
    /// The gate said no.
    Denied(Denied),
    /// The books cannot be read or written now.
    StoreUnavailable(Option<StoreError>),
    /// The gateway is shutting down.
    Draining,
    /// An operator has switched it off.
    SwitchedOff(Switch),
}

impl Problem {
    /// It cannot be read. What the client wrote is shortened, and cannot break a log line.
    pub fn malformed(detail: impl AsRef<str>) -> Self {
        const SHOWN: usize = 200;
        let detail = detail.as_ref().chars().filter(|c| !c.is_control()).take(SHOWN);
        Problem::Malformed(detail.collect())
    }

    /// Whether ledger or books did not answer.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Problem::StoreUnavailable(_)
            | Problem::Denied(
                Denied::Overloaded
                | Denied::LedgerUnavailable
                | Denied::LedgerFenced
                | Denied::OutcomeUnknown,
            ) => true,
            Problem::Denied(Denied::Refused(_) | Denied::RateLimited(_))
            | Problem::Malformed(_)
            | Problem::Unsound(_)
            | Problem::LengthRequired
            | Problem::ExpectationFailed
            | Problem::IdentityRequired
            | Problem::InvalidToken
            | Problem::Forbidden
            | Problem::NotFound
            | Problem::MethodNotAllowed { .. }
            | Problem::VersionMismatch { .. }
            | Problem::CartFull
            | Problem::SaleNotOver
            | Problem::StillDead { .. }
            | Problem::BodyTooLarge { .. }
            | Problem::UriTooLong
            | Problem::TooManyHeaders
            | Problem::RequestTimeout
            | Problem::UnsupportedMediaType
            | Problem::InvalidSale(_)
            | Problem::Draining
            | Problem::SwitchedOff(_) => false,
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        Problem::Denied(denied)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Problem::Denied(Denied::Refused(refusal))
    }
}

impl From<RateLimited> for Problem {
    fn from(limited: RateLimited) -> Self {
        Problem::Denied(Denied::RateLimited(limited))
    }
}

impl From<CartRefusal> for Problem {
    fn from(refusal: CartRefusal) -> Self {
        match refusal {
            CartRefusal::VersionMismatch { current } => Problem::VersionMismatch { current },
            CartRefusal::TooManyLines => Problem::CartFull,
            CartRefusal::TooManyUnits => {
                Refusal::InvalidQuantity { max: crate::limits::CART_QUANTITY_MAX }.into()
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Overloaded => Problem::Denied(Denied::Overloaded),
            StoreError::Fenced(_)
            | StoreError::Leased
            | StoreError::Mended
            | StoreError::Rejected(_)
            | StoreError::Failed(_)
            | StoreError::NotReady(_) => Problem::StoreUnavailable(Some(error)),
        }
    }
}

impl Problem {
    /// Writes it down, once and with the request's id. What is a fault and no refusal is seen by default.
    pub(super) fn log(&self, request_id: &HeaderValue) {
        let request_id = request_id.to_str().unwrap_or_default();
        if let Problem::StoreUnavailable(Some(error)) = self {
            tracing::error!(%error, request_id, "the store failed a request");
        } else if let Problem::Denied(Denied::OutcomeUnknown) = self {
            tracing::warn!(request_id, "nobody knows what became of a request");
        } else {
            tracing::debug!(problem = ?self, request_id, "refused");
        }
    }

    /// The answer. `now` is for saying how long until a sale opens.
    pub(super) fn into_answer(self, now: Millis) -> Answer {
        let allow = if let Problem::MethodNotAllowed { allow } = self { Some(allow) } else { None };
        let standing = self.standing();
        let disbelieved = matches!(self, Problem::InvalidToken);
        let challenge = if disbelieved { r#"Bearer error="invalid_token""# } else { "Bearer" };
        // What is left of a body that was not read is not worth reading.
        let closes = matches!(
            self,
            Problem::BodyTooLarge { .. }
                | Problem::RequestTimeout
                | Problem::Draining
                | Problem::Unsound(_)
                | Problem::TooManyHeaders
                | Problem::LengthRequired
                | Problem::ExpectationFailed
        );
        let shape = self.shape(now);
        let status =
            StatusCode::from_u16(shape.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let media = HeaderValue::from_static("application/problem+json");
        let mut answer = answer::of(status, media, shape.to_json());
        let headers = answer.headers_mut();
        let retry = shape.retry.map(|(least, spread)| fastrand::u64(least..=least + spread));
        if let Some(seconds) = retry {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(standing) = standing {
            rate::tell(headers, &standing, retry);
        }
        if let Some(allow) = allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        answer
    }

    fn standing(&self) -> Option<Standing> {
        if let Problem::Denied(Denied::RateLimited(RateLimited(standing))) = self {
            return Some(*standing);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::sale::{ItemId, Refusal};

    /// Proves that a body is JSON whatever stands in it, with its own members beside those of RFC 9457.
    #[tokio::test]
    async fn bodies() {
        let item = ItemId::parse("sku-1").unwrap();
        for (problem, more) in [
            (Problem::malformed("a \"quoted\" word, a \\ and é"), vec![]),
            (Refusal::SoldOut { held: true }.into(), vec![]),
            (Refusal::UnknownItem(item).into(), vec![]),
            (
                Refusal::LimitReached { limit: 2, taken: 1 }.into(),
                vec![("limit", json!(2)), ("taken", json!(1))],
            ),
            (Refusal::SaleNotOpen { opens_at: None }.into(), vec![("opens_at", Value::Null)]),
        ] {
            let told = format!("{problem:?}");
            let answer = problem.into_answer(Millis(0));
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let Value::Object(mut body) = serde_json::from_slice(&body).unwrap() else {
                panic!("{told}: no object")
            };
            let code = body["code"].as_str().unwrap().to_owned();
            assert_eq!(body["type"], format!("https://floodgate.dev/problems/{code}"), "{told}");
            assert_eq!(body["status"], status, "{told}");
            for (name, value) in more {
                assert_eq!(body.remove(name).as_ref(), Some(&value), "{told}");
            }
            for name in ["type", "title", "status", "code", "detail"] {
                assert!(body.remove(name).is_some(), "{told}: {name}");
            }
            assert!(body.is_empty(), "{told}: {body:?}");
        }
        let answer = Problem::malformed("a \"quoted\" word").into_answer(Millis(0));
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["detail"], "a \"quoted\" word");
    }
}
