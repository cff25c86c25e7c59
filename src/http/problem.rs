//! Every way in which a request is not served, and the one map from there to HTTP.
//!
//! Bodies are `application/problem+json` (RFC 9457). A cause never reaches the client: what is said
//! comes from here, and what went wrong inside is logged where it was handled.

use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::{Map, Value, json};

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
    /// The body did not arrive in time.
    RequestTimeout,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// The sale file has faults: all of them.
    InvalidSale(Vec<Fault>),
    /// The gate said no.
    Denied(Denied),
    /// The books cannot be read or written now.
    StoreUnavailable,
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
            Problem::StoreUnavailable
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
            | StoreError::Failed(_) => {
                tracing::error!(%error, "the store failed a request");
                Problem::StoreUnavailable
            }
        }
    }
}

/// What a problem looks like on the wire.
struct Shape {
    status: u16,
    code: &'static str,
    title: &'static str,
    detail: String,
    /// Seconds: the least, and how many more a client may be told at random, so that those who were
    /// refused together do not come back together.
    retry: Option<(u64, u64)>,
    more: Map<String, Value>,
}

impl Shape {
    fn new(
        status: u16,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, code, title, detail: detail.into(), retry: None, more: Map::new() }
    }

    fn retry(mut self, least: u64, spread: u64) -> Self {
        self.retry = Some((least, spread));
        self
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.more.insert(name.to_owned(), value);
        self
    }
}

impl Problem {
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
                | Problem::LengthRequired
                | Problem::ExpectationFailed
        );
        let Shape { status, code, title, detail, retry, more } = self.shape(now);
        let mut body = json!({
            "type": format!("https://floodgate.dev/problems/{code}"),
            "title": title,
            "status": status,
            "code": code,
            "detail": detail,
        });
        if let Some(body) = body.as_object_mut() {
            body.extend(more);
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let media = HeaderValue::from_static("application/problem+json");
        let mut answer = answer::of(status, media, body.to_string());
        let headers = answer.headers_mut();
        let retry = retry.map(|(least, spread)| fastrand::u64(least..=least + spread));
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

    fn shape(self, now: Millis) -> Shape {
        match self {
            Problem::Malformed(detail) => {
                Shape::new(400, "malformed-request", "The request cannot be read", detail)
            }
            Problem::Unsound(detail) => {
                Shape::new(400, "malformed-request", "The request cannot be read", detail)
            }
            Problem::LengthRequired => Shape::new(
                411,
                "length-required",
                "The body's length is required",
                "a body comes with Content-Length and without Transfer-Encoding",
            ),
            Problem::ExpectationFailed => Shape::new(
                417,
                "expectation-failed",
                "The expectation cannot be met",
                "Expect may ask for 100-continue only",
            ),
            Problem::IdentityRequired | Problem::InvalidToken => Shape::new(
                401,
                "identity-required",
                "Who is calling?",
                "the request does not say who is calling in a way that is believed here",
            ),
            Problem::Forbidden => Shape::new(
                403,
                "forbidden",
                "This token only reads",
                "the token is known, and its role does not allow changes",
            ),
            Problem::NotFound => {
                Shape::new(404, "not-found", "Not found", "there is no such thing")
            }
            Problem::MethodNotAllowed { allow } => Shape::new(
                405,
                "method-not-allowed",
                "Method not allowed",
                format!("this path takes {allow}"),
            ),
            Problem::VersionMismatch { current } => Shape::new(
                412,
                "version-mismatch",
                "The cart has changed",
                "If-Match names another version than the cart has",
            )
            .with("version", json!(current)),
            Problem::SaleNotOver => Shape::new(
                409,
                "sale-not-over",
                "The sale is not over",
                "orders are archived once their sale is closed",
            ),
            Problem::StillDead { reason } => {
                Shape::new(409, "still-dead", "The dead letter still contradicts the books", reason)
            }
            Problem::CartFull => Shape::new(
                422,
                "cart-full",
                "The cart is full",
                format!("a cart has at most {} lines", crate::limits::CART_LINES_MAX),
            ),
            Problem::BodyTooLarge { max } => Shape::new(
                413,
                "body-too-large",
                "The body is too large",
                format!("a body has at most {max} bytes"),
            ),
            Problem::UriTooLong => Shape::new(
                414,
                "uri-too-long",
                "The target is too long",
                format!("a target has at most {} bytes", crate::limits::URI_BYTES_MAX),
            ),
            Problem::RequestTimeout => Shape::new(
                408,
                "request-timeout",
                "The body did not arrive",
                "the body did not arrive in time",
            ),
            Problem::UnsupportedMediaType => Shape::new(
                415,
                "unsupported-media-type",
                "Unsupported media type",
                "the body must be application/json",
            ),
            Problem::InvalidSale(faults) => Shape::new(
                422,
                "invalid-sale",
                "The sale has faults",
                format!("{} faults; `errors` lists them all", faults.len()),
            )
            .with("errors", json!(faults)),
            Problem::Denied(denied) => denied_shape(denied, now),
            Problem::StoreUnavailable => Shape::new(
                503,
                "store-unavailable",
                "The books cannot be reached",
                "orders and carts cannot be read or written right now",
            )
            .retry(1, 4),
            Problem::Draining => Shape::new(
                503,
                "draining",
                "Shutting down",
                "this gateway is shutting down; ask another, or again in a moment",
            )
            .retry(1, 2),
            Problem::SwitchedOff(switch) => Shape::new(
                503,
                "switched-off",
                "Switched off for now",
                "an operator has switched this off on this gateway; nothing was done",
            )
            .retry(5, 10)
            .with("switch", json!(switch.as_str())),
        }
    }
}

