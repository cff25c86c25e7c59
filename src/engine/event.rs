//! What happened: the only thing that changes a lane's state, and what the outbox carries.
//!
//! Events are self-sufficient: whoever digests one needs no other to know whose units moved where.
//! The encoding is by position (postcard): variants and fields are only ever added at the end, and
//! the record's format number is raised with them.

use serde::{Deserialize, Serialize};

use crate::sale::{
    IdempotencyKey, ItemId, Line, Move, PaymentRef, Reservation, ReservationId, SaleDefinition,
    SaleId, UserId, Window,
};

/// Who did it, for the audit log.
pub type Actor = Box<str>;

/// One step of one lane. The instant is the outbox record's, one for all its events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A sale became known.
    SaleCreated {
        /// The whole of it.
        definition: SaleDefinition,
        /// On whose word.
        actor: Actor,
    },
    /// A sale was opened, paused, resumed or closed.
    SaleMoved {
        /// Which.
        sale: SaleId,
        /// How.
        step: Move,
        /// Its window before.
        before: Window,
        /// Its window since.
        after: Window,
        /// On whose word.
        actor: Actor,
    },
    /// Units were added to an item or taken out.
    Restocked {
        /// Where.
        sale: SaleId,
        /// Which.
        item: ItemId,
        /// How many.
        delta: i64,
        /// Its stock before.
        before: u64,
        /// What makes asking again the same request.
        key: IdempotencyKey,
        /// Why.
        reason: Box<str>,
        /// On whose word.
        actor: Actor,
    },
    /// Units were taken.
    Held(Reservation),
    /// A held reservation was paid.
    Confirmed {
        /// Which.
        id: ReservationId,
        /// Whose.
        user: UserId,
        /// Its version since.
        version: u32,
        /// By which payment.
        payment: PaymentRef,
    },
    /// A held or confirmed reservation was cancelled.
    Cancelled {
        /// The reservation's units, and whose they were.
        returned: Return,
        /// Whether they are for sale again; otherwise they left the stock.
        restock: bool,
        /// An operator, or `None`: its owner.
        actor: Option<Actor>,
    },
    /// A hold ran out.
    Expired(Return),
    /// The payment came late, and the units were still there: they were taken anew.
    Rebooked {
        /// The reservation's units, and whose they are again.
        taken: Return,
        /// By which payment.
        payment: PaymentRef,
    },
    /// The payment came late, and the units were gone: the money has to go back.
    RefundNeeded {
        /// Which reservation.
        id: ReservationId,
        /// Where.
        sale: SaleId,
        /// Whose.
        user: UserId,
        /// Which payment.
        payment: PaymentRef,
        /// How much, in minor units: the reservation's total.
        amount: u64,
        /// ISO 4217.
        currency: Box<str>,
    },
}

/// A reservation whose units change hands, with all that its followers need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// Which reservation.
    pub id: ReservationId,
    /// Where.
    pub sale: SaleId,
    /// Whose.
    pub user: UserId,
    /// Which units.
    pub lines: Box<[Line]>,
    /// Its version since.
    pub version: u32,
}

impl Return {
    /// The units of `reservation`, whose next version this makes.
    pub fn of(reservation: &Reservation) -> Self {
        Self {
            id: reservation.id,
            sale: reservation.sale.clone(),
            user: reservation.user.clone(),
            lines: reservation.lines.clone(),
            version: reservation.version.saturating_add(1),
        }
    }
}
