//! What a ledger is called: books keep the name of the ledger whose they are, and serve no other.

use std::fmt;
use std::path::{Path, PathBuf};

/// An embedded ledger with its books beside it, in the data dir.
pub const EMBEDDED: &str = "embedded";

/// The file in a data dir that has its id, where its books are elsewhere.
pub fn id_file(dir: &Path) -> PathBuf {
    dir.join("gateway.id")
}

/// An embedded ledger whose books are elsewhere, by the id of its data dir.
pub fn elsewhere(id: &str) -> String {
    format!("{EMBEDDED}, {id}")
}

/// A ledger in Redis. Any Redis of as many lanes has this name.
pub fn redis(lanes: u16) -> String {
    format!("{REDIS}, ledger.lanes={lanes}")
}

const REDIS: &str = "redis";

/// The books are another ledger's.
#[derive(Debug, thiserror::Error)]
pub struct Foreign {
    /// Whose they are.
    pub found: String,
    /// Who we are.
    pub own: String,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, own } = self;
        let advice = match (found.starts_with(REDIS), own.starts_with(REDIS)) {
            (true, false) => {
                "these belong to a ledger in Redis: name it (REDIS_URL, --redis-url), or name other \
                 books"
            }
            (false, true) => {
                "these belong to an embedded ledger: name its data dir and no Redis (REDIS_URL, \
                 --redis-url), or name other books"
            }
            (true, true) => {
                "set ledger.lanes as these were made with, or name the Redis of these books"
            }
            (false, false) => "name other books, or the data dir that these belong to",
        };
        write!(
            f,
            "these books were made with another ledger ({found}) than this one ({own}): each ledger \
             has books of its own; {advice}"
        )
    }
}