fn denied_shape(denied: Denied, now: Millis) -> Shape {
    let code = denied.code();
    match denied {
        Denied::Refused(refusal) => refusal_shape(code, refusal, now),
        Denied::RateLimited(limited) => {
            let (least, spread) = limited.retry_seconds();
            Shape::new(
                429,
                code,
                "Too many requests",
                "this is asked for more often than is allowed; nothing was done",
            )
            .retry(least, spread)
            .with("scope", json!(limited.0.limit.scope()))
        }
        Denied::Overloaded => Shape::new(
            503,
            code,
            "Too busy",
            "more requests wait than can be served in time; nothing was done",
        )
        .retry(1, 3),
        Denied::LedgerUnavailable => Shape::new(
            503,
            code,
            "The ledger is unavailable",
            "stock cannot be taken right now; nothing was done",
        )
        .retry(1, 4),
        Denied::LedgerFenced => Shape::new(
            503,
            code,
            "The ledger is being recovered",
            "stock is compared with the books before any more is taken; nothing was done",
        )
        .retry(1, 2),
        Denied::OutcomeUnknown => Shape::new(
            503,
            code,
            "The outcome is unknown",
            "the request may or may not have taken effect; look, or ask again with the same Idempotency-Key",
        )
        .retry(1, 2),
    }
}

fn refusal_shape(code: &'static str, refusal: Refusal, now: Millis) -> Shape {
    match refusal {
        Refusal::KeyReused => Shape::new(
            422,
            code,
            "The Idempotency-Key was used for another request",
            "a key names one request; take a new key for a new one",
        ),
        Refusal::UnknownSale | Refusal::UnknownReservation => {
            Shape::new(404, code, "Not found", "there is no such thing")
        }
        Refusal::SaleNotOpen { opens_at } => {
            // A minute of patience at most: whoever was told longer could miss an opening by hand.
            const LONGEST: u64 = 60;
            let wait = opens_at.map_or(5, |at| at.since(now).as_secs() + 1).min(LONGEST);
            Shape::new(403, code, "The sale is not open yet", "units are taken from opens_at on")
                .retry(wait, 2)
                .with("opens_at", json!(opens_at.map(|at| at.to_string())))
        }
        Refusal::SalePaused => {
            Shape::new(409, code, "The sale is paused", "an operator has paused the sale")
                .retry(5, 10)
        }
        Refusal::SaleClosed => Shape::new(410, code, "The sale is over", "no more units are taken"),
        Refusal::UnknownItem(item) => {
            let detail = format!("the sale has no item {item}");
            Shape::new(422, code, "No such item", detail)
        }
        Refusal::InvalidQuantity { max } => Shape::new(
            422,
            code,
            "Not a quantity that can be asked for",
            format!("a quantity is a whole number from 1 to {max}"),
        )
        .with("max", json!(max)),
        Refusal::LimitReached { limit, taken } => Shape::new(
            409,
            code,
            "The limit per user is reached",
            format!("{taken} of {limit} units are taken already"),
        )
        .with("limit", json!(limit))
        .with("taken", json!(taken)),
        Refusal::SoldOut { held: true } => Shape::new(
            409,
            code,
            "Sold out",
            "there are not as many units left; some wait for their payment and may come back",
        )
        .retry(5, 10),
        Refusal::SoldOut { held: false } => {
            Shape::new(409, code, "Sold out", "there are not as many units left")
        }
        Refusal::ReservationConfirmed => {
            Shape::new(409, code, "The reservation is paid", "a payment has confirmed it already")
        }
        Refusal::ReservationExpired => Shape::new(
            409,
            code,
            "The reservation has expired",
            "its hold ran out and its units were returned",
        ),
        Refusal::ReservationCancelled => {
            Shape::new(409, code, "The reservation is cancelled", "its units were returned")
        }
        Refusal::SaleDiffers => Shape::new(
            409,
            code,
            "The sale exists and is another",
            "a sale of this id was created with another definition",
        ),
        Refusal::TooManySales => Shape::new(
            409,
            code,
            "Too many sales",
            "this ledger knows as many sales as it can; start a new data dir for new campaigns",
        ),
        Refusal::MoveRefused { state } => Shape::new(
            409,
            code,
            "That makes no sense now",
            format!("the sale is {}", state.as_str()),
        )
        .with("state", json!(state.as_str())),
        Refusal::StockTaken { available } => Shape::new(
            409,
            code,
            "The stock cannot change by so much",
            format!("{available} units are available; what is taken stays taken"),
        )
        .with("available", json!(available)),
    }
}
