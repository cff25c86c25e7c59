//! Identifiers: parsed at the edge, compared and hashed everywhere else.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits;

/// Why a text is not an identifier. The message names the rule, never the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing there.
    #[error("must not be empty")]
    Empty,
    /// More bytes than the kind allows.
    #[error("must be at most {0} bytes long")]
    TooLong(usize),
    /// A byte that the kind does not allow.
    #[error("must be of {0}")]
    Alphabet(&'static str),
}

/// Declares a text identifier: an immutable shared string that passed `check`.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, max $max:expr, alphabet $alphabet:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "Box<str>", into = "Box<str>")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks length and alphabet.
            ///
            /// # Errors
            /// [`InvalidId`] names the rule that `text` breaks.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                check(text, $max, $alphabet, $allowed)?;
                Ok(Self(Arc::from(text)))
            }

            /// The identifier as it came.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<Box<str>> for $name {
            type Error = InvalidId;
            fn try_from(text: Box<str>) -> Result<Self, InvalidId> {
                check(&text, $max, $alphabet, $allowed)?;
                Ok(Self(Arc::from(text)))
            }
        }

        impl From<$name> for Box<str> {
            fn from(id: $name) -> Self {
                Box::from(id.as_str())
            }
        }
    };
}

text_id!(
    /// A sale: 1-64 of `A-Z a-z 0-9 . _ -`, so that it stands in a path and in a key as it is. Not `.`
    /// and `..`, which are no names in a path.
    SaleId, max limits::ID_BYTES_MAX, alphabet "letters, digits, '.', '_' and '-'", is_slug
);
text_id!(
    /// An item (SKU) of a sale: same alphabet as a sale's id.
    ItemId, max limits::ID_BYTES_MAX, alphabet "letters, digits, '.', '_' and '-'", is_slug
);
text_id!(
    /// A buyer: 1-128 visible ASCII bytes.
    UserId, max limits::USER_ID_BYTES_MAX, alphabet "visible ASCII characters", is_visible
);
text_id!(
    /// What makes a retry the same request: 1-255 visible ASCII bytes.
    IdempotencyKey, max limits::IDEMPOTENCY_KEY_BYTES_MAX, alphabet "visible ASCII characters", is_visible
);
text_id!(
    /// The payment provider's name for a payment: 1-255 visible ASCII bytes.
    PaymentRef, max limits::PAYMENT_REF_BYTES_MAX, alphabet "visible ASCII characters", is_visible
);

fn check(
    text: &str,
    bytes_max: usize,
    alphabet: &'static str,
    allowed: fn(&str) -> bool,
) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > bytes_max {
        return Err(InvalidId::TooLong(bytes_max));
    }
    if !allowed(text) {
        return Err(InvalidId::Alphabet(alphabet));
    }
    Ok(())
}

