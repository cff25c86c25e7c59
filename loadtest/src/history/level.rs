//! What a 201 promised: which faults the reservation survives.

use serde::{Deserialize, Serialize};

/// The contract's levels, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The death of a gateway.
    Memory,
    /// The death of the ledger's machine.
    Fsync,
    /// The loss of that machine.
    Replicated,
    /// Whatever the store survives.
    Stored,
}

impl Level {
    /// The level by the word of the contract.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "memory" => Some(Self::Memory),
            "fsync" => Some(Self::Fsync),
            "replicated" => Some(Self::Replicated),
            "stored" => Some(Self::Stored),
            _ => None,
        }
    }

    /// The word of the contract.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Fsync => "fsync",
            Self::Replicated => "replicated",
            Self::Stored => "stored",
        }
    }
}
