//! The audit log's chain: what makes an entry that was changed, removed or slipped in show.
//!
//! Each entry carries a hash over itself and the hash of the entry before it. Whoever changes a row has to
//! write every row behind it anew, and then the hash at the end is another one, which has been told to the
//! log of the gateway and to whoever asked. Every lane has a chain of its own, and what was done to the books
//! themselves (lane -1) has one: the transaction that adds an entry is alone at its chain.
//!
//! Entries from before the chain was there have no link. They stand in front of it: the first link is over all
//! of them.

use std::fmt;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Note;
use crate::clock::Millis;

/// Begins every hash: what is hashed is an entry in this form, and nothing else.
const FORM: &[u8] = b"floodgate audit log 1";

/// Where the log keeps what was not done to a lane's sales, but to the books themselves.
pub const NO_LANE: i32 = -1;

/// A hash of the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// As it stands in a column. Something else than a hash is taken for none: the chain goes on, and the audit
    /// says where it broke.
    pub fn read(bytes: &[u8]) -> Self {
        Self(bytes.try_into().unwrap_or_default())
    }

    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// For a column.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// In hexadecimal.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What is hashed of an entry: every column as it is stored.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "columns of the books")]
pub struct Entry<'e> {
    pub lane: i64,
    pub seq: i64,
    /// In milliseconds since the Unix epoch.
    pub at: i64,
    pub actor: &'e str,
    pub action: &'e str,
    pub sale: &'e str,
    pub subject: Option<&'e str>,
    pub before: Option<&'e str>,
    pub after: Option<&'e str>,
    pub reason: Option<&'e str>,
}

impl<'e> Entry<'e> {
    /// What no lane tells of; its documents as they stand in the log.
    pub fn of_books(
        seq: i64,
        at: i64,
        note: &'e Note,
        before: &'e str,
        after: Option<&'e str>,
    ) -> Self {
        Self {
            lane: NO_LANE.into(),
            seq,
            at,
            actor: &note.actor,
            action: note.action,
            sale: "",
            subject: Some(&note.subject),
            before: Some(before),
            after,
            reason: note.reason.as_deref(),
        }
    }

    /// The hash of the entry as a link behind `previous`.
    pub fn hash(&self, link: i64, previous: Hash) -> Hash {
        let Self { lane, seq, at, actor, action, sale, subject, before, after, reason } = self;
        let mut hasher = Sha256::new();
        hasher.update(FORM);
        hasher.update(previous.0);
        for number in [lane, &link, seq, at] {
            hasher.update(number.to_be_bytes());
        }
        let texts = [Some(*actor), Some(*action), Some(*sale), *subject, *before, *after, *reason];
        for text in texts {
            // Lengths separate the texts, and tell an empty one from none.
            hasher.update([u8::from(text.is_some())]);
            let text = text.unwrap_or_default();
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text);
        }
        Hash(hasher.finalize().into())
    }
}

/// An entry as its row has it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "columns of the books")]
pub struct LogRow {
    pub lane: i64,
    pub seq: i64,
    pub at: i64,
    pub actor: String,
    pub action: String,
    pub sale: String,
    pub subject: Option<String>,
    pub before: Option<String>,
    pub after: Option<String>,
    pub reason: Option<String>,
    /// Where it stands in the chain of its lane, from one; none: in front of it.
    pub link: Option<i64>,
    pub previous: Hash,
    pub hash: Hash,
}

impl LogRow {
    /// What is hashed of it.
    pub fn entry(&self) -> Entry<'_> {
        Entry {
            lane: self.lane,
            seq: self.seq,
            at: self.at,
            actor: &self.actor,
            action: &self.action,
            sale: &self.sale,
            subject: self.subject.as_deref(),
            before: self.before.as_deref(),
            after: self.after.as_deref(),
            reason: self.reason.as_deref(),
        }
    }
}

impl LogRow {
    /// As operators see it.
    pub fn to_json(&self) -> Value {
        let document = |text: &Option<String>| {
            let value = text.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
            value.unwrap_or(Value::Null)
        };
        // What stands in front of the chain has no hash of its own.
        let hash = |hash: Hash| self.link.map(|_| hash.to_string());
        json!({
            "at": Millis(u64::try_from(self.at).unwrap_or(0)).to_string(),
            "actor": self.actor,
            "action": self.action,
            "sale_id": Some(&self.sale).filter(|sale| !sale.is_empty()),
            "subject": self.subject,
            "before": document(&self.before),
            "after": document(&self.after),
            "reason": self.reason,
            "lane": self.lane,
            "seq": self.seq,
            "link": self.link,
            "previous_hash": hash(self.previous),
            "hash": hash(self.hash),
        })
    }
}

/// Where a chain ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tip {
    /// How many links it has.
    pub link: i64,
    /// The hash of the last; what stands in front of the first, where there is none.
    pub hash: Hash,
}

/// A link that is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Its number.
    pub number: i64,
    /// The hash before it.
    pub previous: Hash,
    /// Its own.
    pub hash: Hash,
}

impl Tip {
    /// Takes an entry from before the chain.
    pub fn found(&mut self, entry: &Entry<'_>) {
        self.hash = entry.hash(0, self.hash);
    }

    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry<'_>) -> Link {
        let (number, previous) = (self.link.saturating_add(1), self.hash);
        let hash = entry.hash(number, previous);
        *self = Self { link: number, hash };
        Link { number, previous, hash }
    }

    /// Says where the chain of a lane ends now, out of reach of whoever can write to the books: only so does it
    /// show when its end is cut off. To be called once the transaction is committed.
    pub fn tell(&self, lane: i64) {
        tracing::info!(lane, link = self.link, hash = %self.hash, "the audit log has grown");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Entry<'static> = Entry {
        lane: 0,
        seq: 1,
        at: 2,
        actor: "admin",
        action: "restock",
        sale: "sale",
        subject: Some("item"),
        before: Some("1"),
        after: Some("2"),
        reason: None,
    };

    /// Proves that each part of an entry counts, and that parts do not run into each other.
    #[test]
    fn every_part_counts() {
        let before = Hash::default();
        let mut hashes = vec![
            ENTRY.hash(1, before),
            ENTRY.hash(2, before),
            ENTRY.hash(1, ENTRY.hash(1, before)),
            Entry { lane: 1, ..ENTRY }.hash(1, before),
            Entry { seq: 2, ..ENTRY }.hash(1, before),
            Entry { at: 3, ..ENTRY }.hash(1, before),
            Entry { actor: "admi", action: "nrestock", ..ENTRY }.hash(1, before),
            Entry { sale: "", ..ENTRY }.hash(1, before),
            Entry { subject: None, ..ENTRY }.hash(1, before),
            Entry { before: Some("2"), after: Some("1"), ..ENTRY }.hash(1, before),
            Entry { reason: Some(""), ..ENTRY }.hash(1, before),
        ];
        let all = hashes.len();
        hashes.sort_by_key(|hash| hash.0);
        hashes.dedup();
        assert_eq!(hashes.len(), all);
    }

    /// Proves that hashes are read as they are written, and nothing else is.
    #[test]
    fn hashes_are_read() {
        let hash = ENTRY.hash(1, Hash::default());
        assert_eq!(Hash::parse(&hash.to_string()), Some(hash));
        assert_eq!(Hash::read(hash.bytes()), hash);
        assert_eq!(Hash::read(b"short"), Hash::default());
        for wrong in ["", "00", &"g".repeat(64), &"é".repeat(32), &"+1".repeat(32)] {
            assert_eq!(Hash::parse(wrong), None, "{wrong}");
        }
    }
}
