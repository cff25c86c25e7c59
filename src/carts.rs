//! A cart: a user's lines, what they put in themselves and what their reservations put in.

mod cache;

pub use cache::CartCache;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::clock::Millis;
use crate::limits;
use crate::sale::{ItemId, UserId};

/// A cart as the store has it. Its version rises with every change, whoever made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cart {
    /// 0 for a cart that never had a line.
    pub version: u64,
    /// By item; the user's own line before those of reservations.
    pub lines: Vec<CartLine>,
    /// Lines that left it lately because their hold ran out, newest first.
    pub gone: Vec<GoneLine>,
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

/// A line whose reservation expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneLine {
    /// The item.
    pub item: String,
    /// Units.
    pub quantity: u64,
    /// The reservation.
    pub reservation_id: String,
    /// When its hold ran out.
    pub at: Millis,
}

/// What a user does to their own lines. Lines of reservations stay: cancelling those is another matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CartChange {
    /// So many units of an item, whatever there were.
    Put {
        /// The item.
        item: ItemId,
        /// At least one.
        quantity: u32,
    },
    /// So many units of an item more.
    Add {
        /// The item.
        item: ItemId,
        /// At least one.
        quantity: u32,
    },
    /// No units of an item.
    Remove {
        /// The item.
        item: ItemId,
    },
    /// No lines.
    Clear,
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
    /// A line would have more units than it may.
    TooManyUnits,
}

/// What becomes of one of a user's own lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineWrite {
    /// It has so many units, and is made where it was not there.
    Set(String, u64),
    /// It goes.
    Remove(String),
}

impl Cart {
    /// The user's own units of an item.
    fn own(&self, item: &str) -> Option<u64> {
        self.own_lines().find(|line| line.item == item).map(|line| line.quantity)
    }

    fn own_lines(&self) -> impl Iterator<Item = &CartLine> {
        self.lines.iter().filter(|line| line.reservation_id.is_none())
    }

    /// What a change does to the lines of this cart; nothing where it is so already.
    ///
    /// # Errors
    /// [`CartRefusal`]: nothing is to be written then.
    pub fn plan(
        &self,
        expected: Option<u64>,
        change: &CartChange,
    ) -> Result<Vec<LineWrite>, CartRefusal> {
        self.check(expected)?;
        let set = |item: &ItemId, units| self.set(std::iter::once((item.as_str(), units)));
        match change {
            CartChange::Put { item, quantity } => set(item, u64::from(*quantity)),
            CartChange::Add { item, quantity } => {
                set(item, self.own(item.as_str()).unwrap_or(0) + u64::from(*quantity))
            }
            CartChange::Remove { item } => Ok(self.remove(|line| line.item == item.as_str())),
            CartChange::Clear => Ok(self.remove(|_| true)),
        }
    }

    fn remove(&self, which: impl Fn(&CartLine) -> bool) -> Vec<LineWrite> {
        let lines = self.own_lines().filter(|line| which(line));
        lines.map(|line| LineWrite::Remove(line.item.clone())).collect()
    }

    /// What a guest's own lines do to the lines of this cart: they are added up. A line that would have
    /// more units than it may has as many as it may.
    ///
    /// # Errors
    /// [`CartRefusal`]: nothing is to be written then.
    pub fn plan_merge(
        &self,
        expected: Option<u64>,
        guest: &Cart,
    ) -> Result<Vec<LineWrite>, CartRefusal> {
        self.check(expected)?;
        let most = u64::from(limits::CART_QUANTITY_MAX);
        self.set(guest.own_lines().map(|line| {
            let units = self.own(&line.item).unwrap_or(0).saturating_add(line.quantity);
            (line.item.as_str(), units.min(most))
        }))
    }

    fn check(&self, expected: Option<u64>) -> Result<(), CartRefusal> {
        match expected {
            Some(expected) if expected != self.version => {
                Err(CartRefusal::VersionMismatch { current: self.version })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn set<'w>(
        &self,
        wanted: impl Iterator<Item = (&'w str, u64)>,
    ) -> Result<Vec<LineWrite>, CartRefusal> {
        let mut lines = self.own_lines().count();
        let mut writes = Vec::new();
        for (item, units) in wanted {
            let there = self.own(item);
            if there == Some(units) {
                continue;
            }
            lines += usize::from(there.is_none());
            if lines > limits::CART_LINES_MAX {
                return Err(CartRefusal::TooManyLines);
            }
            if units > u64::from(limits::CART_QUANTITY_MAX) {
                return Err(CartRefusal::TooManyUnits);
            }
            writes.push(LineWrite::Set(item.to_owned(), units));
        }
        Ok(writes)
    }

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
        let gone = |gone: &GoneLine| {
            json!({
                "item_id": gone.item, "quantity": gone.quantity,
                "reservation_id": gone.reservation_id, "reason": "reservation-expired",
                "at": gone.at.to_string(),
            })
        };
        let lines = self.lines.iter().map(line).collect::<Value>();
        let mut cart = json!({ "version": self.version, "lines": lines });
        if !self.gone.is_empty() {
            cart["removed"] = self.gone.iter().map(gone).collect::<Value>();
        }
        cart
    }
}

/// A user's name in the cache of carts and in what gateways tell each other about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CartKey(pub u64);

impl CartKey {
    /// The same on every gateway. Two users may share one: whoever uses it compares the user as well.
    pub fn of(user: &UserId) -> Self {
        let digest = Sha256::digest(user.as_str());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[..8]);
        Self(u64::from_be_bytes(bytes))
    }
}
