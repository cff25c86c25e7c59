//! A cart: a user's lines, what they put in themselves and what their reservations put in.

use serde_json::{Value, json};

use crate::sale::ItemId;

/// A cart as the store has it. Its version rises with every change, whoever made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cart {
    /// 0 for a cart that never had a line.
    pub version: u64,
    /// By item; the user's own line before those of reservations.
    pub lines: Vec<CartLine>,
}

/// Some units of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CartLine {
    /// The item.
    pub item: String,
    /// Units.
    pub quantity: u64,
    /// The reservation that put it there; `None`: the user.
    pub reservation_id: Option<String>,
}

impl Cart {
    /// As the API shows it.
    pub fn to_json(&self) -> Value {
        let line = |line: &CartLine| match &line.reservation_id {
            None => json!({
                "item_id": line.item, "quantity": line.quantity, "source": "user",
            }),
            Some(id) => json!({
                "item_id": line.item, "quantity": line.quantity, "source": "reservation",
                "reservation_id": id,
            }),
        };
        json!({ "version": self.version, "lines": self.lines.iter().map(line).collect::<Value>() })
    }
}

/// What a user does to their own lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CartChange {
    /// So many units of an item, whatever there were.
    Put {
        /// The item.
        item: ItemId,
        /// At least one.
        quantity: u32,
    },
    /// No units of an item. Lines of reservations stay: cancelling those is another matter.
    Remove {
        /// The item.
        item: ItemId,
    },
}

/// Why a cart was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CartRefusal {
    /// It has another version than the one that the change was made for.
    VersionMismatch {
        /// The one that it has.
        current: u64,
    },
    /// It has as many lines as it may.
    TooManyLines,
}
