//! Idempotency keys: what makes a retry the same request.

use super::problem::Problem;
use super::request::{Head, IDEMPOTENCY_KEY};
use crate::sale::IdempotencyKey;

/// The header of draft-ietf-httpapi-idempotency-key-header: a quoted string, or bare as most send it.
pub(super) fn of_header(head: &Head) -> Result<Option<IdempotencyKey>, Problem> {
    let Some(text) = head.single(&IDEMPOTENCY_KEY)? else { return Ok(None) };
    let text = text.trim();
    let Some(quoted) = text.strip_prefix('"') else {
        return parse("Idempotency-Key", text).map(Some);
    };
    let malformed = || Problem::malformed("Idempotency-Key is not a well-formed string");
    let quoted = quoted.strip_suffix('"').ok_or_else(malformed)?;
    let mut key = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        key.push(match character {
            // RFC 8941 §3.3.3: a backslash stands before a quote or a backslash, and nowhere else.
            '\\' => characters.next().filter(|c| matches!(c, '"' | '\\')).ok_or_else(malformed)?,
            '"' => return Err(malformed()),
            character => character,
        });
    }
    parse("Idempotency-Key", &key).map(Some)
}

pub(super) fn parse(field: &str, text: &str) -> Result<IdempotencyKey, Problem> {
    IdempotencyKey::parse(text).map_err(|invalid| Problem::malformed(format!("{field} {invalid}")))
}

/// A key that nobody else has.
pub(super) fn fresh() -> Result<IdempotencyKey, Problem> {
    parse("Idempotency-Key", &uuid::Uuid::new_v4().to_string())
}
