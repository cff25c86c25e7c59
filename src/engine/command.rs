//! What can be asked of a lane.

use std::sync::Arc;

use crate::engine::Actor;
use crate::sale::{
    IdempotencyKey, ItemId, Move, PaymentRef, ReservationId, SaleDefinition, SaleId, UserId,
};

/// One atomic decision. Each is idempotent under its own identity, so that asking again after an
/// unknown outcome is always safe.
#[derive(Clone, Debug)]
pub enum Command {
    /// Take units, all lines or none.
    Reserve(Reserve),
    /// The payment arrived.
    Confirm {
        /// Which reservation.
        id: ReservationId,
        /// Which payment; repeating it is the same command.
        payment: PaymentRef,
    },
    /// Give the units back.
    Cancel {
        /// Which reservation.
        id: ReservationId,
        /// On whose word.
        by: Authority,
    },
    /// What became of a reservation. Changes nothing.
    Find {
        /// Which reservation.
        id: ReservationId,
        /// Whose it must be; anyone else is told that there is none.
        owner: Option<UserId>,
    },
    /// Make a sale known.
    CreateSale {
        /// Checked before it came here.
        definition: Arc<SaleDefinition>,
        /// On whose word.
        actor: Actor,
    },
    /// Open, pause, resume or close a sale.
    MoveSale {
        /// Which sale.
        sale: SaleId,
        /// What to do.
        step: Move,
        /// On whose word.
        actor: Actor,
    },
    /// Add units to an item, or take some out.
    Restock {
        /// Which sale.
        sale: SaleId,
        /// Which item.
        item: ItemId,
        /// Units, added or (negative) taken out.
        delta: i64,
        /// What makes asking again the same request: units are added once per key.
        key: IdempotencyKey,
        /// For the audit log.
        reason: Box<str>,
        /// On whose word.
        actor: Actor,
    },
    /// A sale with its counters. Changes nothing.
    Inspect {
        /// Which sale.
        sale: SaleId,
    },
    /// Return the units of holds that ran out.
    Sweep,
}

/// Units asked for by one user.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// Made by the gateway; derived from (user, sale, key) where a key was given.
    pub id: ReservationId,
    /// Where.
    pub sale: SaleId,
    /// For whom.
    pub user: UserId,
    /// At least one, each item at most once.
    pub lines: Box<[OrderedLine]>,
}

/// Units of one item that somebody asks for; the price is the ledger's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderedLine {
    /// The item.
    pub item: ItemId,
    /// Units, at least one.
    pub quantity: u32,
}

/// On whose word a reservation is cancelled.
#[derive(Clone, Debug)]
pub enum Authority {
    /// The buyer: their own, while it is held.
    Owner(UserId),
    /// An operator: held or confirmed ones.
    Operator {
        /// For the audit log.
        actor: Actor,
        /// Whether the units are for sale again; otherwise they leave the stock.
        restock: bool,
    },
}
