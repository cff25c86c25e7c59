//! The refusal codes of the contract, and which of them say nothing about the key.

use super::entry::Code;

/// The request never left the client. Not the server's word, but as definite a no as any.
pub const NOT_SENT: &str = "not-sent";

const CODES: [&str; 33] = [
    NOT_SENT,
    "malformed-request",
    "identity-required",
    "sale-not-open",
    "pass-required",
    "pass-invalid",
    "not-found",
    "method-not-allowed",
    "version-mismatch",
    "body-too-large",
    "unsupported-media-type",
    "sold-out",
    "limit-reached",
    "sale-paused",
    "reservation-confirmed",
    "reservation-expired",
    "reservation-cancelled",
    "sale-closed",
    "invalid-quantity",
    "unknown-item",
    "idempotency-key-reused",
    "rate-limited",
    "overloaded",
    "ledger-unavailable",
    "ledger-fenced",
    "outcome-unknown",
    "draining",
    "disconnected",
    "deadline",
    "unreadable-answer",
    "wrong-answer",
    "unknown",
    "unauthorized",
];

/// The code as a shared text: no allocation for those of the contract.
#[must_use]
pub fn known(code: &str) -> Code {
    match CODES.iter().find(|known| **known == code) {
        Some(known) => Code::Borrowed(known),
        None => Code::Owned(code.to_owned()),
    }
}

/// Whether a refusal was decided before the ledger looked at the key: it is a definite no to
/// *this* request, but says nothing about an earlier one with the same key.
#[must_use]
pub fn is_transient(code: &str) -> bool {
    matches!(
        code,
        NOT_SENT
            | "rate-limited"
            | "overloaded"
            | "ledger-unavailable"
            | "ledger-fenced"
            | "draining"
            | "sale-paused"
            | "sale-not-open"
    )
}
