//! An order: a reservation as the shop's books know it.

use serde_json::{Value, json};

use crate::clock::Millis;
use crate::sale::{Line, ReservationId, SaleId};

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderStatus {
    /// Held: its payment is awaited.
    PendingPayment,
    /// Confirmed.
    Paid,
    /// Given back or refunded.
    Cancelled,
    /// Its hold ran out.
    Expired,
}

impl OrderStatus {
    /// The word on the wire and in the books.
    pub fn as_str(self) -> &'static str {
        match self {
            OrderStatus::PendingPayment => "pending_payment",
            OrderStatus::Paid => "paid",
            OrderStatus::Cancelled => "cancelled",
            OrderStatus::Expired => "expired",
        }
    }

    /// Reads the word of the books.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::PendingPayment, Self::Paid, Self::Cancelled, Self::Expired]
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

/// An order in the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The reservation's id.
    pub id: ReservationId,
    /// Where it was taken.
    pub sale: SaleId,
    /// Where it stands.
    pub status: OrderStatus,
    /// What was taken, at which price.
    pub lines: Vec<Line>,
    /// In minor units.
    pub total: u64,
    /// ISO 4217.
    pub currency: Box<str>,
    /// The reservation's `held_at`.
    pub created_at: Millis,
    /// When its hold runs out, or ran out.
    pub expires_at: Millis,
    /// Its last transition.
    pub updated_at: Millis,
    /// The payment that confirmed it.
    pub payment_ref: Option<String>,
}

impl Order {
    /// As the API shows it.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "sale_id": self.sale.as_str(),
            "status": self.status.as_str(),
            "lines": lines_json(&self.lines, &self.currency),
            "total": self.total,
            "currency": self.currency,
            "created_at": self.created_at.to_string(),
            "expires_at": self.expires_at.to_string(),
            "updated_at": self.updated_at.to_string(),
            "payment_ref": self.payment_ref,
        })
    }
}

/// Lines as every answer shows them.
pub fn lines_json(lines: &[Line], currency: &str) -> Value {
    let line = |line: &Line| {
        json!({
            "item_id": line.item.as_str(),
            "quantity": line.quantity,
            "unit_price": line.unit_price,
            "currency": currency,
        })
    };
    lines.iter().map(line).collect()
}

/// Where a page of a user's orders ends, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderMark {
    /// The last order's `created_at`.
    pub created_at: Millis,
    /// The last order.
    pub id: ReservationId,
}

impl OrderMark {
    /// Reads what [`OrderMark::to_token`] wrote.
    pub fn parse(token: &str) -> Option<Self> {
        let (at, id) = token.split_once('.')?;
        Some(Self { created_at: Millis(at.parse().ok()?), id: ReservationId::parse(id)? })
    }

    /// The token that asks for the next page.
    pub fn to_token(self) -> String {
        format!("{}.{}", self.created_at.0, self.id)
    }
}