fn is_slug(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !matches!(text, "." | "..") && text.bytes().all(allowed)
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The unit of atomicity, ordering and parallelism: every sale lives in one lane.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LaneId(pub u16);

impl LaneId {
    /// The lane of a sale, among `lanes` of them. Stable over restarts and gateways.
    pub fn of_sale(sale: &str, lanes: u16) -> LaneId {
        let hash = crc32fast::hash(sale.as_bytes());
        // Safe: the remainder of a division by a u16 fits a u16.
        LaneId((hash % u32::from(lanes.max(1))) as u16)
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A reservation, and the order that it becomes: a UUID (RFC 9562, version 8).
///
/// The first two bytes name the lane, so that whoever holds the id finds the ledger's part without a
/// look-up. With an idempotency key the rest is a digest of (user, sale, key): the retry of a request
/// whose answer was lost finds its own reservation. Without one it is random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReservationId([u8; 16]);

impl ReservationId {
    /// The id that every request with this user, sale and key has. Costs one SHA-256 block or two.
    pub fn derived(lane: LaneId, user: &UserId, sale: &SaleId, key: &IdempotencyKey) -> Self {
        let mut digest = Sha256::new();
        for part in [user.as_str(), sale.as_str(), key.as_str()] {
            // Lengths keep ("ab", "c") and ("a", "bc") apart; each fits a byte by its own bound.
            digest.update([part.len() as u8]);
            digest.update(part.as_bytes());
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.finalize()[..16]);
        Self::stamped(lane, bytes)
    }

    /// A new id that nobody can guess.
    pub fn random(lane: LaneId) -> Self {
        Self::stamped(lane, uuid::Uuid::new_v4().into_bytes())
    }

    fn stamped(lane: LaneId, mut bytes: [u8; 16]) -> Self {
        bytes[..2].copy_from_slice(&lane.0.to_be_bytes());
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// Reads the canonical text form. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 36 {
            return None;
        }
        uuid::Uuid::try_parse(text).ok().map(|uuid| Self(uuid.into_bytes()))
    }

    /// The id as it is kept where every byte counts.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// An id from its bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The lane that this reservation was taken in.
    pub fn lane(&self) -> LaneId {
        LaneId(u16::from_be_bytes([self.0[0], self.0[1]]))
    }

    /// The digest as four numbers, for filters that need several independent hashes.
    pub fn hashes(&self) -> [u32; 4] {
        // Bytes 0, 1, 6 and 8 carry lane and version: mix them away with their neighbours.
        let word =
            |i: usize| u32::from_le_bytes([self.0[i], self.0[i + 1], self.0[i + 2], self.0[i + 3]]);
        let (a, b, c, d) = (word(2), word(4), word(9), word(12));
        [a ^ c.rotate_left(7), b ^ d.rotate_left(13), c ^ a.rotate_left(3), d ^ b.rotate_left(19)]
    }
}

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; 36];
        f.write_str(uuid::Uuid::from_bytes(self.0).hyphenated().encode_lower(&mut buffer))
    }
}

impl fmt::Debug for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids hold what they promise: alphabets, lengths, and nothing that could break a log or a path.
    #[test]
    fn alphabets_and_lengths() {
        assert!(SaleId::parse("black-friday_2026.1").is_ok());
        assert_eq!(SaleId::parse(""), Err(InvalidId::Empty));
        assert!(matches!(SaleId::parse("a/b"), Err(InvalidId::Alphabet(_))));
        assert!(matches!(SaleId::parse(".."), Err(InvalidId::Alphabet(_))));
        assert!(matches!(SaleId::parse("a\u{0}b"), Err(InvalidId::Alphabet(_))));
        assert_eq!(SaleId::parse(&"a".repeat(65)), Err(InvalidId::TooLong(64)));
        assert!(UserId::parse(&"u".repeat(128)).is_ok());
        assert!(matches!(UserId::parse("a b"), Err(InvalidId::Alphabet(_))));
        assert!(matches!(UserId::parse("é"), Err(InvalidId::Alphabet(_))));
    }

    /// The same request has the same id; any other user, sale or key has another; the lane is in it.
    #[test]
    fn derived_ids() {
        let (user, sale) = (UserId::parse("u1").unwrap(), SaleId::parse("s1").unwrap());
        let key = |text| IdempotencyKey::parse(text).unwrap();
        let id = ReservationId::derived(LaneId(7), &user, &sale, &key("k1"));
        assert_eq!(id, ReservationId::derived(LaneId(7), &user, &sale, &key("k1")));
        assert_ne!(id, ReservationId::derived(LaneId(7), &user, &sale, &key("k2")));
        let shifted = ReservationId::derived(
            LaneId(7),
            &UserId::parse("u1s").unwrap(),
            &SaleId::parse("1").unwrap(),
            &key("k1"),
        );
        assert_ne!(id, shifted, "lengths separate the parts");
        assert_eq!(id.lane(), LaneId(7));
        assert_eq!(ReservationId::parse(&id.to_string()), Some(id));
        assert_eq!(ReservationId::parse("nonsense"), None);
    }
}
