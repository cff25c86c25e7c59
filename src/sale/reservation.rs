//! A reservation: what one user took, and what became of it.

use serde::{Deserialize, Serialize};

use super::{ItemId, PaymentRef, ReservationId, SaleId, UserId};
use crate::clock::Millis;

/// Where a reservation stands. The one transition table:
///
/// ```text
/// held ──confirm──> confirmed ──cancel (refund)──> cancelled
///  ├────cancel────> cancelled
///  └────expire────> expired ──confirm (rebooked: units are taken anew)──> confirmed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waiting for its payment until `expires_at`.
    Held,
    /// Paid.
    Confirmed,
    /// Given back by its owner or an operator, or refunded.
    Cancelled,
    /// The hold ran out.
    Expired,
}

impl Status {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Held => "held",
            Status::Confirmed => "confirmed",
            Status::Cancelled => "cancelled",
            Status::Expired => "expired",
        }
    }

    /// Whether the reservation's units are its own (and count against its user's limit).
    pub fn has_units(self) -> bool {
        match self {
            Status::Held | Status::Confirmed => true,
            Status::Cancelled | Status::Expired => false,
        }
    }
}

/// Some units of one item, at the price that the ledger saw when it gave them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The item.
    pub item: ItemId,
    /// Units, at least one.
    pub quantity: u32,
    /// Price of one unit, in minor units.
    pub unit_price: u64,
}

/// The whole record, as the ledger keeps it and the outbox carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Also the order's id.
    pub id: ReservationId,
    /// Where it was taken.
    pub sale: SaleId,
    /// Who took it.
    pub user: UserId,
    /// All or nothing; each item at most once, in the order of the request.
    pub lines: Box<[Line]>,
    /// ISO 4217, one for all lines.
    pub currency: Box<str>,
    /// Where it stands.
    pub status: Status,
    /// 1 when held; one more with every transition.
    pub version: u32,
    /// When it was taken, by the ledger's clock.
    pub held_at: Millis,
    /// When the hold runs out, by the ledger's clock.
    pub expires_at: Millis,
    /// The payment that confirmed it.
    pub payment: Option<PaymentRef>,
    /// Payments that came when the units were gone, each to be refunded.
    pub late_payments: Vec<PaymentRef>,
}

impl Line {
    /// What lines cost together, in minor units. The bounds of `limits.rs` keep it in range.
    pub fn total(lines: &[Self]) -> u64 {
        lines.iter().map(|line| u64::from(line.quantity).saturating_mul(line.unit_price)).sum()
    }
}

impl Reservation {
    /// What all lines cost together, in minor units.
    pub fn total(&self) -> u64 {
        Line::total(&self.lines)
    }
}
