//! What a problem looks like on the wire: the one map from what went wrong to HTTP.

use std::borrow::Cow;
use std::io::Write;

use serde_json::{Value, json};

use super::Problem;
use crate::clock::Millis;
use crate::gate::Denied;
use crate::limits;
use crate::sale::Refusal;

/// What a problem looks like on the wire.
pub(super) struct Shape {
    pub status: u16,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    /// Seconds: the least, and how many more a client may be told at random, so that those who were
    /// refused together do not come back together.
    pub retry: Option<(u64, u64)>,
    /// Members of this problem alone.
    more: Vec<(&'static str, Value)>,
}

impl Shape {
    fn new(
        status: u16,
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, title, detail: detail.into(), retry: None, more: Vec::new() }
    }

    fn retry(mut self, least: u64, spread: u64) -> Self {
        self.retry = Some((least, spread));
        self
    }

    fn with(mut self, name: &'static str, value: Value) -> Self {
        self.more.push((name, value));
        self
    }

    /// As JSON (RFC 9457). Written out rather than built up: most people are told one.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let Self { status, code, title, detail, more, .. } = self;
        let mut json = Vec::with_capacity(384);
        // Writing to memory does not fail. Codes and titles are ours, and need no escapes.
        let _ = write!(
            json,
            r#"{{"type":"https://floodgate.dev/problems/{code}","title":"{title}","status":{status},"code":"{code}","detail":"#
        );
        let _ = serde_json::to_writer(&mut json, detail);
        for (name, value) in more {
            let _ = write!(json, r#","{name}":{value}"#);
        }
        json.push(b'}');
        json
    }
}

impl Problem {
    /// What it looks like on the wire. `now` is for saying how long until a sale opens.
    pub(super) fn shape(self, now: Millis) -> Shape {
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
                format!("a cart has at most {} lines", limits::CART_LINES_MAX),
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
                format!("a target has at most {} bytes", limits::URI_BYTES_MAX),
            ),
            Problem::TooManyHeaders => Shape::new(
                431,
                "too-many-headers",
                "Too many headers",
                format!("a request has at most {} headers", limits::HEADERS_MAX),
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
            Problem::StoreUnavailable(_) => Shape::new(
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
